"""A DNS proxy for a whole host of a Lab: every program's questions, whomever they address, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.support.encrypted_dns import Certificates, unbound, use_resolver
from tests.support.filters import Author, said
from tests.support.host_filters import HostFilterProcess, on_node, until
from tests.support.peers import need

from towpath.testing import Lab, LabPlan

ADDRESS = "198.51.100.53"
PROGRAM = str(Path(__file__).parents[1] / "support" / "host_dns_program.py")
MINE = """
def start(self):
    say(system=self.system_dns_settings.servers)

def handle_query(self, query):
    say(name=query.name, program=query.owner and query.owner.program, scope=query.scope)
    return Answer(("192.0.2.99",), ttl=1) if "own." in query.name else Forward()

def system_dns_settings_changed(self):
    say(changed=self.system_dns_settings.servers)

def sleep(self):
    say(asleep=True)

def wake(self):
    say(asleep=False)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need("unbound", "dig")
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    plan = LabPlan().host("client").host("resolver", ipv4=ADDRESS, serves=[unbound(certificates, ADDRESS)])
    with Lab(plan) as lab:
        use_resolver(lab["client"], ADDRESS)
        yield lab


@pytest.fixture
def mine(tmp_path: Path) -> str:
    return Author(tmp_path)(MINE, base="DNSProxyProvider")


