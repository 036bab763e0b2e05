"""Which families of generic netlink this kernel has: a facility that is there announces one by its name.

linux/genetlink.h. All are listed: to ask for one by its name would load its module.
"""

from __future__ import annotations

import struct
from typing import Protocol

from towpath.linux.netlink import NetlinkSocket, attrs

__all__ = ["families", "has_family"]

_NETLINK_GENERIC = 16
_CONTROLLER, _GET_FAMILY, _FAMILY_NAME = 16, 3, 2
_HEAD = struct.Struct("=BBxx")


class _Dumps(Protocol):
    def dump(self, operation: str, kind: int, payload: bytes) -> list[tuple[int, bytes]]: ...


def families(netlink: _Dumps) -> set[str]:
    """The names of all families. Raises `HostFault`, and `PeerViolation` for an answer that is none."""
    found = netlink.dump("list the families of generic netlink", _CONTROLLER, _HEAD.pack(_GET_FAMILY, 1))
    names = (attrs(body, _HEAD.size).get(_FAMILY_NAME, b"") for _kind, body in found)
    return {name.rstrip(b"\0").decode("ascii", "replace") for name in names if name}


def has_family(name: str) -> bool:
    """Whether this kernel has a family loaded or built in. Raises `HostFault`."""
    with NetlinkSocket(_NETLINK_GENERIC) as netlink:
        return name in families(netlink)
