"""Copies of packets that pass (nfnetlink_log): what nft's `log group` tells of. Nothing waits for who reads them."""

from __future__ import annotations

import errno
import socket
import struct

from towpath.errors import HostFault, PeerViolation
from towpath.linux.netlink import NETLINK_NETFILTER, NetlinkSocket, attr, attrs, be32, messages

__all__ = ["PacketLog", "parse_copies"]

_SUBSYSTEM = 4
_PACKET, _CONFIG = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 1
_CFG_CMD, _CFG_MODE, _CFG_QTHRESH = 1, 2, 5
_BIND = 1
_COPY_PACKET = 2
_PAYLOAD = 9
_LONGEST = 4096
_AT_ONCE = 256


class PacketLog:
    """The packets of one log group of this process's network namespace, the first 4 KB of each.

    Copies that are not read in time are lost. Raises `HostFault` when the group is taken.
    """

    def __init__(self, group: int) -> None:
        self._netlink = NetlinkSocket(NETLINK_NETFILTER)
        head = struct.pack(">BBH", 0, 0, group)
        settings = (
            attr(_CFG_CMD, struct.pack(">B", _BIND)),
            attr(_CFG_MODE, struct.pack(">IBx", _LONGEST, _COPY_PACKET)),
            attr(_CFG_QTHRESH, be32(1)),
        )
        try:
            for setting in settings:
                self._netlink.request("bind the packet log", _CONFIG, 0, head + setting)
        except BaseException:
            self._netlink.close()
            raise

    def fileno(self) -> int:
        return self._netlink.fileno()

    def close(self) -> None:
        self._netlink.close()

    def receive(self) -> list[bytes]:
        """Packets from their IP heads on, at most 256. Does not block."""
        found: list[bytes] = []
        for _ in range(_AT_ONCE):
            try:
                data = self._netlink.socket.recv(1 << 16, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise HostFault("read the packet log", error.errno or 0, str(error.strerror)) from None
                continue
            found += parse_copies(data)
        return found


def parse_copies(data: bytes) -> list[bytes]:
    """The packets in one datagram of the log; what lies about a length is left out."""
    try:
        return [
            packet
            for kind, _flags, _sequence, payload in messages(data)
            if kind == _PACKET and (packet := attrs(payload, 4).get(_PAYLOAD))
        ]
    except PeerViolation:
        return []
