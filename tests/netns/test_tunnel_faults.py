"""What a network does to a tunnel's datagrams: all data arrives once and whole, and `towpath tunnel status` counts."""

from __future__ import annotations

import base64
import json
import os
import random
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.netns.test_host_tunnel import bulk, pings, tunnel, wire_tunnel_files, wireguard_files
from tests.support.peers import need
from tests.support.running import TOWPATH
from tests.support.tunnel_lab import Key, eventually

from towpath.extensions.wireguard import noise
from towpath.extensions.wireguard.cookies import CookieJar
from towpath.testing import Lab, LabHost
from towpath.testing.plan import LabPlan, TcpEcho, UdpEcho

ROOT = Path(__file__).resolve().parents[2]
PLAN = LabPlan().host("client").host("middle").host("server", serves=[TcpEcho(port=7), UdpEcho(port=9000)])
PROTOCOLS = ["wireguard", "wire-tunnel"]
INNER = {"wireguard": "10.80.0.1", "wire-tunnel": "10.90.0.1"}
_PORTS = {"wireguard": 51820, "wire-tunnel": 4500}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        yield lab


def told(host: LabHost) -> dict[str, Any]:
    """What `towpath tunnel status` says of the one tunnel of a host."""
    done = host.run([TOWPATH, "tunnel", "status", "--json"], administrator=True, timeout=120)
    (one,) = json.loads(done.stdout)
    return dict(one)


def tried(host: LabHost) -> dict[str, int]:
    """What the tunnel of a host has dropped that may not have begun yet."""
    done = host.run([TOWPATH, "tunnel", "status", "--json"], administrator=True, timeout=120)
    return {cause: count for one in json.loads(done.stdout) for cause, count in one.get("drops", {}).items()}


def shown(host: LabHost) -> str:
    """The line of its words about drops."""
    done = host.run([TOWPATH, "tunnel", "status"], administrator=True, timeout=120)
    return next(line for line in done.stdout.splitlines() if line.strip().startswith("dropped"))


def files(lab: Lab, folder: Path, protocol: str, change: tuple[str, str] = ("", "")) -> tuple[str, str]:
    """The server's and the client's target; in the client's file one text is another."""
    server = lab["server"]
    if protocol == "wireguard":
        there, here, _ours, _theirs = wireguard_files(folder, server)
        targets, path = (str(there), str(here)), here
    else:
        target, (other,) = wire_tunnel_files(folder, server, 1)
        targets, path = (target, other), folder / "client0.toml"
    path.write_text(path.read_text().replace(*change))
    return targets


@contextmanager
def meddled(lab: Lab, folder: Path, protocol: str, what: str) -> Iterator[None]:
    """A tunnel whose datagrams are carried by a host between, which does something to them."""
    middle, server, port = lab["middle"], lab["server"], _PORTS[protocol]
    there, here = files(lab, folder, protocol, (f"{server.address4}:{port}", f"{middle.address4}:{port}"))
    words = [sys.executable, "-m", "tests.support.datagram_meddler", str(port), server.address4, str(port), what]
    with middle.popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as meddler:
        try:
            assert meddler.stdout is not None
            assert meddler.stdout.readline() == "ready\n"
            with tunnel(server, there, "t0"), tunnel(lab["client"], here, "t0"):
                yield
        finally:
            meddler.kill()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_datagrams_that_overtake_each_other_cost_nothing(lab: Lab, tmp_path: Path, protocol: str) -> None:
    with meddled(lab, tmp_path, protocol, "reorder"):
        assert bulk(lab["client"], INNER[protocol], 1_000_000)
        assert {**told(lab["server"])["drops"], **told(lab["client"])["drops"]} == {}
        assert shown(lab["server"]).split() == ["dropped", "nothing"]


@pytest.mark.parametrize(
    ("what", "protocol", "causes"),
    [
        ("duplicate", "wireguard", {"data-replayed"}),
        ("duplicate", "wire-tunnel", {"data-replayed"}),
        ("corrupt", "wireguard", {"data-authentication"}),
        ("corrupt", "wire-tunnel", {"data-authentication"}),
        ("truncate", "wireguard", {"data-authentication"}),
        ("truncate", "wire-tunnel", {"data-authentication"}),
        ("garbage", "wireguard", {"not a message", "data-index"}),
        ("garbage", "wire-tunnel", {"not a message", "data-index"}),
    ],
)
def test_what_a_path_does_to_datagrams_is_counted_and_nothing_is_taken_twice_or_wrong(
    lab: Lab, tmp_path: Path, what: str, protocol: str, causes: set[str]
) -> None:
    with meddled(lab, tmp_path, protocol, what):
        assert bulk(lab["client"], INNER[protocol], 300_000)
        drops = told(lab["server"])["drops"]
        assert causes <= set(drops), drops
        words = shown(lab["server"])
        assert all(f"{cause} " in words for cause in causes), words
        assert told(lab["server"])["state"] == told(lab["client"])["state"] == "connected"


