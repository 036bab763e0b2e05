"""A DNS proxy for a host on which systemd-resolved runs: its stub, its D-Bus clients, its cache, its own questions."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.encrypted_dns import Certificates, unbound, use_resolver
from tests.support.filters import Author, said
from tests.support.host_filters import on_node, until
from tests.support.peers import need

from towpath.testing import Lab, LabPlan

ADDRESS = "198.51.100.53"
ROOT = Path(__file__).parents[2]
RESOLVED = ROOT / ".cache" / "resolved"
PROGRAM = str(ROOT / "tests" / "support" / "host_dns_program.py")
MINE = """
def handle_query(self, query):
    say(name=query.name, program=query.owner and query.owner.program)
    return Answer(("192.0.2.99",), ttl=300) if query.name == "own.many.test" else Forward()

def sleep(self):
    say(asleep=True)

def wake(self):
    say(asleep=False)
"""
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
</policy></busconfig>
"""
# The package's user is uid 0 here: the Lab maps no other.
SCRIPT = """
set -e
mount -t tmpfs tmpfs /run
chmod 755 /run
mkdir -p /run/dbus /run/systemd/netif /run/systemd/resolved.conf.d
printf '%s' "$BUS" > /run/bus.conf
printf '[Resolve]\\nDNS=%s\\nDomains=~.\\nLLMNR=no\\nMulticastDNS=no\\nDNSSEC=no\\nDNSOverTLS=%s\\n' "$SERVER" "$TLS" \
    > /run/systemd/resolved.conf.d/test.conf
grep -v ^systemd-resolve: /etc/passwd > /run/passwd
echo systemd-resolve:x:0:0::/:/usr/sbin/nologin >> /run/passwd
mount --bind /run/passwd /etc/passwd
dbus-daemon --config-file=/run/bus.conf --fork --nopidfile
exec "$RESOLVED"
"""


@contextmanager
def lab(folder: Path, over_tls: str) -> Iterator[Lab]:
    need("unbound", "dig", "dbus-daemon")
    program = RESOLVED / "lib" / "systemd" / "systemd-resolved"
    if shutil.which(str(program)) is None:
        need("systemd-resolved")
    plan = LabPlan().host("client").host("resolver", ipv4=ADDRESS, serves=[unbound(Certificates(folder), ADDRESS)])
    with Lab(plan) as made:
        use_resolver(made["client"], "127.0.0.53")
        facts = {
            "BUS": BUS,
            "SERVER": ADDRESS,
            "TLS": over_tls,
            "RESOLVED": str(program),
            "SYSTEMD_LOG_TARGET": "console",
        }
        with on_node(made, "client", ["sh", "-c", SCRIPT], env={**os.environ, **facts}) as resolved:
            try:

                def answers() -> bool:
                    found = ask(made, "+time=1", "@127.0.0.53", "n.many.test")
                    return found == "192.0.2.80" or resolved.poll() is not None

                until(answers, "systemd-resolved answers")
                assert resolved.poll() is None, resolved.communicate()
                yield made
            finally:
                resolved.kill()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with lab(tmp_path_factory.mktemp("certificates"), "no") as made:
        yield made


