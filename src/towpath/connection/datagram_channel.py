"""A channel over connected datagrams: UDP, each datagram a message."""

from __future__ import annotations

import errno
from collections import deque

from towpath.connection.channel import Channel
from towpath.errors import Misuse
from towpath.protocols.message import Message

__all__ = ["DatagramChannel"]

_READ = 1 << 16
_BURST = 64
"""Datagrams that are read before others get their turn."""
_MAX_WAITING = 256
_MAX_DATAGRAM = 65_507
"""What a UDP datagram over IPv4 holds (RFC 768, RFC 791)."""


class DatagramChannel(Channel):
    """Sends each message as one datagram, and never a part of one."""

    _pending: deque[bytes]

    _early: tuple[bytes, ...] | None = ()
    """What came before the start; `None` from then on."""

    def start(self) -> None:
        self._pending = deque()
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
                data = self.socket.recv(_READ)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self.lose(error)
                return
            self._came(data)
            if self.inbox.full or self.error is not None:
                return

    def _came(self, data: bytes) -> None:
        self.bytes_received += len(data)
        if self.stack is None:
            self.inbox.put_message(Message(data))
        else:
            self.stack.receive(Message(data))

    def _flush(self) -> None:
        while self._pending:
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
