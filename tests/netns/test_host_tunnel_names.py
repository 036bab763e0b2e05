"""What a host's tunnel changes besides routes: who is asked for names, and what may leave by another way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.netns.test_host_tunnel import ROOT, status, tunnel
from tests.support.peers import need
from tests.support.tunnel_lab import Capture, Key, eventually, provider_with

from towpath.testing import Lab, LabHost
from towpath.testing.plan import Dns, LabPlan, TcpEcho

INNER = "10.80.0.1"
PLAN = (
    LabPlan()
    .host("client")
    .host("dns", serves=[Dns()])
    .host("server", names=["gate.test"], serves=[Dns(), TcpEcho(port=7)])
    .host("other", serves=[TcpEcho(port=7)])
    .record("git.corp.test", "A", "10.80.0.9")
    .record("web.test", "A", "192.0.2.80")
    .record("more.test", "A", "192.0.2.81")
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    need("dig")
    with Lab(PLAN) as lab:
        yield lab


@pytest.fixture
def files(lab: Lab, tmp_path: Path) -> Iterator[Path]:
    """A folder in which `file` writes; the server's side runs."""
    ours, theirs = Key.make(), Key.make()
    (tmp_path / "keys").write_text(f"{ours.secret} {theirs.public}")
    there = tmp_path / "server.conf"
    there.write_text(
        f"[Interface]\nPrivateKey = {theirs.secret}\nAddress = {INNER}/24\nListenPort = 51820\n"
        f"[Peer]\nPublicKey = {ours.public}\nAllowedIPs = 10.80.0.2/32\n"
    )
    with tunnel(lab["server"], there, "wg0"):
        yield tmp_path


def file(lab: Lab, folder: Path, dns: str, allowed: str = "10.80.0.0/24", changes: str = "") -> str:
    """A client's file; with `changes` of its settings, what makes them too."""
    secret, public = (folder / "keys").read_text().split()
    path = folder / "client.conf"
    path.write_text(
        f"[Interface]\nPrivateKey = {secret}\nAddress = 10.80.0.2/32\n"
        + (f"DNS = {dns}\n" if dns else "")
        + f"[Peer]\nPublicKey = {public}\nAllowedIPs = {allowed}\nEndpoint = {lab['server'].address4}:51820\n"
    )
    if not changes:
        return str(path)
    return f"{provider_with(folder, changes)}:{path}"


def dig(host: LabHost, *words: str, patience: int = 60) -> str:
    return str(host.run(["dig", "+short", "+tries=1", f"+time={patience}", *words], timeout=120).stdout).strip()


class Asked:
    """The names that each of the Lab's servers was asked for since this was made."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._before = {host: len(lab[host].log) for host in ("dns", "server")}

    def at(self, host: str) -> set[str]:
        log = self._lab[host].log[self._before[host] :]
        return {question.split()[1] for record in log if record.service == "dns" for question in record.requests}


@contextmanager
def more_specific(host: LabHost, *addresses: str) -> Iterator[None]:
    """Routes of the host's own to these."""

    def change(verb: str) -> None:
        for address in addresses:
            words = f"ip route {verb} {address} $(ip route show default | cut -d' ' -f2-5)"
            host.run(["sh", "-c", words], administrator=True, check=True)

    change("add")
    try:
        yield
    finally:
        change("del")


@pytest.mark.parametrize("words", [(), ("kernel",)])
def test_with_a_kill_switch_the_server_s_name_alone_is_asked_for(lab: Lab, files: Path, words: tuple[str, ...]) -> None:
    client, server, asked = lab["client"], lab["server"], Asked(lab)
    path = Path(file(lab, files, ""))
    path.write_text(path.read_text().replace(server.address4, "gate.test"))
    resolvers = [line.split()[1] for line in client.run(["grep", "nameserver", "/etc/resolv.conf"]).stdout.splitlines()]
    with closing(Capture(lab, "client")) as capture, tunnel(client, path, "wg0", "kill-switch", *words):
        assert client.run(["ping", "-c", "1", "-W", "60", INNER]).returncode == 0
        for more in ((), ("+tcp",), (f"@{lab['other'].address4}",)):
            assert "192.0.2.80" not in dig(client, *more, "web.test", patience=1)
        left = {entry for entry in capture.leaving() if entry[0] != "neighbours"}
        carrier = {("udp", address, 51820) for address in (server.address4, str(server.address6))}
        assert left - carrier
        assert left - carrier <= {("udp", resolver, 53) for resolver in resolvers}
    assert asked.at("dns") | asked.at("server") == {"gate.test"}


def rules(host: LabHost) -> str:
    words = "nft list ruleset; ip route; ip -o addr show dev wg0 | awk '{print $4}'"
    return str(host.run(["sh", "-c", words], administrator=True).stdout)


