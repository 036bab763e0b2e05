"""Links, addresses and routes by rtnetlink(7): what a scope needs, and nothing of what it does not.

Every function takes the request socket of the network namespace it works in.
"""

from __future__ import annotations

import socket
import struct
import sys

from towpath.linux.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REPLACE,
    NetlinkSocket,
    attr,
    attrs,
    nested,
    text,
    u32,
)

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR = 20, 21
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_GSO_MAX_SIZE, _IFLA_GSO_IPV4_MAX_SIZE = 41, 63
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_NODAD = 0x02
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_TABLE = 1, 4, 5, 6, 7, 15
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_RTPROT_STATIC = 4
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_HOST, _RT_SCOPE_NOWHERE = 0, 253, 254, 255
_RTN_UNICAST, _RTN_LOCAL, _RTN_UNREACHABLE = 1, 2, 7
_IFF_UP, _IFF_NOARP = 0x1, 0x80

LOOPBACK_INDEX = 1
_LAST_METRIC = 0xFFFFFFFE


def packed(address: str) -> tuple[int, bytes]:
    """`(address family, bytes)` of a literal address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)


def _ifinfo(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def links(netlink: NetlinkSocket) -> dict[str, int]:
    """The index of every link by its name."""
    found = {}
    for _, body in netlink.dump("list links", _RTM_GETLINK, _ifinfo()):
        name = attrs(body, 16).get(_IFLA_IFNAME, b"").rstrip(b"\0").decode()
        found[name] = int(struct.unpack_from("=i", body, 4)[0])
    return found


def link_index(netlink: NetlinkSocket, name: str) -> int:
    """The index of the link called `name`, 0 when there is none."""
    return links(netlink).get(name, 0)


def set_link(netlink: NetlinkSocket, index: int, *, up: bool, mtu: int | None = None) -> None:
    extra = attr(_IFLA_MTU, u32(mtu)) if mtu else b""
    netlink.request(
        f"set link {index} {'up' if up else 'down'}",
        _RTM_NEWLINK,
        0,
        _ifinfo(index, _IFF_UP if up else 0, _IFF_UP) + extra,
    )


def limit_segmentation(netlink: NetlinkSocket, index: int, most: int) -> None:
    """Super-packets of a link are no larger than `most` bytes. Raises `HostFault` where the kernel is too old."""
    extra = attr(_IFLA_GSO_MAX_SIZE, u32(most))
    netlink.request(f"limit link {index}", _RTM_NEWLINK, 0, _ifinfo(index) + extra)
    extra = attr(_IFLA_GSO_IPV4_MAX_SIZE, u32(most))
    netlink.request(f"limit link {index}", _RTM_NEWLINK, 0, _ifinfo(index) + extra)


def set_master(netlink: NetlinkSocket, index: int, master: int) -> None:
    """Puts a link into the bridge `master`."""
    netlink.request(
        f"put link {index} into {master}", _RTM_NEWLINK, 0, _ifinfo(index) + attr(_IFLA_MASTER, u32(master))
    )


def add_veth(netlink: NetlinkSocket, name: str, namespace: int, peer: str, peer_namespace: int) -> None:
    """Makes a pair of links, each in the network namespace behind its descriptor."""
    here = attr(_IFLA_IFNAME, text(name)) + attr(_IFLA_NET_NS_FD, u32(namespace))
    there = attr(_IFLA_IFNAME, text(peer)) + attr(_IFLA_NET_NS_FD, u32(peer_namespace))
    info = nested(_IFLA_LINKINFO, attr(_INFO_KIND, b"veth"), nested(_INFO_DATA, attr(_VETH_PEER, _ifinfo() + there)))
    netlink.request(f"make link {name}", _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _ifinfo() + here + info)


def add_link(netlink: NetlinkSocket, name: str, kind: str, namespace: int) -> None:
    """Makes a link of a `kind` in the namespace behind a descriptor, as a child of the socket's namespace."""
    here = attr(_IFLA_IFNAME, text(name)) + attr(_IFLA_NET_NS_FD, u32(namespace))
    info = nested(_IFLA_LINKINFO, attr(_INFO_KIND, kind.encode()))
    netlink.request(f"make link {name} ({kind})", _RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, _ifinfo() + here + info)


def set_pointed(netlink: NetlinkSocket, index: int, hardware: bytes) -> None:
    """Gives a link this hardware address, and looks for no neighbours on it: both ends of a pair have the same."""
    body = _ifinfo(index, _IFF_NOARP, _IFF_NOARP) + attr(_IFLA_ADDRESS, hardware)
    netlink.request(f"make link {index} look for no neighbours", _RTM_NEWLINK, 0, body)


def add_bridge(netlink: NetlinkSocket, name: str) -> None:
    info = nested(_IFLA_LINKINFO, attr(_INFO_KIND, b"bridge"))
    netlink.request(
        f"make bridge {name}",
        _RTM_NEWLINK,
        NLM_F_CREATE | NLM_F_EXCL,
        _ifinfo() + attr(_IFLA_IFNAME, text(name)) + info,
    )