@contextmanager
def proxied(world: Lab, folder: Path, before: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The proxy, once it is ready; `before` gets what it said until then."""
    mine = Author(folder)(MINE, base="DNSProxyProvider")
    command = [sys.executable, "-u", PROGRAM, mine, "/etc/resolv.conf"]
    with on_node(world, "client", command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        while (line := process.stdout.readline()) != "ready\n":
            assert line, process.stderr.read() if process.stderr else ""
            if before is not None:
                before.append(line)
        try:
            yield process
        finally:
            process.kill()


def ask(world: Lab, *words: str) -> str:
    done = world["client"].run(["dig", "+short", "+tries=1", "+time=60", *words])
    return str(done.stdout).strip()


def by_bus(world: Lab, name: str) -> str:
    """As a program asks whose names go through nss-resolve: over the bus, never by a datagram of its own."""
    words = [str(RESOLVED / "usr" / "bin" / "resolvectl"), "query", "--legend=no", "-4", name]
    with on_node(world, "client", words) as asking:
        return asking.communicate(timeout=120)[0]


def settings(world: Lab) -> str:
    with on_node(world, "client", [str(RESOLVED / "usr" / "bin" / "resolvectl"), "status"]) as status:
        return status.communicate(timeout=120)[0]


def test_its_stub_its_clients_and_its_own_questions_come_to_the_proxy(world: Lab, tmp_path: Path) -> None:
    assert ask(world, "own.many.test") == "192.0.2.80"  # which resolved keeps for a minute
    before = settings(world)
    with proxied(world, tmp_path) as process:
        assert ask(world, "own.many.test") == "192.0.2.99"
        until(lambda: "192.0.2.99" in by_bus(world, "own.many.test"), "resolved has forgotten what it knew")
        assert "192.0.2.80" in by_bus(world, "other.many.test")
        assert settings(world) == before
        out, _ = process.communicate("", timeout=120)
    facts = said(out)
    assert {"name": "own.many.test", "program": "dig"} in facts
    assert {"name": "other.many.test", "program": "systemd-resolve"} in facts
    assert len([fact for fact in facts if fact["name"] == "other.many.test"]) == 1  # no circle
    until(lambda: "192.0.2.80" in by_bus(world, "own.many.test"), "resolved has forgotten the proxy's answers")
    assert ask(world, "own.many.test") == "192.0.2.80"


def test_after_sigkill_everything_resolves_as_before(world: Lab, tmp_path: Path) -> None:
    before = settings(world)
    with proxied(world, tmp_path) as process:
        assert ask(world, "own.many.test") == "192.0.2.99"
        process.kill()
        process.wait()
        until(lambda: ask(world, "+time=1", "n7.many.test") == "192.0.2.80", "the stub answers again")
    assert "192.0.2.80" in by_bus(world, "n8.many.test")
    assert settings(world) == before


def test_the_servers_behind_the_stub_are_the_ones_that_are_asked(world: Lab, tmp_path: Path) -> None:
    file = world["client"].run(["cat", "/run/systemd/resolve/resolv.conf"]).stdout
    assert f"nameserver {ADDRESS}" in file
    with proxied(world, tmp_path):
        for at in range(20):
            assert ask(world, f"m{at}.many.test") == "192.0.2.80"


def test_questions_that_it_would_ask_over_tls_are_warned_of(tmp_path: Path) -> None:
    before: list[str] = []
    with lab(tmp_path, "opportunistic") as made, proxied(made, tmp_path, before) as process:
        assert process.stdout is not None
        warned = before[0] if before else process.stdout.readline()
    assert "DNSOverTLS=opportunistic" in warned


def test_logind_tells_it_of_sleep_and_lets_it_prepare(world: Lab, tmp_path: Path) -> None:
    service = [sys.executable, "-u", "-m", "tests.support.logind_service", "unix:path=/run/dbus/system_bus_socket"]
    with on_node(world, "client", service, stdin=subprocess.PIPE, cwd=ROOT) as logind:
        assert logind.stdin is not None
        assert logind.stdout is not None
        assert logind.stdout.readline() == "ready\n"
        try:
            with proxied(world, tmp_path) as process:
                assert process.stdout is not None
                logind.stdin.write("wait\nsleep\n")
                logind.stdin.flush()
                assert logind.stdout.readline() == "held\n"
                assert said(process.stdout.readline()) == [{"asleep": True}]
                assert logind.stdout.readline() == "let go\n"
                logind.stdin.write("wake\n")
                logind.stdin.flush()
                assert said(process.stdout.readline()) == [{"asleep": False}]
        finally:
            logind.kill()
