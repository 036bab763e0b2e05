"""A tunnel's device in this process's own network: everything hangs on descriptors, and goes with them.

Routes lead into the device and vanish with it. The tunnel's own sockets stay off it because they are bound to the
interface of the best other route, which is looked for anew whenever the network changes: no rule, mark or route to the
server has to be left in the tables. The kill switch is a table of nftables that its owner's socket holds.
"""

from __future__ import annotations

import os
import socket
from ipaddress import ip_address, ip_network
from typing import Any, NamedTuple

from towpath.errors import HostFault
from towpath.kernel.tunnel import TunnelPlan
from towpath.linux import datagram_rows
from towpath.linux.host_table import HostTable
from towpath.linux.tun import open_tun
from towpath.linux.tunnel_device import TunnelLink

__all__ = ["HostTunnelDevice", "best_interface"]

_KILL_SWITCH = "towpath_tunnel"


class HostTunnelDevice:
    """Implements `towpath.kernel.tunnel.TunnelAttachment`. Needs CAP_NET_ADMIN and CAP_NET_RAW.

    `kill_switch`: whatever the tunnel does not carry stays, but for the loopback and its own datagrams.
    """

    def __init__(self, name: str, *, kill_switch: bool = False) -> None:
        device = open_tun(name)
        self.name = device.name
        self.heads = device.heads
        self.queue = device.queues[0]
        self._link = TunnelLink(device.name)
        self._switch: HostTable | None = None
        self._servers: set[tuple[str, int]] = set()
        if kill_switch:
            lines = ["chain servers", "chain output type filter hook output priority -10 policy drop", "oif 1 accept"]
            lines += [f"oif {self._link.index} accept", "jump servers", "reject with icmpx admin-prohibited"]
            self._switch = HostTable(_KILL_SWITCH, lines)

    def apply(self, plan: TunnelPlan) -> None:
        """See `TunnelAttachment.apply`. A default route becomes its two halves, which win over another default.

        What is left out is cut out of the routes: the other tables of the host lead there, as before.
        """
        kept = [part for route in plan.routes for part in _without(route, plan.around)]
        halves = tuple(dict.fromkeys(half for route in kept for half in _halves(*route)))
        self._link.apply(plan._replace(routes=halves))

    def open_link(self, address: str, port: int) -> socket.socket:
        interface = best_interface(address, self.name)
        made = datagram_rows.open_datagram(address, port, interface=interface)
        if self._switch is not None and (address, port) not in self._servers:
            self._servers.add((address, port))
            family = "ip6" if ":" in address else "ip"
            self._switch.change(["chain servers", f"{family} daddr {address} udp dport {port} accept"])
        return made

    def listen(self, port: int) -> socket.socket:
        return datagram_rows.serve_datagram(6, port)

    def close(self) -> None:
        if self.queue >= 0:
            os.close(self.queue)
            self.queue = -1
            self._link.close()
            if self._switch is not None:
                self._switch.close()


def _without(route: tuple[str, int], around: tuple[tuple[str, int], ...]) -> list[tuple[str, int]]:
    """The parts of a route that lie in none of `around` that it is wider than: so no other route has to be made."""
    parts: list[Any] = [ip_network(f"{route[0]}/{route[1]}")]
    for address, prefix in around:
        hole = ip_network(f"{address}/{prefix}")
        cut: list[Any] = []
        for part in parts:
            inside = part.version == hole.version and part.prefixlen < hole.prefixlen and hole.subnet_of(part)
            cut += part.address_exclude(hole) if inside else [part]
        parts = cut
    return [(str(part.network_address), part.prefixlen) for part in parts]


def _halves(address: str, prefix: int) -> list[tuple[str, int]]:
    if prefix:
        return [(address, prefix)]
    return [(str(half.network_address), 1) for half in ip_network(f"{address}/0").subnets()]


class _Route(NamedTuple):
    prefix: int
    metric: int
    interface: str


def best_interface(address: str, but: str) -> str | None:
    """The interface by which `address` is reached when `but` is left out of account; `None` when there is none."""
    found = [route for route in _routes(address) if route.interface not in (but, "lo")]
    best = max(found, key=lambda route: (route.prefix, -route.metric), default=None)
    return best.interface if best is not None else None


def _routes(address: str) -> list[_Route]:
    where = ip_address(address)
    path = "/proc/net/route" if where.version == 4 else "/proc/net/ipv6_route"
    try:
        with open(path, encoding="ascii") as file:
            rows = [line.split() for line in file]
    except OSError as error:
        raise HostFault("read the routes", error.errno or 0, f"{path}: {error.strerror}") from None
    found = []
    for row in rows:
        if where.version == 4:
            if len(row) < 8 or row[0] == "Iface" or not int(row[3], 16) & 1:
                continue
            destination, mask = (int.from_bytes(bytes.fromhex(row[n]), "little") for n in (1, 7))
            if int(where) & mask == destination:
                found.append(_Route(mask.bit_count(), int(row[6]), row[0]))
        elif len(row) == 10 and not int(row[8], 16) & 0x200:
            prefix = int(row[1], 16)
            if int(where) >> 128 - prefix == int(row[0], 16) >> 128 - prefix:
                found.append(_Route(prefix, int(row[5], 16), row[9]))
    return found