def add_address(netlink: NetlinkSocket, index: int, address: str, prefix: int, *, replace: bool = False) -> None:
    """Adds an address; IPv6 without duplicate address detection, so that it can be used at once.

    One that is there already is an error unless it may be replaced.
    """
    family, raw = packed(address)
    scope = _RT_SCOPE_UNIVERSE
    netlink.request(
        f"add address {address}/{prefix}",
        _RTM_NEWADDR,
        NLM_F_CREATE | (NLM_F_REPLACE if replace else NLM_F_EXCL),
        struct.pack("=BBBBI", family, prefix, 0, scope, index)
        + attr(_IFA_LOCAL, raw)
        + attr(_IFA_ADDRESS, raw)
        + attr(_IFA_FLAGS, u32(_IFA_F_NODAD)),
    )


def remove_address(netlink: NetlinkSocket, index: int, address: str, prefix: int) -> None:
    family, raw = packed(address)
    netlink.request(
        f"remove address {address}/{prefix}",
        _RTM_DELADDR,
        0,
        struct.pack("=BBBBI", family, prefix, 0, _RT_SCOPE_UNIVERSE, index)
        + attr(_IFA_LOCAL, raw)
        + attr(_IFA_ADDRESS, raw),
    )


def remove_route(
    netlink: NetlinkSocket, destination: str, prefix: int, *, index: int, table: int = _RT_TABLE_MAIN
) -> None:
    family, raw = packed(destination)
    body = struct.pack("=BBBBBBBBI", family, prefix, 0, 0, 0, 0, _RT_SCOPE_NOWHERE, 0, 0)
    if prefix:
        body += attr(_RTA_DST, raw)
    body += attr(_RTA_OIF, u32(index)) + attr(_RTA_TABLE, u32(table))
    netlink.request(f"remove route {destination}/{prefix}", _RTM_DELROUTE, 0, body)


def add_route(
    netlink: NetlinkSocket,
    destination: str,
    prefix: int,
    *,
    index: int | None = None,
    gateway: str | None = None,
    source: str | None = None,
    metric: int | None = None,
    local: bool = False,
    table: int | None = None,
    exclusive: bool = False,
) -> None:
    """Adds or replaces a route; `local` makes every address of the prefix an address of this host (AnyIP).

    An `exclusive` one does not replace: where there is such a route, `HostFault` with EEXIST is raised.
    """
    family, raw = packed(destination)
    scope = _RT_SCOPE_HOST if local else _RT_SCOPE_UNIVERSE if gateway else _RT_SCOPE_LINK
    body = struct.pack(
        "=BBBBBBBBI",
        family,
        prefix,
        0,
        0,
        _RT_TABLE_LOCAL if local else _RT_TABLE_MAIN,
        _RTPROT_STATIC,
        scope,
        _RTN_LOCAL if local else _RTN_UNICAST,
        0,
    )
    if prefix:
        body += attr(_RTA_DST, raw)
    if index is not None:
        body += attr(_RTA_OIF, u32(index))
    if gateway is not None:
        body += attr(_RTA_GATEWAY, packed(gateway)[1])
    if source is not None:
        body += attr(_RTA_PREFSRC, packed(source)[1])
    if metric is not None:
        body += attr(_RTA_PRIORITY, u32(metric))
    if table is not None:
        body += attr(_RTA_TABLE, u32(table))
    flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else NLM_F_REPLACE)
    netlink.request(f"add route {destination}/{prefix}", _RTM_NEWROUTE, flags, body)


def route_interface(netlink: NetlinkSocket, address: str) -> int:
    """The index of the interface by which the kernel would send to an address. Raises `HostFault`."""
    family, raw = packed(address)
    body = struct.pack("=BBBBBBBBI", family, 8 * len(raw), 0, 0, 0, 0, 0, 0, 0) + attr(_RTA_DST, raw)
    found = attrs(netlink.fetch(f"ask for the route to {address}", _RTM_GETROUTE, body)[12:])
    return int.from_bytes(found[_RTA_OIF], sys.byteorder)


def add_unreachable(netlink: NetlinkSocket, family: int) -> None:
    """Makes what no other route takes unreachable: senders are told so (EHOSTUNREACH) instead of left waiting."""
    netlink.request(
        "add unreachable default route",
        _RTM_NEWROUTE,
        NLM_F_CREATE | NLM_F_REPLACE,
        struct.pack(
            "=BBBBBBBBI",
            family,
            0,
            0,
            0,
            _RT_TABLE_MAIN,
            _RTPROT_STATIC,
            _RT_SCOPE_UNIVERSE,
            _RTN_UNREACHABLE,
            0,
        )
        + attr(_RTA_PRIORITY, u32(_LAST_METRIC)),
    )
