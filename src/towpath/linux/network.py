"""The answer to `towpath.kernel.network.Network`: dumps, notices and one question, by rtnetlink(7).

What is metered is the one fact that the kernel does not have; NetworkManager may.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
from dataclasses import replace
from pathlib import Path

from towpath.errors import HostFault
from towpath.kernel.network import ANY_NETWORK, Address, LinkFacts, NetworkFacts, RouteFacts
from towpath.linux.devices import describe
from towpath.linux.metering import Metering, shared_metering
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket, attr, u32
from towpath.linux.network_messages import (
    TABLE_MAIN,
    matters,
    parse_address,
    parse_link,
    parse_route,
    route_table,
)

__all__ = ["LinuxChanges", "LinuxNetwork"]

_GETLINK, _GETADDR, _GETROUTE = 18, 22, 26
_EXTENSION_MASK, _SKIP_STATISTICS = 29, 8
_RTA_DST, _RTA_OIF = 1, 4
_LINK_NOTICES, _ADDRESS_NOTICES, _ROUTE_NOTICES, _RULE_NOTICES = 0x1, 0x10 | 0x100, 0x40 | 0x400, 0x80 | 1 << 18
_DATAGRAM = 1 << 17
_AT_ONCE = 256
_CLONED = 0x200
_RESOLVER_FILE = Path("/etc/resolv.conf")


class LinuxNetwork:
    """The network namespace of the calling process; with a `metering` of its own or the process's one."""

    def __init__(self, metering: Metering | None = None) -> None:
        self._own_metering = metering

    @property
    def _metering(self) -> Metering:
        return shared_metering() if self._own_metering is None else self._own_metering

    def read(self) -> NetworkFacts:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            extension = attr(_EXTENSION_MASK, u32(_SKIP_STATISTICS))
            links = [parse_link(body) for _, body in netlink.dump("list links", _GETLINK, bytes(16) + extension)]
            addresses = [parse_address(body) for _, body in netlink.dump("list addresses", _GETADDR, bytes(8))]
            routes = [
                parse_route(body)
                for _, body in netlink.dump("list routes", _GETROUTE, bytes(12))
                if body[1:2] == b"\0" and route_table(body) == TABLE_MAIN and not _cloned(body)
            ]
        return NetworkFacts(
            links=tuple(sorted((self._whole(describe(link)) for link in links), key=lambda link: link.index)),
            addresses=tuple(
                sorted(
                    (address for address in addresses if address is not None),
                    key=lambda found: (found.index, found.address.version, int(found.address), found.prefix),
                )
            ),
            routes=tuple(
                sorted(
                    (route for route in routes if route is not None and route.destination in ANY_NETWORK.values()),
                    key=lambda route: (route.destination.version, route.metric, [hop.index for hop in route.hops]),
                )
            ),
            resolvers=_resolvers(_RESOLVER_FILE),
        )

    def changes(self, *, every_route: bool = False) -> LinuxChanges:
        return LinuxChanges(self._metering, every_route=every_route)

    def _whole(self, link: LinkFacts) -> LinkFacts:
        return replace(link, metered=self._metering.of(link.name, link.hardware_address))

    def route_to(self, address: Address, index: int = 0) -> RouteFacts:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        body = struct.pack("=BBBBBBBBI", family, address.max_prefixlen, 0, 0, 0, 0, 0, 0, 0)
        body += attr(_RTA_DST, address.packed)
        if index:
            body += attr(_RTA_OIF, u32(index))
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            route = parse_route(netlink.fetch(f"ask for the route to {address}", _GETROUTE, body))
        if route is None:
            raise HostFault(f"ask for the route to {address}", errno.EPROTO, "the answer is of another family")
        return route


class LinuxChanges:
    """Notices of links, addresses and routes; what the kernel could not queue (ENOBUFS) counts as a change.

    And those of what is metered: an epoll(7) makes one descriptor of both.
    """

    def __init__(self, metering: Metering, *, every_route: bool) -> None:
        self._every_route = every_route
        self.socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_ROUTE
        )
        rules = _RULE_NOTICES if every_route else 0
        self.socket.bind((0, _LINK_NOTICES | _ADDRESS_NOTICES | _ROUTE_NOTICES | rules))
        self._metered = metering.changes()
        self._either = select.epoll()
        self._either.register(self.socket, select.EPOLLIN)
        self._either.register(self._metered, select.EPOLLIN)

    def fileno(self) -> int:
        return -1 if self._either.closed else self._either.fileno()

    def drain(self) -> bool:
        changed = self._metered.drain()
        # Bounded, so that a storm of notices cannot hold the caller; the descriptor stays readable meanwhile.
        for _ in range(_AT_ONCE):
            try:
                data = self.socket.recv(_DATAGRAM)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                changed = True
                continue
            changed = changed or self._every_route or matters(data)
        return changed

    def close(self) -> None:
        self._either.close()
        self._metered.close()
        self.socket.close()


def _cloned(body: bytes) -> bool:
    """Whether this is a remembered exception (a path MTU, a redirect) to a route, and not a route."""
    return len(body) >= 12 and bool(int(struct.unpack_from("=I", body, 8)[0]) & _CLONED)


def _resolvers(path: Path) -> tuple[str, ...]:
    """The name servers of resolv.conf(5)."""
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return ()
    words = [line.split() for line in lines]
    return tuple(line[1] for line in words if len(line) > 1 and line[0] == "nameserver")
