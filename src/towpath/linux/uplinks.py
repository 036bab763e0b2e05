"""By which interface a place is reached that lies outside of a tunnel: routes of links that carry nothing do not count.

The kernel keeps a route whose link has lost its carrier, and goes on sending there, until somebody takes it away.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from towpath.errors import HostFault
from towpath.linux import datagram_rows, rtnetlink
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket

__all__ = ["best_interface", "has_default_route", "is_running", "network_around", "open_uplink"]

_SIOCGIFFLAGS = 0x8913
_RUNNING = 0x1 | 0x40


class _Route(NamedTuple):
    version: int
    network: int
    prefix: int
    metric: int
    interface: str


def is_running(name: str) -> bool:
    """Whether an interface is up and has a carrier (netdevice(7), IFF_RUNNING)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as made:
        try:
            found = fcntl.ioctl(made, _SIOCGIFFLAGS, struct.pack("=16sH14x", name.encode(), 0))
        except OSError:
            return False
    return int(struct.unpack_from("=16xH", found)[0]) & _RUNNING == _RUNNING


def best_interface(address: str, but: str = "") -> str | None:
    """The interface by which `address` is reached when `but` is left out of account; `None` when there is none."""
    best = _best(address, but)
    return best.interface if best is not None else None


def network_around(address: str, but: str = "") -> tuple[str, int]:
    """The network of the route by which `address` is reached without `but`; the address alone, by a default route."""
    where, best = ip_address(address), _best(address, but)
    if best is None or best.prefix <= 1:
        return address, where.max_prefixlen
    kind = IPv4Address if best.version == 4 else IPv6Address
    return str(kind(best.network)), best.prefix


def _best(address: str, but: str) -> _Route | None:
    where = ip_address(address)
    shift = where.max_prefixlen
    found = [
        route
        for route in _routes(where.version)
        if int(where) >> shift - route.prefix == route.network >> shift - route.prefix
        and route.interface not in (but, "lo")
        and is_running(route.interface)
    ]
    return max(found, key=lambda route: (route.prefix, -route.metric), default=None)


def has_default_route(but: str = "") -> bool:
    """Whether any place outside could be reached: a default route of either family, by another interface than `but`."""
    return any(
        not route.prefix and route.interface not in (but, "lo") and is_running(route.interface)
        for version in (4, 6)
        for route in _routes(version)
    )


def open_uplink(address: str, port: int) -> socket.socket:
    """UDP to a server by the kernel's choice of interface; where that one carries nothing, by the best that does.

    Raises `OSError`.
    """
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        chosen = socket.if_indextoname(rtnetlink.route_interface(netlink, address))
    other = best_interface(address, chosen) if not is_running(chosen) else None
    if other is not None:
        try:
            return datagram_rows.open_datagram(address, port, interface=other)
        except PermissionError:
            pass  # an older kernel binds to an interface for administrators alone
    return datagram_rows.open_datagram(address, port)


def _routes(version: int) -> list[_Route]:
    path = "/proc/net/route" if version == 4 else "/proc/net/ipv6_route"
    try:
        with open(path, encoding="ascii") as file:
            rows = [line.split() for line in file]
    except FileNotFoundError:
        return []  # a kernel without this family
    except OSError as error:
        raise HostFault("read the routes", error.errno or 0, f"{path}: {error.strerror}") from None
    found = []
    for row in rows:
        if version == 4:
            if len(row) < 8 or row[0] == "Iface" or not int(row[3], 16) & 1:
                continue
            destination, mask = (int.from_bytes(bytes.fromhex(row[n]), "little") for n in (1, 7))
            found.append(_Route(4, destination, mask.bit_count(), int(row[6]), row[0]))
        elif len(row) == 10 and not int(row[8], 16) & 0x200:
            found.append(_Route(6, int(row[0], 16), int(row[1], 16), int(row[5], 16), row[9]))
    return found