@pytest.mark.parametrize("words", [(), ("kill-switch",)])
def test_every_name_is_asked_of_the_tunnel_s_server_whomever_a_program_asks(
    lab: Lab, files: Path, words: tuple[str, ...]
) -> None:
    client, asked = lab["client"], Asked(lab)
    with tunnel(client, file(lab, files, INNER), "wg0", *words):
        assert dig(client, "web.test") == "192.0.2.80"
        assert dig(client, f"@{lab['other'].address4}", "+tcp", "more.test") == "192.0.2.81"
        assert asked.at("server") == {"web.test", "more.test"}
        assert asked.at("dns") == set()


def test_names_outside_of_its_domains_stay_the_system_s(lab: Lab, files: Path) -> None:
    client, asked = lab["client"], Asked(lab)
    with tunnel(client, file(lab, files, f"{INNER}, ~corp.test"), "wg0"):
        assert dig(client, "git.corp.test") == "10.80.0.9"
        assert dig(client, "web.test") == "192.0.2.80"
        assert (asked.at("server"), asked.at("dns")) == ({"git.corp.test"}, {"web.test"})


@pytest.mark.parametrize("ended", ["stop", "kill", "terminate"])
def test_names_rules_and_routes_are_the_host_s_again_when_it_has_ended(lab: Lab, files: Path, ended: str) -> None:
    client = lab["client"]
    before = rules(client)
    with tunnel(client, file(lab, files, INNER, "0.0.0.0/0"), "wg0") as held:
        assert "towpath_tunnel_dns" in rules(client)
        assert "0.0.0.0/1 dev wg0" in rules(client)
        if ended == "stop":
            assert held.stdin is not None
            held.stdin.write("stop\n")
            held.stdin.flush()
            assert held.stdout is not None
            assert held.stdout.readline() == "stopped\n"
            assert "wg0" not in rules(client)
            assert "10.80.0.2" not in rules(client)
        else:
            held.send_signal(signal.SIGKILL if ended == "kill" else signal.SIGTERM)
            held.wait()
            eventually(lambda: rules(client) == before)
        asked = Asked(lab)
        assert dig(client, "web.test") == "192.0.2.80"
        assert asked.at("dns") == {"web.test"}
        if ended == "stop":
            assert held.stdin is not None
            held.stdin.write("start\n")
            held.stdin.flush()
            assert held.stdout is not None
            assert held.stdout.readline() == "up\n"
            assert dig(client, "more.test") == "192.0.2.81"
            assert asked.at("server") == {"more.test"}, "and it can be started again"


@pytest.mark.parametrize(
    ("dns", "allowed", "asks_the_host"),
    [(f"{INNER}, ~corp.test", "10.80.0.0/24", True), (INNER, "0.0.0.0/0", False)],
    ids=["some networks", "everywhere"],
)
def test_a_process_that_hangs_is_passed_by_where_the_tunnel_does_not_lead_everywhere(
    lab: Lab, files: Path, dns: str, allowed: str, asks_the_host: bool
) -> None:
    client = lab["client"]
    with tunnel(client, file(lab, files, dns, allowed), "wg0") as held:
        assert dig(client, "git.corp.test") == "10.80.0.9"
        asked = Asked(lab)
        inside = int(Path(f"/proc/{held.pid}/task/{held.pid}/children").read_text().split()[0])
        os.kill(inside, signal.SIGSTOP)
        if asks_the_host:
            eventually(lambda: dig(client, "web.test", patience=1) == "192.0.2.80")
            assert asked.at("dns") == {"web.test"}
        else:
            assert [dig(client, "web.test", patience=2).startswith("192") for _ in range(2)] == [False, False]
            assert asked.at("dns") == set()
        os.kill(inside, signal.SIGCONT)
        eventually(lambda: dig(client, "git.corp.test", patience=1) == "10.80.0.9")


def test_a_dns_proxy_of_the_host_is_asked_first_and_asks_by_the_tunnel(lab: Lab, files: Path, tmp_path: Path) -> None:
    client, asked = lab["client"], Asked(lab)
    (tmp_path / "list.txt").write_text("ads.test\n")
    (tmp_path / "ads.toml").write_text('block_lists = ["list.txt"]\n')
    program = str(Path(__file__).parents[1] / "support" / "host_dns_program.py")
    command = [sys.executable, "-u", program, f"secure_dns:{tmp_path}/ads.toml", "/etc/resolv.conf"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        tunnel(client, file(lab, files, INNER), "wg0"),
        client.popen(command, administrator=True, text=True, **pipes) as proxy,
    ):
        assert proxy.stdout is not None
        assert "ready\n" in iter(proxy.stdout.readline, "")
        assert dig(client, "web.test") == "192.0.2.80"
        assert dig(client, "ads.test") == ""
        assert asked.at("server") == {"web.test"}
        assert asked.at("dns") == set()
        proxy.kill()


