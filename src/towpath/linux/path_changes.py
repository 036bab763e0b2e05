"""Hears that links, addresses or routes of this network have changed (rtnetlink(7)), and nothing of how."""

from __future__ import annotations

import socket

from towpath.linux.netlink import NETLINK_ROUTE

__all__ = ["PathChanges"]

_LINK, _IPV4_ADDRESS, _IPV4_ROUTE, _IPV6_ADDRESS, _IPV6_ROUTE = 0x1, 0x10, 0x40, 0x100, 0x400


class PathChanges:
    """Readable when something has changed; `drain` before looking at what is so now."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, NETLINK_ROUTE
        )
        # Bound to a number of the kernel's choice, which takes messages of the kernel alone.
        self._socket.bind((0, _LINK | _IPV4_ADDRESS | _IPV4_ROUTE | _IPV6_ADDRESS | _IPV6_ROUTE))

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> None:
        """Forgets what was heard; what overflowed counts as heard."""
        while True:
            try:
                if not self._socket.recv(1 << 16):
                    return
            except BlockingIOError:
                return
            except OSError:
                continue

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._socket.close()