@contextmanager
def proxied(world: Lab, mine: str, resolv_conf: str = "/etc/resolv.conf") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-u", PROGRAM, mine, resolv_conf]
    with on_node(world, "client", command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        lines = []
        while (line := process.stdout.readline()) != "ready\n":
            assert line, process.stderr.read() if process.stderr else ""
            lines.append(line)
        try:
            yield process
        finally:
            process.kill()


def dig(world: Lab, *words: str) -> str:
    done = world["client"].run(["dig", "+short", "+tries=1", "+time=60", *words])
    return str(done.stdout).strip()


def tables(world: Lab) -> str:
    with on_node(world, "client", ["nft", "list", "ruleset"]) as listing:
        return listing.communicate()[0]


def test_every_question_comes_to_it_whomever_it_addresses(world: Lab, mine: str) -> None:
    with proxied(world, mine) as process:
        for words in (["own.many.test"], ["@203.0.113.9", "own.many.test"], ["+tcp", "@203.0.113.9", "own.many.test"]):
            assert dig(world, *words) == "192.0.2.99", words
        for server in (world["resolver"].address6, "2001:db8:77::9", "::1"):
            assert dig(world, f"@{server}", "own.many.test") == "192.0.2.99", server
            assert dig(world, "+tcp", f"@{server}", "own.many.test") == "192.0.2.99", server
        assert dig(world, "other.many.test") == "192.0.2.80"
        out, _ = process.communicate("", timeout=120)
    facts = said(out)
    assert {"name": "own.many.test", "program": "dig", "scope": "host"} in facts
    assert {"name": "other.many.test", "program": "dig", "scope": "host"} in facts
    assert out.endswith("closed\n")
    assert "towpath" not in tables(world)


def test_it_forgets_answers_and_says_how_many_it_kept(world: Lab, mine: str) -> None:
    with proxied(world, mine) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for name in ("n1.many.test", "n1.many.test", "n1.many.test", "n2.many.test"):
            dig(world, name)
        process.stdin.write("rates\nflush n1.many.test\nflush *.test\nflush\nflush a..b\n")
        process.stdin.flush()
        heard = [
            line.removesuffix("\n") for line in (process.stdout.readline() for _ in range(7)) if "said" not in line
        ]
    assert heard == ["2 hits, 2 misses", "1 flushed", "1 flushed", "0 flushed", "not a domain name: 'a..b'"]


def test_what_it_forwards_does_not_come_back_to_it(world: Lab, mine: str) -> None:
    with proxied(world, mine) as process:
        for at in range(50):
            assert dig(world, f"n{at}.many.test") == "192.0.2.80"
        out, _ = process.communicate("", timeout=120)
    assert len([fact for fact in said(out) if "name" in fact]) == 50


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_c6_a5_however_its_process_ends_names_resolve_as_before(world: Lab, mine: str, number: signal.Signals) -> None:
    with proxied(world, mine) as process:
        assert dig(world, "own.many.test") == "192.0.2.99"
        process.send_signal(number)
        process.wait()
        until(lambda: dig(world, "+time=1", "own.many.test") == "192.0.2.80", "the system's server answers")
    assert "towpath" not in tables(world)


def test_c6_a5_a_process_that_hangs_is_passed_by(world: Lab, mine: str) -> None:
    with proxied(world, mine) as process:
        assert dig(world, "own.many.test") == "192.0.2.99"
        inside = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
        os.kill(inside, signal.SIGSTOP)
        until(lambda: dig(world, "+time=1", "own.many.test") == "192.0.2.80", "the system's server answers")
        os.kill(inside, signal.SIGCONT)
        until(lambda: dig(world, "+time=1", "own.many.test") == "192.0.2.99", "it is asked again")


def test_nobody_from_outside_is_answered(world: Lab, mine: str) -> None:
    """Amplification: it listens on the loopback alone, and the host's own port 53 stays as closed as it was."""
    with proxied(world, mine):
        done = world["resolver"].run(["dig", "+tries=1", "+time=1", f"@{world['client'].address4}", "own.many.test"])
        assert "192.0.2.99" not in done.stdout
        assert dig(world, "own.many.test") == "192.0.2.99"


def test_it_is_told_of_other_servers_and_of_sleep(world: Lab, mine: str, tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("nameserver 198.51.100.99\n")
    with proxied(world, mine, str(resolv_conf)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("sleep\nwake\n")
        process.stdin.flush()
        heard = [process.stdout.readline() for _ in range(2)]
        assert said("".join(heard)) == [{"asleep": True}, {"asleep": False}]
        resolv_conf.write_text(f"nameserver {ADDRESS}\n")
        assert said(process.stdout.readline()) == [{"changed": [ADDRESS]}]
        assert dig(world, "n.many.test") == "192.0.2.80"


@pytest.mark.parametrize("over", ["+notcp", "+tcp"])
def test_a_hosts_filter_knows_the_names_that_its_proxy_gave(world: Lab, tmp_path: Path, mine: str, over: str) -> None:
    """The proxy's servers are asked in whatever way; what programs were answered is what names their flows."""
    folder = tmp_path / "filter"
    folder.mkdir()
    judging = Author(folder)(
        """
        def handle_new_flow(self, flow):
            if flow.remote.port == 9000:
                say(name=flow.name, source=flow.name_from, names=flow.names)
            return Allow()
        """
    )
    with proxied(world, mine), HostFilterProcess(world, "client", [judging]) as host_filter:
        assert dig(world, over, "own.many.test", "@203.0.113.77") == "192.0.2.99"
        send = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'?', ('192.0.2.99', 9000))"
        world["client"].run([sys.executable, "-c", send])
        host_filter.until_said(bool, "the flow was judged")
        assert host_filter.said == [{"name": "own.many.test", "source": "dns", "names": ["own.many.test"]}]


def _has(number: int, said: list[dict[str, Any]]) -> bool:
    return len(said) == number


def test_a_flow_is_named_as_its_own_program_asked_where_names_share_an_address(
    world: Lab, tmp_path: Path, mine: str
) -> None:
    folder = tmp_path / "filter"
    folder.mkdir()
    judging = Author(folder)(
        """
        def handle_new_flow(self, flow):
            if flow.remote.port == 9000:
                say(name=flow.name, names=sorted(flow.names))
            return Allow()
        """
    )
    asking = "import socket, sys; there = socket.gethostbyname(sys.argv[1]), 9000; print(there, flush=True); input(); "
    sending = "mine = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); mine.sendto(b'?', there); input()"
    names = ["own.many.test", "the.own.many.test"]
    with HostFilterProcess(world, "client", [judging], dns=mine) as host_filter, ExitStack() as stack:
        programs = []
        for name in names:
            command = [sys.executable, "-c", asking + sending, name]
            program = stack.enter_context(on_node(world, "client", command, stdin=subprocess.PIPE))
            stack.callback(program.kill)
            assert program.stdout is not None
            assert "192.0.2.99" in program.stdout.readline()
            programs.append(program)
        for number, program in enumerate(programs, start=1):
            assert program.stdin is not None
            program.stdin.write("go\n")
            program.stdin.flush()
            host_filter.until_said(partial(_has, number), "the flow was judged")
        assert host_filter.said == [{"name": name, "names": names} for name in names]
