"""Brings a tunnel's plan about in the network namespace of this process: what differs, and back when it fails."""

from __future__ import annotations

import errno
from collections.abc import Callable
from ipaddress import ip_interface, ip_network

from towpath.errors import HostFault
from towpath.kernel.tunnel import NOTHING, TunnelPlan
from towpath.linux import rtnetlink
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket

__all__ = ["SUPER_PACKET", "TunnelLink"]

SUPER_PACKET = 59_400
"""Bytes of the largest super-packet: with what a protocol adds to each of its packets, all still leave by one call."""


class TunnelLink:
    """A tunnel's link by its name; `table` is where its routes go."""

    def __init__(self, name: str, *, table: int = 254) -> None:
        self._table = table
        self.plan = NOTHING
        """What is in force."""
        self._up = False
        self._halves: dict[tuple[str, int], list[tuple[str, int]]] = {}
        """Routes that are there as two, because another device has them."""
        self._netlink = NetlinkSocket(NETLINK_ROUTE)
        self.index = rtnetlink.link_index(self._netlink, name)
        try:
            rtnetlink.limit_segmentation(self._netlink, self.index, SUPER_PACKET)
        except HostFault:
            pass  # an older kernel: what is too large is cut by who sends it

    def apply(self, plan: TunnelPlan) -> None:
        """Adds what is new before it takes away what is old. Raises `HostFault`; the old plan is then in force."""
        old = self.plan
        done: list[Callable[[], None]] = []
        try:
            self._add(old, plan, done)
        except HostFault:
            for undo in reversed(done):
                undo()
            raise
        for address, prefix in old.routes:
            if (address, prefix) not in plan.routes:
                self._remove_route(address, prefix)
                self._halves.pop((address, prefix), None)
        for address, prefix in old.addresses:
            if (address, prefix) not in plan.addresses:
                rtnetlink.remove_address(self._netlink, self.index, address, prefix)
        self.plan = plan

    def _add(self, old: TunnelPlan, plan: TunnelPlan, done: list[Callable[[], None]]) -> None:
        netlink, index = self._netlink, self.index
        if plan.mtu != old.mtu or not self._up:
            was = self._up
            rtnetlink.set_link(netlink, index, up=True, mtu=plan.mtu)
            self._up = True
            if was:
                done.append(lambda: rtnetlink.set_link(netlink, index, up=True, mtu=old.mtu))
        for address, prefix in plan.addresses:
            if (address, prefix) not in old.addresses:
                rtnetlink.add_address(netlink, index, address, prefix)
                done.append(lambda a=address, p=prefix: rtnetlink.remove_address(netlink, index, a, p))  # type: ignore[misc]
        for address, prefix in plan.routes:
            if (address, prefix) not in old.routes:
                done.append(lambda a=address, p=prefix: self._remove_route(a, p))  # type: ignore[misc]
                self._add_route(address, prefix, plan)

    def _add_route(self, address: str, prefix: int, plan: TunnelPlan) -> None:
        """Where another device has the very route, its halves win over it, and it is there when they have gone."""
        network = ip_network(f"{address}/{prefix}", strict=False)
        own = any(ip_interface(f"{own}/{length}").network == network for own, length in plan.addresses)
        try:
            self._route(address, prefix, exclusive=not own)
        except HostFault as fault:
            if fault.errno != errno.EEXIST or prefix == network.max_prefixlen:
                raise
            halves = self._halves[address, prefix] = [
                (str(half.network_address), half.prefixlen) for half in network.subnets()
            ]
            for half in halves:
                self._route(*half, exclusive=True)

    def _route(self, address: str, prefix: int, *, exclusive: bool) -> None:
        rtnetlink.add_route(self._netlink, address, prefix, index=self.index, table=self._table, exclusive=exclusive)

    def _remove_route(self, address: str, prefix: int) -> None:
        for part in self._halves.get((address, prefix), [(address, prefix)]):
            try:
                rtnetlink.remove_route(self._netlink, *part, index=self.index, table=self._table)
            except HostFault:
                pass  # it went with an address, or was not made

    def fileno(self) -> int:
        """The descriptor by which it speaks to the kernel."""
        return self._netlink.socket.fileno()

    def close(self) -> None:
        self._netlink.close()