def test_include_all_leaves_nothing_to_the_host_s_other_routes(lab: Lab, files: Path) -> None:
    """Not to one that is more specific than any of the tunnel's, as a host has them for its own network."""
    client, other, asked = lab["client"], lab["other"], Asked(lab)
    target = file(lab, files, f"{INNER}, ~corp.test", changes="include_all=True")
    with more_specific(client, other.address4, lab["dns"].address4), tunnel(client, target, "wg0") as held:
        assert "held ::/0" in status(held)["settings"]  # type: ignore[operator]
        capture = Capture(lab, "client")
        assert dig(client, "git.corp.test") == "10.80.0.9"
        assert dig(client, f"@{lab['dns'].address6}", "git.corp.test") == "10.80.0.9"
        assert "192.0.2.80" not in dig(client, "web.test", patience=2), (
            "the host's server is asked by the tunnel, which does not lead there"
        )
        for address in (other.address4, str(other.address6)):
            done = client.run(["timeout", "2", "bash", "-c", f"echo x > /dev/tcp/{address}/7"])
            assert done.returncode != 0, address
        left = {entry for entry in capture.leaving() if entry[0] != "neighbours"}
        assert {entry[:2] for entry in left} <= {
            ("udp", lab["server"].address4),
            ("unreachable", lab["server"].address4),
        }
        capture.close()
    assert asked.at("dns") == set()


def test_routes_that_are_enforced_hold_for_a_program_that_chose_its_interface(lab: Lab, files: Path) -> None:
    client, other = lab["client"], lab["other"]
    program = (
        "import socket,sys; s=socket.socket(); s.settimeout(float(sys.argv[2]));"
        "s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0'); s.connect((sys.argv[1], 7)); print('there')"
    )
    reach = [sys.executable, "-c", program, other.address4]
    routes = f"10.80.0.0/24, {other.address4}/32"
    with tunnel(client, file(lab, files, "", routes), "wg0"):
        assert client.run([*reach, "60"], administrator=True).stdout == "there\n", "a route alone does not hold it"
    with tunnel(client, file(lab, files, "", routes, changes="enforce_routes=True"), "wg0"):
        done = client.run([*reach, "2"], administrator=True)
        assert "there" not in done.stdout
        assert "Error" in done.stderr
        assert client.run(["ping", "-c1", "-W60", lab["dns"].address4]).returncode == 0, "other networks are the host's"
        assert client.run(["ping", "-c1", "-W60", INNER]).returncode == 0


def test_the_kill_switch_keeps_the_link_to_the_server_itself(lab: Lab, files: Path) -> None:
    """Over IPv6 a neighbour is looked for by packets of the host's own, again and again."""
    client = lab["client"]
    path = Path(file(lab, files, ""))
    path.write_text(path.read_text().replace(f"{lab['server'].address4}:", f"[{lab['server'].address6}]:"))
    client.run(["ip", "-6", "neigh", "flush", "dev", "eth0"], administrator=True)
    with tunnel(client, path, "wg0", "kill-switch"):
        client.run(["ip", "-6", "neigh", "flush", "dev", "eth0"], administrator=True)
        assert client.run(["ping", "-c1", "-W60", INNER]).returncode == 0
        assert client.run(["ping", "-c1", "-W1", str(lab["other"].address6)]).returncode != 0


def test_short_names_are_looked_for_in_the_search_domains_of_the_tunnel(lab: Lab, files: Path) -> None:
    client = lab["client"]
    look = ["getent", "ahostsv4"]
    with tunnel(client, file(lab, files, f"{INNER}, nothing.test, corp.test"), "wg0") as held:
        found = client.run([*look, "git"], timeout=120).stdout
        assert found.split()[:3] == ["10.80.0.9", "STREAM", "git.corp.test"], "a program hears its whole name"
        assert dig(client, "git.") == "git.corp.test.\n10.80.0.9"
        asked = Asked(lab)
        assert dig(client, "web") == "", "what none of them has is asked for as it is"
        assert asked.at("server") == {"web.nothing.test", "web.corp.test", "web"}
        assert client.run([*look, "web.test"], timeout=120).stdout.startswith("192.0.2.80")
        held.kill()
        eventually(lambda: not client.run([*look, "git"], timeout=120).stdout)


def test_a_proxy_is_not_set_for_a_host_and_that_is_said_once(lab: Lab, files: Path) -> None:
    target = file(lab, files, INNER, changes='proxy=ProxySettings(https="http://10.80.0.1:3128")')
    words = [sys.executable, "-m", "tests.support.host_tunnel_program", target, "wg0"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with lab["client"].popen(words, administrator=True, text=True, cwd=ROOT, **pipes) as held:
        out, err = held.communicate("stop\nstart\n", 120)
    assert out.splitlines()[:3] == ["up", "stopped", "up"]
    assert err.count("programs of a host are not told of it") == 1
