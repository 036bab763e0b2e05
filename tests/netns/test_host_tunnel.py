"""Tunnels of a whole host: a server for others' clients, many clients of one server, a kill switch, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.support.peers import need
from tests.support.tunnel_lab import Capture, Key, eventually

from towpath.testing import Lab, LabHost
from towpath.testing.plan import LabPlan, TcpEcho, UdpEcho

ROOT = Path(__file__).resolve().parents[2]
PLAN = (
    LabPlan()
    .host("one")
    .host("two")
    .host("server", serves=[TcpEcho(port=7), UdpEcho(port=9000)])
    .host("other", serves=[TcpEcho(port=7)])
)


@pytest.fixture
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        yield lab


@contextmanager
def tunnel(
    host: LabHost, target: Path | str, device: str, *words: str, up: bool = True
) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.host_tunnel_program", str(target), device, *words]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with host.popen(command, administrator=True, text=True, cwd=ROOT, **pipes) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            assert (said == "up\n") is up, said
            yield process
        finally:
            process.kill()


def status(process: subprocess.Popen[str]) -> dict[str, object]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    found: dict[str, object] = json.loads(process.stdout.readline())
    return found


def pings(host: LabHost, address: str, seconds: int = 60, size: int = 56) -> bool:
    return host.run(["ping", "-c", "1", "-W", str(seconds), "-s", str(size), address]).returncode == 0


def wireguard_files(folder: Path, server: LabHost) -> tuple[Path, Path, Key, Key]:
    ours, theirs = Key.make(), Key.make()
    there, here = folder / "server.conf", folder / "client.conf"
    there.write_text(
        f"[Interface]\nPrivateKey = {theirs.secret}\nAddress = 10.80.0.1/24, fd80::1/64\nListenPort = 51820\n"
        f"[Peer]\nPublicKey = {ours.public}\nAllowedIPs = 10.80.0.2/32, fd80::2/128\n"
    )
    here.write_text(
        f"[Interface]\nPrivateKey = {ours.secret}\nAddress = 10.80.0.2/32, fd80::2/128\n"
        f"[Peer]\nPublicKey = {theirs.public}\nAllowedIPs = 10.80.0.0/24, fd80::/64\n"
        f"Endpoint = {server.address4}:51820\n"
    )
    return there, here, ours, theirs


@pytest.mark.parametrize("family", [4, 6])
def test_wireguard_go_connects_to_our_server_over_both_families(lab: Lab, tmp_path: Path, family: int) -> None:
    need("wireguard-go", "wg")
    server, client = lab["server"], lab["one"]
    there, _here, ours, theirs = wireguard_files(tmp_path, server)
    endpoint = f"{server.address4}:51820" if family == 4 else f"[{server.address6}]:51820"
    (tmp_path / "go.conf").write_text(
        f"[Interface]\nPrivateKey = {ours.secret}\n[Peer]\nPublicKey = {theirs.public}\n"
        f"AllowedIPs = 10.80.0.0/24, fd80::/64\nEndpoint = {endpoint}\n"
    )
    name = f"wg{os.urandom(4).hex()}"
    setup = (
        f"wg setconf {name} {tmp_path}/go.conf && ip addr add 10.80.0.2/24 dev {name} && "
        f"ip -6 addr add fd80::2/64 dev {name} nodad && ip link set {name} up mtu 1420"
    )
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with tunnel(server, there, "wg0") as held:
        environment = {**os.environ, "WG_PROCESS_FOREGROUND": "1"}
        with client.popen(["wireguard-go", "-f", name], administrator=True, env=environment, **quiet) as go:
            eventually(lambda: client.run(["sh", "-c", setup], administrator=True).returncode == 0)
            assert pings(client, "10.80.0.1")
            assert pings(client, "fd80::1")
            assert pings(server, "10.80.0.2"), "and the other way"
            go.kill()
        found = status(held)
        assert found["peers"][0]["public_key"] == ours.public  # type: ignore[index]


_BULK = """
import socket, sys, threading
s = socket.create_connection((sys.argv[1], 7), 60)
s.settimeout(60)
data = bytes(range(256)) * (int(sys.argv[2]) // 256)
threading.Thread(target=s.sendall, args=(data,)).start()
got = b""
while len(got) < len(data):
    got += s.recv(1 << 16)
print(got == data)
"""


def bulk(host: LabHost, address: str, size: int = 3_000_000) -> int:
    words = [address, str(size)]
    done = host.run([sys.executable, "-c", _BULK, *words], timeout=120)
    return done.stdout.strip() == "True"


def test_bulk_arrives_whole_between_two_of_ours(lab: Lab, tmp_path: Path) -> None:
    there, here, _ours, _theirs = wireguard_files(tmp_path, lab["server"])
    with tunnel(lab["server"], there, "wg0"), tunnel(lab["one"], here, "wg0"):
        assert bulk(lab["one"], "10.80.0.1")
        assert bulk(lab["one"], "fd80::1")


def wire_tunnel_files(folder: Path, server: LabHost, clients: int) -> tuple[str, list[str]]:
    theirs, ours = Key.make(), [Key.make() for _ in range(clients)]
    text = f'private_key = "{theirs.secret}"\naddresses = ["10.90.0.1/24"]\nlisten = 4500\n'
    for number, key in enumerate(ours):
        text += f'[[peers]]\npublic_key = "{key.public}"\naddresses = ["10.90.0.{number + 2}/32"]\n'
        (folder / f"client{number}.toml").write_text(
            f'private_key = "{key.secret}"\naddresses = ["10.90.0.{number + 2}/32"]\n[[peers]]\n'
            f'public_key = "{theirs.public}"\naddresses = ["10.90.0.0/24"]\nendpoint = "{server.address4}:4500"\n'
        )
    (folder / "server.toml").write_text(text)
    return f"wire-tunnel:{folder}/server.toml", [f"wire-tunnel:{folder}/client{n}.toml" for n in range(clients)]


def test_the_reference_protocol_serves_many_clients_and_carries_bulk(lab: Lab, tmp_path: Path) -> None:
    there, here = wire_tunnel_files(tmp_path, lab["server"], 2)
    with ExitStack() as stack:
        held = stack.enter_context(tunnel(lab["server"], there, "wt0"))
        for host, target in zip((lab["one"], lab["two"]), here, strict=True):
            stack.enter_context(tunnel(host, target, "wt0"))
        for host in (lab["one"], lab["two"]):
            assert pings(host, "10.90.0.1")
            assert bulk(host, "10.90.0.1")
        peers = status(held)["peers"]
        assert [peer["handshakes"] for peer in peers] == [1, 1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("percent", [1, 5])
def test_a_path_that_loses_makes_the_units_smaller_and_all_arrives(lab: Lab, tmp_path: Path, percent: int) -> None:
    there, (here,) = wire_tunnel_files(tmp_path, lab["server"], 1)
    with (
        tunnel(lab["server"], there, "wt0"),
        tunnel(lab["one"], here, "wt0") as held,
        lab["server"].fault("loss", percent=percent),
    ):

        def smaller() -> bool:
            assert bulk(lab["one"], "10.90.0.1", 1_000_000)
            return status(held)["peers"][0]["unit"] != 62_000  # type: ignore[index,no-any-return]

        eventually(smaller)


def test_the_kill_switch_lets_nothing_else_leave(lab: Lab, tmp_path: Path) -> None:
    there, (here,) = wire_tunnel_files(tmp_path, lab["server"], 1)
    one, other = lab["one"], lab["other"]
    with tunnel(lab["server"], there, "wt0"), tunnel(one, here, "wt0", "kill-switch") as held:
        capture = Capture(lab, "one")
        assert pings(one, "10.90.0.1")
        assert not pings(one, other.address4, 1)
        assert one.run(["timeout", "2", "bash", "-c", f"echo x > /dev/tcp/{other.address4}/7"]).returncode != 0
        left = {entry for entry in capture.leaving() if entry[0] != "neighbours"}
        assert {entry[:2] for entry in left} == {("udp", lab["server"].address4)}
        capture.close()
        held.send_signal(signal.SIGKILL)
        eventually(lambda: pings(one, other.address4, 1))


def test_a_server_with_a_kill_switch_answers_its_clients_and_says_nothing_else(lab: Lab, tmp_path: Path) -> None:
    there, (here,) = wire_tunnel_files(tmp_path, lab["server"], 1)
    with tunnel(lab["server"], there, "wt0", "kill-switch"), tunnel(lab["one"], here, "wt0"):
        assert pings(lab["one"], "10.90.0.1")
        assert not pings(lab["server"], lab["other"].address4, 1)


def test_a_killed_process_leaves_no_device_route_or_rule(lab: Lab, tmp_path: Path) -> None:
    there, (here,) = wire_tunnel_files(tmp_path, lab["server"], 1)
    looks = "ip -o link | cut -d: -f2; ip route; ip -6 route; ip rule; nft list ruleset"
    before = lab["one"].run(["sh", "-c", looks], administrator=True).stdout
    with tunnel(lab["server"], there, "wt0"), tunnel(lab["one"], here, "wt0", "kill-switch") as held:
        assert "wt0" in lab["one"].run(["sh", "-c", looks], administrator=True).stdout
        held.kill()
        eventually(lambda: lab["one"].run(["sh", "-c", looks], administrator=True).stdout == before)


def test_a_server_that_is_not_there_is_said(lab: Lab, tmp_path: Path) -> None:
    _there, here, _ours, _theirs = wireguard_files(tmp_path, lab["server"])
    with lab["one"].popen(
        [sys.executable, "-m", "tests.support.host_tunnel_program", str(here), "wg0"],
        administrator=True,
        text=True,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert f"nobody is there at {lab['server'].address4}:51820" in process.stdout.readline()
        process.kill()
