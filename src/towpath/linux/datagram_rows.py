"""UDP in the largest units that the kernel makes: rows of datagrams in one call. udp(7), ip(7), recvmmsg(2)."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Sequence

from towpath.linux.datagram_intake import Intake, Row

__all__ = ["Buffer", "DatagramSocket", "open_datagram", "serve_datagram"]

Buffer = bytes | bytearray | memoryview

_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _DO_NOT_DISCOVER = 10, 23, 0
_IP_MTU, _IPV6_MTU = 14, 24
_SO_MARK, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 36, 32, 33
_ROOM = 8 << 20
_MOST_SEGMENTS = 64
_MOST_BYTES = 65_000
_MOST_PARTS = 1024
"""IOV_MAX."""
_CANNOT = (errno.EINVAL, errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE)


def open_datagram(address: str, port: int, *, mark: int = 0, interface: str | None = None) -> socket.socket:
    """A UDP socket connected to a server; packets with `mark` are routed by rules for it. Raises `OSError`."""
    made = _make(socket.AF_INET6 if ":" in address else socket.AF_INET, mark, interface)
    try:
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def serve_datagram(version: int, port: int, *, mark: int = 0) -> socket.socket:
    """A UDP socket on a port of every address; of version 6 it takes IPv4 as well. Raises `OSError`."""
    made = _make(socket.AF_INET6 if version == 6 else socket.AF_INET, mark, None)
    try:
        if version == 6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(("", port))
    except OSError:
        made.close()
        raise
    return made


def _make(family: socket.AddressFamily, mark: int, interface: str | None) -> socket.socket:
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    # Routers may cut these packets: a path that drops what is too long, and says nothing, is then no black hole.
    made.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _DO_NOT_DISCOVER)
    if family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _DO_NOT_DISCOVER)
    for forced, option in ((_SO_RCVBUFFORCE, socket.SO_RCVBUF), (_SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            made.setsockopt(socket.SOL_SOCKET, forced, _ROOM)
        except OSError:
            made.setsockopt(socket.SOL_SOCKET, option, _ROOM)
    if mark:
        made.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
    if interface is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    return made


class DatagramSocket:
    """Rows of datagrams, both ways, never waiting. `segments` and `coalesces` say what the kernel does of it.

    Both can be refused on making, for a kernel that has neither. The buffer is used again by the next `receive`.
    """

    def __init__(self, made: socket.socket, *, segments: bool = True, coalesces: bool = True) -> None:
        self.socket = made
        self.segments = segments
        self.coalesces = coalesces
        if coalesces:
            try:
                made.setsockopt(_SOL_UDP, _UDP_GRO, 1)
            except OSError:
                self.coalesces = False
        self._intake = Intake(made, coalesces=self.coalesces)
        self._segment = 0
        self.refused = 0
        """Datagrams that the kernel would not send, or that were refused on the way; `trouble` is why the last was."""
        self.trouble = ""

    @property
    def drained(self) -> bool:
        """Whether the last `receive` has shown that there is nothing more."""
        return self._intake.drained

    def receive(self) -> Row | None:
        """A row of datagrams: the bytes, the size of each, and the sender. `None` when none is left.

        Raises `OSError` for a socket that is closed.
        """
        while True:
            try:
                return self._intake.receive()
            except OSError as error:
                if error.errno in (errno.EBADF, errno.ENOTSOCK):
                    raise
                self._refuse(error)  # an ICMP error about what was sent: the socket is as good as before

    def send(self, parts: Sequence[Buffer], size: int, to: tuple[str, int] | None, total: int = 0) -> Buffer | None:
        """Sends `parts`, joined, as datagrams of `size` bytes, 0 for a single one.

        Gives back what found no room, to be sent in the same way later; `None` when there is nothing left. A row that
        is longer than what the kernel takes goes in pieces. What cannot be sent at all is counted. `total` is the
        length of all parts, where it is known.
        """
        total = total or sum(map(len, parts))
        if not size or total <= size:
            return None if self._send_one(parts, total, to) else b"".join(parts)
        most = min(_MOST_SEGMENTS, max(1, _MOST_BYTES // size)) * size
        if total <= most and self.segments and len(parts) <= _MOST_PARTS:
            sent = self._send_row(parts, size, to)
            if sent is not None:
                return None if sent else b"".join(parts)
        data = memoryview(b"".join(parts))
        while data:
            step = size
            sent = None
            if self.segments and len(data) > size:
                step = most
                sent = self._send_row((data[:step],), size, to)
                if sent is None:
                    step = size
            if sent is None:
                sent = self._send_one((data[:step],), min(step, len(data)), to)
            if not sent:
                return data
            data = data[step:]
        return None

    def _send_row(self, parts: Sequence[Buffer], size: int, to: tuple[str, int] | None) -> bool | None:
        """False when there is no room now; `None`, and nothing sent, where it has to be done one by one."""
        try:
            if to is None:
                self._cut_at(size)
                os.writev(self.socket.fileno(), parts)
            else:
                ancillary = [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", size))]
                self.socket.sendmsg(parts, ancillary, 0, self._address(to))
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in _CANNOT:
                self._refuse(error)
                return True
            if error.errno in (errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EIO):
                self.segments = False
            return None
        return True

    def _send_one(self, parts: Sequence[Buffer], length: int, to: tuple[str, int] | None) -> bool:
        try:
            if to is None:
                if self._segment and length > self._segment:
                    self._cut_at(0)
                os.writev(self.socket.fileno(), parts)
            else:
                self.socket.sendmsg(parts, (), 0, self._address(to))
        except BlockingIOError:
            return False
        except OSError as error:
            self._refuse(error)
        return True

    def _refuse(self, error: OSError) -> None:
        self.refused += 1
        self.trouble = error.strerror or str(error)

    def _cut_at(self, size: int) -> None:
        """As an option of the socket: a process that may only send to whom it is connected uses no sendmsg(2)."""
        if size != self._segment:
            self.socket.setsockopt(_SOL_UDP, _UDP_SEGMENT, size)
            self._segment = size

    def _address(self, to: tuple[str, int]) -> tuple[str, int]:
        return (f"::ffff:{to[0]}", to[1]) if self.socket.family == socket.AF_INET6 and ":" not in to[0] else to

    def datagram_size(self) -> int:
        """The largest content that one packet of the path holds, as far as the kernel knows."""
        try:
            if self.socket.family == socket.AF_INET:
                return self.socket.getsockopt(socket.IPPROTO_IP, _IP_MTU) - 28
            return self.socket.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) - 48
        except OSError:
            return 1452
