"""A tunnel's device in this process's own network: everything hangs on descriptors, and goes with them.

Routes lead into the device and vanish with it. The tunnel's own sockets stay off it because they are bound to the
interface of the best other route, which is looked for anew whenever the network changes: no rule, mark or route to the
server has to be left in the tables. The kill switch, and what holds programs to the tunnel's routes, is a table of
nftables that its owner's socket holds.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Any

from towpath.errors import FeatureMissing, HostFault, PermissionMissing
from towpath.kernel.tunnel import NOTHING, TunnelPlan
from towpath.linux import datagram_rows
from towpath.linux.host_table import HostTable
from towpath.linux.kernel_wireguard import KernelWireGuardNetwork
from towpath.linux.sockets import dial_datagram
from towpath.linux.tun import open_tun
from towpath.linux.tunnel_device import TunnelLink
from towpath.linux.uplinks import best_interface, has_default_route, network_around

__all__ = ["HostTunnelDevice"]

_TABLE = "towpath_tunnel"
_STAYS = ("oif 1 accept", "ip daddr 127.0.0.0/8 accept", "ip6 daddr ::1 accept")
"""What does not leave; questions that are redirected were on their way to another interface at first."""
_KEEPS_LINKS = (
    # Without these the tunnel's own datagrams lose their link: addresses are leased, neighbours looked for.
    "udp sport 68 udp dport 67 accept",
    "udp sport 546 udp dport 547 accept",
    *(f"icmpv6 type {kind} accept" for kind in ("nd-router-solicit", "nd-neighbor-solicit", "nd-neighbor-advert")),
)
_QUESTION_MARK = 0x1C00000
"""Of questions for the names of the tunnel's own servers. It holds the marks that redirections of names leave alone;
no program has it that may not change the network itself (socket(7), SO_MARK)."""
_NFPROTO = {"ip": "ipv4", "ip6": "ipv6"}
_REFUSED = "reject with icmpx admin-prohibited"


class HostTunnelDevice:
    """Implements `towpath.kernel.tunnel.TunnelAttachment`. Needs CAP_NET_ADMIN and CAP_NET_RAW.

    `kill_switch`: whatever the tunnel does not carry stays, but for the loopback and its own datagrams. With `kernel`
    the device is the kernel's WireGuard, where that can be had: `kernel` is then what it is told by, and no packet
    comes out of `queue`; otherwise `None`, and `why_not` says why.
    """

    def __init__(self, name: str, *, kill_switch: bool = False, kernel: bool = False) -> None:
        self._kernel: KernelWireGuardNetwork | None = None
        self.why_not = ""
        self._silent = -1
        if kernel:
            try:
                self._kernel = KernelWireGuardNetwork(name)
            except (FeatureMissing, PermissionMissing) as fault:
                self.why_not = str(fault)
        if self._kernel is not None:
            self.name, self.heads = name, True
            self.queue, self._silent = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        else:
            device = open_tun(name)
            self.name = device.name
            self.heads = device.heads
            self.queue = device.queue
        self._link = TunnelLink(self.name)
        self._plan = NOTHING
        self._own_places: list[str] = []
        self._switch = kill_switch
        self._own: list[str] = [f"udp dport 53 meta mark {_QUESTION_MARK} accept"]
        """Rules that let the tunnel's own datagrams pass."""
        self._held: tuple[tuple[str, int], ...] = ()
        self._table: HostTable | None = None
        if kill_switch:
            try:
                self._table = self._make_table()
            except BaseException:
                self.close()
                raise

    @property
    def kernel(self) -> KernelWireGuardNetwork | None:
        """See `TunnelAttachment.kernel`."""
        return self._kernel

    def _make_table(self) -> HostTable:
        policy = "drop" if self._switch else "accept"
        lines = ["chain own", *self._own, "chain held"]
        lines += [f"chain output type filter hook output priority -10 policy {policy}"]
        lines += [*_STAYS, f"oif {self._link.index} accept", "jump own", *_KEEPS_LINKS]
        return HostTable(_TABLE, [*lines, _REFUSED if self._switch else "jump held"])

    def _let_pass(self, rule: str) -> None:
        if rule not in self._own:
            self._own.append(rule)
            if self._table is not None:
                self._table.change(["chain own", rule])

    def _hold(self, held: tuple[tuple[str, int], ...]) -> None:
        """Refuses what is for these networks and leaves by another way. Raises `HostFault`."""
        if held == self._held:
            return
        if self._table is None:
            self._table = self._make_table()
        self._table.change(["flush held", "chain held", *_refusals(held)])
        self._held = held

    def apply(self, plan: TunnelPlan) -> None:
        """See `TunnelAttachment.apply`. A default route becomes its two halves, which win over another default.

        What is left out is cut out of the routes: the other tables of the host lead there, as before.
        """
        around = plan.around + self._holes(plan)
        kept = [part for route in plan.routes for part in _without(route, around)]
        halves = tuple(dict.fromkeys(half for route in kept for half in _halves(*route)))
        held = tuple(dict.fromkeys(part for route in plan.held for part in _without(route, plan.around)))
        before = self._held
        self._hold(held)
        try:
            if self._kernel is not None:
                self._kernel.apply(plan)
            self._link.apply(plan._replace(routes=halves))
        except HostFault:
            self._hold(before)
            if self._kernel is not None:
                self._kernel.apply(self._plan)
            raise
        self._plan = plan

    def _holes(self, plan: TunnelPlan) -> tuple[tuple[str, int], ...]:
        """What the kernel's WireGuard needs of the host's routes to reach its servers: it is bound to no interface."""
        found = []
        for address in self._own_places:
            network, where = network_around(address, self.name), ip_address(address)
            covering = [ip_network(f"{at}/{prefix}") for at, prefix in plan.routes]
            narrowest = max((one.prefixlen for one in covering if where in one), default=-1)
            found.append(network if network[1] > narrowest else (address, where.max_prefixlen))
        return tuple(dict.fromkeys(found))

    def lead_to(self, places: Sequence[tuple[str, int]], listening: int = 0) -> None:
        """The kernel's WireGuard speaks to these, and to whoever comes to the port `listening`. Raises `HostFault`."""
        self._own_places = list(dict.fromkeys(address for address, _port in places))
        for address, port in places:
            self._let_pass(_to(address, port))
        if listening:
            self._let_pass(f"udp sport {listening} accept")
        if self._plan != NOTHING:
            self.apply(self._plan)

    @property
    def questions(self) -> Callable[[str], socket.socket] | None:
        """See `TunnelAttachment.questions`."""
        return self._open_question if self._switch else None

    def _open_question(self, server: str) -> socket.socket:
        address, _, scope = server.partition("%")
        where = ip_address(address)
        interface = None if where.is_loopback else scope or best_interface(address, self.name)
        return dial_datagram(where.version, server, 53, mark=_QUESTION_MARK, interface=interface)

    def ways(self) -> dict[str, str | None]:
        """By which interface each of these places is reached now."""
        return {address: best_interface(address, self.name) for address in self._own_places}

    def open_link(self, address: str, port: int) -> socket.socket:
        interface = best_interface(address, self.name)
        made = datagram_rows.open_datagram(address, port, interface=interface)
        self._let_pass(_to(address, port))
        return made

    def listen(self, port: int) -> socket.socket:
        made = datagram_rows.serve_datagram(6, port)
        self._let_pass(f"udp sport {made.getsockname()[1]} accept")
        return made

    def has_network(self) -> bool:
        return has_default_route(but=self.name)

    def close(self) -> None:
        if self.queue >= 0:
            os.close(self.queue)
            self.queue = -1
            self._link.close()
            if self._kernel is not None:
                self._kernel.close()
                os.close(self._silent)
            if self._table is not None:
                self._table.close()


def _to(address: str, port: int) -> str:
    return f"{'ip6' if ':' in address else 'ip'} daddr {address} udp dport {port} accept"


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


def _refusals(held: tuple[tuple[str, int], ...]) -> list[str]:
    """A line for each family and length of prefix, so that one look-up answers however many networks there are."""
    by_length: dict[tuple[str, int], list[str]] = {}
    for address, prefix in held:
        by_length.setdefault(("ip6" if ":" in address else "ip", prefix), []).append(f"{address}/{prefix}")
    lines = []
    for (family, prefix), networks in by_length.items():
        there = f"{family} daddr {{ {', '.join(networks)} }}" if prefix else f"meta nfproto {_NFPROTO[family]}"
        lines.append(f"{there} {_REFUSED}")
    return lines


def _halves(address: str, prefix: int) -> list[tuple[str, int]]:
    if prefix:
        return [(address, prefix)]
    return [(str(half.network_address), 1) for half in ip_network(f"{address}/0").subnets()]
