"""Links, addresses and routes from the bodies of rtnetlink(7) messages: bytes to facts, pure.

Every length is checked; a body that lies is a `PeerViolation`. Numbers are those of linux/if.h, linux/if_arp.h,
linux/if_addr.h and linux/rtnetlink.h; some differ from those of other systems (IFF_MULTICAST), so none leaves this
module.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from towpath.errors import PeerViolation
from towpath.kernel.network import (
    Address,
    AddressFacts,
    AddressFlag,
    Hop,
    LinkFacts,
    LinkFlag,
    Operational,
    RouteFacts,
    RouteKind,
)
from towpath.linux.netlink import attrs, messages

__all__ = ["matters", "parse_address", "parse_link", "parse_route", "route_table"]

NEWROUTE, DELROUTE = 24, 25
TABLE_MAIN = 254

_LINK, _ADDRESS, _ROUTE = struct.Struct("=BxHiII"), struct.Struct("=BBBBI"), struct.Struct("=BBBBBBBBI")
_NEXT_HOP, _U32 = struct.Struct("=HBBi"), struct.Struct("=I")

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_OPERSTATE, _IFLA_LINKINFO, _IFLA_PARENT_DEVICE = 1, 3, 4, 16, 18, 56
_INFO_KIND = 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = (
    1, 4, 5, 6, 7, 9, 15, 18,
)  # fmt: skip

_LINK_FLAGS = {
    0x1: LinkFlag.UP,
    0x2: LinkFlag.BROADCAST,
    0x4: LinkFlag.DEBUG,
    0x8: LinkFlag.LOOPBACK,
    0x10: LinkFlag.POINT_TO_POINT,
    0x40: LinkFlag.RUNNING,
    0x80: LinkFlag.NO_ARP,
    0x100: LinkFlag.PROMISCUOUS,
    0x200: LinkFlag.ALL_MULTICAST,
    0x400: LinkFlag.MASTER,
    0x800: LinkFlag.SLAVE,
    0x1000: LinkFlag.MULTICAST,
    0x2000: LinkFlag.PORT_SELECT,
    0x4000: LinkFlag.AUTO_MEDIA,
    0x8000: LinkFlag.DYNAMIC,
    0x10000: LinkFlag.LOWER_UP,
    0x20000: LinkFlag.DORMANT,
    0x40000: LinkFlag.ECHO,
}
_ADDRESS_FLAGS = {
    0x4: AddressFlag.OPTIMISTIC,
    0x8: AddressFlag.DUPLICATE,
    0x20: AddressFlag.DEPRECATED,
    0x40: AddressFlag.TENTATIVE,
    0x80: AddressFlag.PERMANENT,
    0x800: AddressFlag.STABLE_PRIVACY,
}
_SECONDARY_OR_TEMPORARY = 0x1
_OPERATIONAL = tuple(Operational)
_HARDWARE = {
    1: "ether",
    32: "infiniband",
    280: "can",
    512: "ppp",
    519: "rawip",
    768: "tunnel",
    769: "tunnel6",
    772: "loopback",
    776: "sit",
    778: "ipgre",
    801: "ieee80211",
    802: "ieee80211-prism",
    803: "ieee80211-radiotap",
    804: "ieee802154",
    823: "ip6gre",
    824: "netlink",
    65534: "none",
}
_ROUTE_KINDS = (
    RouteKind.OTHER,
    RouteKind.UNICAST,
    RouteKind.LOCAL,
    RouteKind.BROADCAST,
    RouteKind.ANYCAST,
    RouteKind.MULTICAST,
    RouteKind.BLACKHOLE,
    RouteKind.UNREACHABLE,
    RouteKind.PROHIBIT,
)


def parse_link(body: bytes) -> LinkFacts:
    """One link, without the description of its device. Raises `PeerViolation`."""
    _family, hardware, index, flags, _change = _header(_LINK, body)
    found = attrs(body, _LINK.size)
    name = os.fsdecode(found.get(_IFLA_IFNAME, b"").rstrip(b"\0"))
    if not name or index <= 0:
        raise PeerViolation("rtnetlink-link", f"link {index} called {name!r}")
    info = attrs(found.get(_IFLA_LINKINFO, b""))
    raw = found.get(_IFLA_ADDRESS, b"")
    state = found.get(_IFLA_OPERSTATE, b"\0")[:1]
    return LinkFacts(
        index=index,
        name=name,
        flags=frozenset(word for bit, word in _LINK_FLAGS.items() if flags & bit),
        hardware=_HARDWARE.get(hardware, f"hardware-{hardware}"),
        kind=os.fsdecode(info.get(_INFO_KIND, b"").rstrip(b"\0")) or None,
        operational=_OPERATIONAL[state[0]] if state and state[0] < len(_OPERATIONAL) else Operational.UNKNOWN,
        mtu=_number(found, _IFLA_MTU),
        hardware_address=raw.hex(":") or None,
        has_device=_IFLA_PARENT_DEVICE in found,
    )


def parse_address(body: bytes) -> AddressFacts | None:
    """One address; `None` where it is of a family that is not IP. Raises `PeerViolation`."""
    family, prefix, flags, _scope, index = _header(_ADDRESS, body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = attrs(body, _ADDRESS.size)
    # IFA_LOCAL is the own address and IFA_ADDRESS the peer's; where there is no peer, IPv6 gives only the latter.
    other = found.get(_IFA_ADDRESS)
    own = found.get(_IFA_LOCAL, other)
    if own is None:
        raise PeerViolation("rtnetlink-address", "an address message without an address")
    address = _address(family, own)
    peer = _address(family, other) if other is not None and other != own else None
    if prefix > address.max_prefixlen:
        raise PeerViolation("rtnetlink-address", f"a prefix of {prefix} bits")
    wide = _number(found, _IFA_FLAGS)
    flags = flags if wide is None else wide
    words = {word for bit, word in _ADDRESS_FLAGS.items() if flags & bit}
    if flags & _SECONDARY_OR_TEMPORARY:
        words.add(AddressFlag.SECONDARY if family == socket.AF_INET else AddressFlag.TEMPORARY)
    broadcast = _address(family, found[_IFA_BROADCAST]) if _IFA_BROADCAST in found else None
    return AddressFacts(
        index, address, prefix, peer, broadcast if isinstance(broadcast, IPv4Address) else None, frozenset(words)
    )


def parse_route(body: bytes) -> RouteFacts | None:
    """One route; `None` where it is of a family that is not IP. Raises `PeerViolation`."""
    family, prefix, _source, _tos, _table, _protocol, _scope, kind, _flags = _header(_ROUTE, body)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = attrs(body, _ROUTE.size)
    return RouteFacts(
        destination=_network(family, found.get(_RTA_DST), prefix),
        kind=_ROUTE_KINDS[kind] if kind < len(_ROUTE_KINDS) else RouteKind.OTHER,
        hops=tuple(_hops(family, found)),
        metric=_number(found, _RTA_PRIORITY) or 0,
        source=_address(family, found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None,
    )


def route_table(body: bytes) -> int:
    """The routing table that a route is in. Raises `PeerViolation`."""
    table: int = _header(_ROUTE, body)[4]
    wide = _number(attrs(body, _ROUTE.size), _RTA_TABLE)
    return table if wide is None else wide


def matters(data: bytes) -> bool:
    """Whether a datagram of notices can change the facts: of routes, only default ones are among them.

    A router learns and forgets routes all day; each would otherwise be a reason to read everything again.
    Raises `PeerViolation`.
    """
    return any(kind not in (NEWROUTE, DELROUTE) or body[1:2] == b"\0" for kind, _, _, body in messages(data))


def _header(layout: struct.Struct, body: bytes) -> tuple[int, ...]:
    if len(body) < layout.size:
        raise PeerViolation("rtnetlink-length", f"a body of {len(body)} bytes, shorter than its header")
    return layout.unpack_from(body)


def _number(found: dict[int, bytes], kind: int) -> int | None:
    raw = found.get(kind)
    if raw is None:
        return None
    if len(raw) != 4:
        raise PeerViolation("rtnetlink-number", f"attribute {kind} has {len(raw)} bytes")
    return int(_U32.unpack(raw)[0])


def _address(family: int, raw: bytes) -> Address:
    if len(raw) != (4 if family == socket.AF_INET else 16):
        raise PeerViolation("rtnetlink-address", f"an address of {len(raw)} bytes")
    return IPv4Address(raw) if family == socket.AF_INET else IPv6Address(raw)


def _network(family: int, raw: bytes | None, prefix: int) -> IPv4Network | IPv6Network:
    address = _address(family, raw if raw is not None else bytes(4 if family == socket.AF_INET else 16))
    if prefix > address.max_prefixlen:
        raise PeerViolation("rtnetlink-route", f"a prefix of {prefix} bits")
    if isinstance(address, IPv4Address):
        return IPv4Network((address, prefix), strict=False)
    return IPv6Network((address, prefix), strict=False)


def _hops(family: int, found: dict[int, bytes]) -> Iterable[Hop]:
    index = _number(found, _RTA_OIF)
    if index is not None:
        yield Hop(index, _gateway(family, found))
    rest = found.get(_RTA_MULTIPATH, b"")
    while rest:
        if len(rest) < _NEXT_HOP.size:
            raise PeerViolation("rtnetlink-next-hop", f"{len(rest)} bytes left")
        length, _flags, _weight, link = _NEXT_HOP.unpack_from(rest)
        if not _NEXT_HOP.size <= length <= len(rest):
            raise PeerViolation("rtnetlink-next-hop", f"{length} bytes of {len(rest)}")
        yield Hop(link, _gateway(family, attrs(rest[:length], _NEXT_HOP.size)))
        rest = rest[(length + 3) & ~3 :]


def _gateway(family: int, found: dict[int, bytes]) -> Address | None:
    if _RTA_GATEWAY in found:
        return _address(family, found[_RTA_GATEWAY])
    via = found.get(_RTA_VIA)
    if via is None:
        return None
    if len(via) not in (6, 18):
        raise PeerViolation("rtnetlink-gateway", f"{len(via)} bytes")
    return _address(socket.AF_INET if len(via) == 6 else socket.AF_INET6, via[2:])
