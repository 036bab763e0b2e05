"""A channel over connected datagrams: UDP, each datagram a message."""

from __future__ import annotations

import errno
import socket
from collections import deque

from towpath.connection.channel import Channel
from towpath.errors import Misuse
from towpath.kernel.system import transports
from towpath.protocols.message import Message

__all__ = ["DatagramChannel"]

_READ = 1 << 16
_BURST = 64
"""Datagrams that are read before others get their turn."""
_MAX_WAITING = 256
_ROW, _ROW_BYTES = 64, 65_000
"""Datagrams and bytes that go out in one call."""
_MAX_DATAGRAM = 65_507
"""What a UDP datagram over IPv4 holds (RFC 768, RFC 791)."""


class DatagramChannel(Channel):
    """Sends each message as one datagram, and never a part of one."""

    _pending: deque[bytes]

    _early: tuple[bytes, ...] | None = ()
    """What came before the start; `None` from then on."""

    _rows = True
    """Whether the kernel may be given a row of datagrams at once."""

    def start(self) -> None:
        self._pending = deque()
        self._rows = self.socket.family != socket.AF_UNIX
        self._coalesced = self._rows and transports.coalesce_datagrams(self.socket)
        super().start()
        early, self._early = self._early, None
        for data in early or ():
            self._came(data)

    def take(self, data: bytes) -> None:
        """A datagram that another socket received for this one; kept if it comes before the start."""
        if self._early is None:
            self._came(data)
            self.inbox.wake_soon()
        else:
            self._early = (*self._early, data)[:_BURST]

    @property
    def _has_pending(self) -> bool:
        return bool(self._pending)

    def transmit(self, message: Message) -> None:
        if not message.complete:
            raise Misuse("a datagram is sent whole, not in parts")
        if len(message.content) > _MAX_DATAGRAM:
            raise _too_large(message.content)
        if self._pending or self._corks:
            self._pending.append(message.content)
            self.congested = len(self._pending) >= _MAX_WAITING
        elif not self._send(message.content):
            self._pending.append(message.content)
            self.loop.add_writer(self._descriptor, self._writable)

    def transmit_end(self) -> None:
        """Datagrams have no end."""

    def _send(self, content: bytes) -> bool:
        """False when the socket has no room now."""
        try:
            self.bytes_sent += self.socket.send(content)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                raise _too_large(content) from None
            self.lose(error)
        return True

    def _read(self) -> None:
        for _ in range(_BURST):
            try:
                one_by_one = not self._coalesced
                datagrams = [self.socket.recv(_READ)] if one_by_one else transports.receive_datagrams(self.socket)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.lose(error)
                return
            for data in datagrams:
                self._came(data)
            if self.inbox.full or self.error is not None:
                return

    def _came(self, data: bytes) -> None:
        self.bytes_received += len(data)
        if self.stack is None:
            self.inbox.put_message(Message(data))
        else:
            self.stack.receive(Message(data))

    def _row(self) -> list[bytes]:
        """The next datagrams of one size, with a shorter one at most as the last."""
        row: list[bytes] = []
        size, total = len(self._pending[0]), 0
        for content in self._pending:
            total += len(content)
            if not 0 < len(content) <= size or total > _ROW_BYTES or len(row) == _ROW:
                break
            row.append(content)
            if len(content) < size:
                break
        return row

    def _send_row(self, row: list[bytes]) -> bool:
        """False when they have to go one by one."""
        try:
            self.bytes_sent += transports.send_datagrams(self.socket, row)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # Too large for the path (each may still be fragmented), or a kernel or device that cannot.
            self._rows = error.errno in (errno.EMSGSIZE, errno.EINVAL)
            return False
        for _ in row:
            self._pending.popleft()
        self.congested = False
        return True

    def _flush(self) -> None:
        while self._pending:
            if self._rows and len(self._pending) > 1:
                row = self._row()
                if len(row) > 1 and self._send_row(row):
                    continue
            try:
                sent = self._send(self._pending[0])
            except Misuse:
                sent = True  # it was accepted when it could still have been sent; a datagram may be lost
            if not sent:
                self.loop.add_writer(self._descriptor, self._writable)
                return
            self._pending.popleft()
            self.congested = False


def _too_large(content: bytes) -> Misuse:
    error = Misuse(f"{len(content)} bytes are too many for one datagram here")
    error.hint = "1200 bytes pass nearly everywhere"
    return error