@pytest.mark.parametrize("percent", [1, 5])
def test_loss_on_the_link_costs_time_and_no_byte(lab: Lab, tmp_path: Path, percent: int) -> None:
    there, here = files(lab, tmp_path, "wireguard")
    with tunnel(lab["server"], there, "t0"), tunnel(lab["client"], here, "t0"):
        with lab["server"].fault("loss", percent=percent):
            assert bulk(lab["client"], INNER["wireguard"], 300_000)
        assert told(lab["server"])["drops"] == {}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(("protocol", "mtu"), [("wireguard", ""), ("wireguard", "MTU = 1280"), ("wire-tunnel", "")])
def test_a_path_that_swallows_what_is_too_large_is_no_black_hole(
    lab: Lab, tmp_path: Path, protocol: str, mtu: str, family: int
) -> None:
    """IPv4 routers cut what may be cut; IPv6 ones do not, and WireGuard has no message to find that out by."""
    server, client = lab["server"], lab["client"]
    port = _PORTS[protocol]
    outer = f"{server.address4}:{port}" if family == 4 else f"[{server.address6}]:{port}"
    there, here = files(lab, tmp_path, protocol, (f"{server.address4}:{port}", outer))
    if mtu:
        for path in map(Path, (there, here)):
            path.write_text(path.read_text().replace("[Peer]", f"{mtu}\n[Peer]"))
    with tunnel(server, there, "t0"), tunnel(client, here, "t0"), server.fault("mtu-black-hole", bytes=1400):
        if (protocol, mtu, family) == ("wireguard", "", 6):
            assert pings(client, INNER[protocol]), "small packets pass"
            assert not pings(client, INNER[protocol], 1, size=1300), "large ones need an MTU in the file"
            return
        assert bulk(client, INNER[protocol], 300_000)
        if (protocol, family) == ("wire-tunnel", 6):
            assert told(client)["peers"][0]["piece"] == 1200


def test_a_path_that_carries_large_datagrams_again_is_given_them(lab: Lab, tmp_path: Path) -> None:
    server, client = lab["server"], lab["client"]
    outer = (f"{server.address4}:4500", f"[{server.address6}]:4500")
    there, here = files(lab, tmp_path, "wire-tunnel", outer)

    def piece() -> int:
        assert pings(client, INNER["wire-tunnel"])
        return int(told(client)["peers"][0]["piece"])

    with tunnel(server, there, "t0"), tunnel(client, here, "t0"):
        assert piece() == 1440
        with server.fault("mtu-black-hole", bytes=1400):
            eventually(lambda: piece() == 1200)
        eventually(lambda: piece() == 1440)
        assert bulk(client, INNER["wire-tunnel"], 300_000)


class Lengths:
    """How long the packets are that leave a host by its card."""

    def __init__(self, host: LabHost) -> None:
        self._socket = host.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 20)
        self._socket.setblocking(False)

    def leaving(self) -> list[int]:
        found: list[int] = []
        while True:
            try:
                data, (name, _kind, direction, *_more) = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return found
            if name.startswith("eth") and direction == socket.PACKET_OUTGOING:
                found.append(len(data))

    def close(self) -> None:
        self._socket.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_on_a_card_that_cuts_nothing_packets_are_no_longer_than_its_mtu(
    lab: Lab, tmp_path: Path, protocol: str
) -> None:
    need("ethtool")
    there, here = files(lab, tmp_path, protocol)
    hosts = [lab["server"], lab["client"]]
    card = "eth0"
    for host in hosts:
        words = ["ethtool", "-K", card, "tso", "off", "gso", "off", "gro", "off", "tx-udp-segmentation", "off"]
        host.run(words, administrator=True, check=True)
    lengths = [Lengths(host) for host in hosts]
    try:
        with tunnel(hosts[0], there, "t0"), tunnel(hosts[1], here, "t0"):
            assert bulk(lab["client"], INNER[protocol], 1_000_000)
        for one in lengths:
            left = one.leaving()
            assert max(left) <= 1500
            assert sum(length > 1400 for length in left) > 300, "they are filled, and cut by nobody on the way"
    finally:
        for one in lengths:
            one.close()
        for host in hosts:
            words = ["ethtool", "-K", card, "tso", "on", "gso", "on", "gro", "on", "tx-udp-segmentation", "on"]
            host.run(words, administrator=True, check=True)


