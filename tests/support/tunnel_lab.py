"""A Lab with a WireGuard server by wireguard-go, a run through it, and a capture that shows what leaves the client."""

from __future__ import annotations

import base64
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.support.peers import need

from towpath.testing import Lab
from towpath.testing.plan import Dns, Http, LabPlan, TcpEcho, UdpEcho

__all__ = [
    "INNER4",
    "INNER6",
    "PLAN",
    "SIGN",
    "Capture",
    "Key",
    "TunnelLab",
    "client_file",
    "eventually",
    "provider_with",
    "tunnels_in",
]

INNER4, INNER6 = "10.77.0.1", "fd77::1"
"""The server's addresses in the tunnel."""
PORT = 51820
# The first name server of a Lab is the one that its hosts ask.
PLAN = (
    LabPlan()
    .host("client")
    .host("dns", serves=[Dns()])
    .host("vpn", serves=[Http(names=("vpn.test",)), TcpEcho(port=7), UdpEcho(port=9000), Dns(port=53)])
    .host("web", serves=[Http(names=("web.test",)), UdpEcho(port=9000)])
    .record("inner.test", "A", INNER4)
    .record("inner.test", "AAAA", INNER6)
)


_PROVIDER = """\
# /// script
# [tool.towpath.extension]
# id = "changed"
# kind = "packet-tunnel"
# capabilities = ["packet-tunnel-provider"]
# memory = 1024
# ///
import asyncio

from msgspec import structs
from towpath.extensions.wireguard.provider import WireGuard
from towpath.providers import DnsSettings, ProxySettings


class Changed(WireGuard):
    async def set_settings(self, settings):
        settings = structs.replace(settings, {changes})
        await super().set_settings(settings)
        self.meanwhile(settings)

    def meanwhile(self, settings):
        pass
"""


SIGN = "10.78.0.9"
_LATER = """\
        self._later = structs.replace(settings, {changes})
        self._change = super().set_settings

    def _send(self, packets):
        if self._later is not None and any(one[16:20] == bytes(({sign})) for each in packets for one in each.split()):
            asyncio.get_running_loop().create_task(self._change(self._later))
            self._later = None
        super()._send(packets)
"""


def provider_with(folder: Path, changes: str, later: str = "") -> Path:
    """A provider that speaks WireGuard, and whose settings have these fields besides.

    After a datagram to `SIGN`, they have those of `later` instead.
    """
    path = folder / "changed.py"
    text = _PROVIDER.format(changes=changes)
    if later:
        text = text.replace("        pass\n", _LATER.format(changes=later, sign=SIGN.replace(".", ", ")))
    path.write_text(text)
    return path


@dataclass(frozen=True)
class Key:
    secret: str
    public: str

    @classmethod
    def make(cls) -> Key:
        key = X25519PrivateKey.generate()
        return cls(
            *(base64.b64encode(one).decode() for one in (key.private_bytes_raw(), key.public_key().public_bytes_raw()))
        )


@contextmanager
def tunnels_in(folder: Path) -> Iterator[TunnelLab]:
    """A Lab of `PLAN` whose server runs."""
    need("wireguard-go", "wg")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        tunnels = TunnelLab(lab, folder)
        with tunnels.serving():
            yield tunnels


def client_file(
    own: Key, server: Key, endpoint: str, allowed: str = "10.77.0.0/24, fd77::/64", dns: str = INNER4
) -> str:
    """A wg-quick file as a provider would hand it out."""
    return (
        f"[Interface]\nPrivateKey = {own.secret}\nAddress = 10.77.0.2/32, fd77::2/128\n"
        + (f"DNS = {dns}\n" if dns else "")
        + f"\n[Peer]\nPublicKey = {server.public}\nAllowedIPs = {allowed}\nEndpoint = {endpoint}\n"
    )


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Waits for a condition; what it gave."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.02)
    return found


class Capture:
    """Every packet that leaves a host of the Lab by a card, as `(protocol, destination, port)`."""

    def __init__(self, lab: Lab, host: str) -> None:
        self._socket = lab[host].socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.setblocking(False)

    def leaving(self) -> set[tuple[str, str, int]]:
        found: set[tuple[str, str, int]] = set()
        while True:
            try:
                data, (name, kind, direction, *_more) = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return found
            if name.startswith("eth") and direction == socket.PACKET_OUTGOING:
                found.add(_described(kind, data))

    def close(self) -> None:
        self._socket.close()


def _described(kind: int, data: bytes) -> tuple[str, str, int]:
    if kind == 0x0800:
        protocol, destination, start = data[9], socket.inet_ntop(socket.AF_INET, data[16:20]), (data[0] & 15) * 4
    elif kind == 0x86DD:
        protocol, destination, start = data[6], socket.inet_ntop(socket.AF_INET6, data[24:40]), 40
        if protocol == 58 and data[start] in range(133, 138) or protocol == 0:
            return ("neighbours", "", 0)
    else:
        return ("neighbours", "", 0)
    if (protocol, data[start]) in ((1, 3), (58, 1)):
        return ("unreachable", destination, 0)  # the host's own answer to what came for a socket that has gone
    name = {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp6"}.get(protocol, str(protocol))
    port = struct.unpack_from(">H", data, start + 2)[0] if name in ("tcp", "udp") else 0
    return (name, destination, port)


class TunnelLab:
    """The Lab, its server's and its client's keys, and a folder for files."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.folder = folder
        self.server, self.client = Key.make(), Key.make()
        places = lab["vpn"].address4, str(lab["vpn"].address6)
        self.carrier = {(kind, place, port) for place in places for kind, port in (("udp", PORT), ("unreachable", 0))}

    def file(self, name: str = "wg0.conf", *, family: int = 4, **more: str) -> str:
        """Writes a client's file, whose path it gives."""
        vpn = self.lab["vpn"]
        endpoint = f"{vpn.address4}:{PORT}" if family == 4 else f"[{vpn.address6}]:{PORT}"
        path = self.folder / name
        path.write_text(client_file(self.client, self.server, endpoint, **more))
        return str(path)

    @contextmanager
    def serving(self) -> Iterator[subprocess.Popen[bytes]]:
        """wireguard-go on the host vpn."""
        vpn = self.lab["vpn"]
        path = self.folder / "server.conf"
        name = f"wg{os.urandom(4).hex()}"  # its control socket lies in a folder that all hosts share
        path.write_text(
            f"[Interface]\nPrivateKey = {self.server.secret}\nListenPort = {PORT}\n"
            f"[Peer]\nPublicKey = {self.client.public}\nAllowedIPs = 10.77.0.2/32, fd77::2/128\n"
        )
        environment = {**os.environ, "LOG_LEVEL": "error", "WG_PROCESS_FOREGROUND": "1"}
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with vpn.popen(["wireguard-go", "-f", name], administrator=True, env=environment, **quiet) as process:
            try:
                setup = (
                    f"wg setconf {name} {path} && ip addr add {INNER4}/24 dev {name} && ip -6 addr add {INNER6}/64 dev "
                    f"{name} nodad && ip link set {name} up mtu 1420"
                )
                eventually(lambda: vpn.run(["sh", "-c", setup], administrator=True).returncode == 0)
                yield process
            finally:
                process.kill()
