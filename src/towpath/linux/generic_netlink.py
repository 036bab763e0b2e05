"""Which families of generic netlink this kernel has: a facility that is there announces one by its name.

linux/genetlink.h. To ask for one by its name loads its module; to list all does not.
"""

from __future__ import annotations

import errno
import struct
import sys
from typing import Protocol

from towpath.errors import HostFault
from towpath.linux.netlink import NetlinkSocket, attr, attrs, text

__all__ = ["NETLINK_GENERIC", "families", "family_number", "has_family"]

NETLINK_GENERIC = 16
_CONTROLLER, _GET_FAMILY, _FAMILY_NUMBER, _FAMILY_NAME = 16, 3, 1, 2
_HEAD = struct.Struct("=BBxx")


class _Dumps(Protocol):
    def dump(self, operation: str, kind: int, payload: bytes) -> list[tuple[int, bytes]]: ...


class _Fetches(Protocol):
    def fetch(self, operation: str, kind: int, payload: bytes) -> bytes: ...


def families(netlink: _Dumps) -> set[str]:
    """The names of all families. Raises `HostFault`, and `PeerViolation` for an answer that is none."""
    found = netlink.dump("list the families of generic netlink", _CONTROLLER, _HEAD.pack(_GET_FAMILY, 1))
    names = (attrs(body, _HEAD.size).get(_FAMILY_NAME, b"") for _kind, body in found)
    return {name.rstrip(b"\0").decode("ascii", "replace") for name in names if name}


def family_number(netlink: _Fetches, name: str) -> int:
    """The message type of a family, whose module is loaded for it. Raises `HostFault` where there is none."""
    operation = f"ask for the family {name} of generic netlink"
    body = netlink.fetch(operation, _CONTROLLER, _HEAD.pack(_GET_FAMILY, 1) + attr(_FAMILY_NAME, text(name)))
    number = attrs(body, _HEAD.size).get(_FAMILY_NUMBER, b"")
    if len(number) != 2:
        raise HostFault(operation, errno.EPROTO, "the answer names no number")
    return int.from_bytes(number, sys.byteorder)


def has_family(name: str) -> bool:
    """Whether this kernel has a family loaded or built in. Raises `HostFault`."""
    with NetlinkSocket(NETLINK_GENERIC) as netlink:
        return name in families(netlink)
