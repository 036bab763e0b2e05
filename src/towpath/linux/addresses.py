"""The host's own addresses, kept current, and whether it has IPv6 at all (rtnetlink(7))."""

from __future__ import annotations

import socket
import struct

from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket, attrs

_RTM_GETADDR = 22
_GROUP_IPV4_ADDRESS, _GROUP_IPV6_ADDRESS = 0x10, 0x100
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_PROBE6 = ("2001:4860:4860::8888", 53)


class OwnAddresses:
    """The set of this host's addresses, packed. `refresh` when the descriptor is readable."""

    def __init__(self) -> None:
        self._changes = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE)
        self._changes.setblocking(False)
        self._changes.bind((0, _GROUP_IPV4_ADDRESS | _GROUP_IPV6_ADDRESS))
        self.addresses: frozenset[bytes] = frozenset()
        self._read()

    def fileno(self) -> int:
        return self._changes.fileno()

    def refresh(self) -> None:
        """Takes in whatever has changed; messages that were lost do not matter, the table is read anew."""
        try:
            while self._changes.recv(1 << 16):
                pass
        except BlockingIOError:
            pass
        except OSError:
            pass  # ENOBUFS: more changes than the socket could hold
        try:
            self._read()
        except OSError:
            return  # out of descriptors: what was known stays, and `leads_here` asks the kernel anyway

    def _read(self) -> None:
        found = set()
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            for _, body in netlink.dump("list addresses", _RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0)):
                known = attrs(body, 8)
                address = known.get(_IFA_LOCAL) or known.get(_IFA_ADDRESS)
                if address:
                    found.add(address)
        self.addresses = frozenset(found)

    def close(self) -> None:
        self._changes.close()


def leads_here(address: str) -> bool:
    """Whether the routing table delivers `address` to this host, though none of its devices has it (AnyIP)."""
    probe = socket.socket(
        socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
    )
    with probe:
        try:
            probe.connect((address, 9))  # asks the routing table; sends nothing
            return bool(probe.getsockname()[0] == probe.getpeername()[0])
        except OSError:
            return False


def has_ipv6() -> bool:
    """Whether any IPv6 destination outside of this host can be routed."""
    probe = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    with probe:
        try:
            probe.connect(_PROBE6)  # asks the routing table; sends nothing
        except OSError:
            return _has_ipv6_route()
    return True


def _has_ipv6_route() -> bool:
    try:
        with open("/proc/net/ipv6_route", encoding="ascii") as table:
            routes = [line.split() for line in table]
    except OSError:
        return False
    unreachable = 0x0200
    return any(
        route[9] != "lo" and not route[0].startswith(("fe8", "ff")) and not int(route[8], 16) & unreachable
        for route in routes
        if len(route) == 10
    )