def _initiation(server_public: bytes) -> bytes:
    """As a stranger writes it who knows the server's public key: it costs the server three curves to see that."""
    made = noise.Initiator(noise.PrivateKey(os.urandom(32)), server_public, bytes(32), 7, noise.tai64n(1e9))
    return CookieJar(server_public).close(made.message, 0.0)


def test_a_flood_of_initiations_is_answered_by_cookies_and_a_peer_gets_through(lab: Lab, tmp_path: Path) -> None:
    server, client = lab["server"], lab["client"]
    there, here, _ours, theirs = wireguard_files(tmp_path, server)
    flood = [_initiation(base64.b64decode(theirs.public)) for _ in range(200)]
    with tunnel(server, there, "t0"), lab["middle"].socket(socket.AF_INET, socket.SOCK_DGRAM) as flooder:
        flooder.connect((server.address4, 51820))
        flooder.settimeout(60)

        def pour() -> bool:
            """Whether most is refused before a curve is computed, which begins at 64 in a second."""
            for message in flood:
                flooder.send(message)
            drops = told(server)["drops"]
            return int(drops.get("handshake-load", 0)) > max(100, int(drops.get("initiation-unknown", 0)))

        eventually(pour)
        assert struct.unpack_from("<I", flooder.recv(200))[0] == 3, "a cookie"
        pour()
        with tunnel(client, here, "t0"):
            pour()
            assert pings(client, INNER["wireguard"])
        assert "handshake-load" in shown(server)


def test_any_bytes_at_the_port_of_a_server_are_counted_and_nothing_more(lab: Lab, tmp_path: Path) -> None:
    there, here = files(lab, tmp_path, "wireguard")
    choose = random.Random(3)
    with tunnel(lab["server"], there, "t0"), tunnel(lab["client"], here, "t0"):
        with lab["middle"].socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.connect((lab["server"].address4, 51820))

            def enough() -> bool:
                """What finds no room in the server's socket is not counted: some at a time."""
                for _ in range(50):
                    kind = choose.choice((b"", b"\1\0\0\0", b"\2\0\0\0", b"\3\0\0\0", b"\4\0\0\0"))
                    stranger.send(kind + choose.randbytes(choose.choice((0, 1, 12, 28, 60, 88, 144, 1400))))
                return bool(sum(told(lab["server"])["drops"].values()) >= 300)

            eventually(enough)
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.recv(100)  # nobody who does not know the key hears anything
        assert bulk(lab["client"], INNER["wireguard"], 300_000)


def an_hour_ago() -> dict[str, str]:
    """An environment whose programs have a clock that is wrong, while time goes on as ever."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    # Its settings are read once: a worker has another environment.
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": "-1h",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_CACHE_DURATION": "1000",
    }


def test_a_clock_that_was_set_back_is_refused_and_told_and_sessions_go_on(lab: Lab, tmp_path: Path) -> None:
    """A client's second start with an earlier time: its first message could be one that somebody has kept."""
    need("faketime")
    server, client = lab["server"], lab["client"]
    there, here = files(lab, tmp_path, "wireguard")
    with tunnel(server, there, "t0"):
        with tunnel(client, here, "t0"):
            assert pings(client, INNER["wireguard"])
        words = [sys.executable, "-m", "tests.support.host_tunnel_program", here, "t1"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        environment = {**os.environ, **an_hour_ago()}
        with client.popen(words, administrator=True, text=True, cwd=ROOT, env=environment, **pipes) as late:
            try:
                eventually(lambda: told(server)["drops"].get("initiation-replayed"))
                assert late.stdout is not None
                said = late.stdout.readline()
                assert "no answer from" in said
            finally:
                late.kill()
        with tunnel(client, here, "t0"):
            assert pings(client, INNER["wireguard"]), "whose clock is right is let in"


def test_a_preshared_key_that_is_another_is_counted(lab: Lab, tmp_path: Path) -> None:
    there, here = files(lab, tmp_path, "wireguard")
    path = Path(here)
    path.write_text(path.read_text().replace("[Peer]", f"[Peer]\nPresharedKey = {Key.make().secret}"))
    with tunnel(lab["server"], there, "t0"):
        words = [sys.executable, "-m", "tests.support.host_tunnel_program", here, "t1"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with lab["client"].popen(words, administrator=True, text=True, cwd=ROOT, **pipes) as wrong:
            try:
                eventually(lambda: tried(lab["client"]).get("noise-authentication"))
            finally:
                wrong.kill()
