"""A channel over a stream: TCP, or a Unix socket."""

from __future__ import annotations

import contextlib
import socket
from collections import deque

from towpath.connection.channel import Channel
from towpath.protocols.message import Message

__all__ = ["StreamChannel"]

_READ = 1 << 17
_HIGH_WATER = 1 << 18
"""Bytes that may wait in this process before those that send have to wait, until there are few again."""
_LOW_WATER = 1 << 16
_SMALL = 1 << 14
"""Bytes up to which joining them is less work than handing the kernel a list."""
_MAX_PARTS = 512
"""Of one sendmsg(2), which takes 1024 (IOV_MAX)."""


class StreamChannel(Channel):
    """Writes at once as long as the kernel takes it; what it does not take waits, in order."""

    _pending: deque[bytes | memoryview]
    _pending_size: int
    _end_after: bool

    def start(self) -> None:
        self._pending = deque()
        self._pending_size = 0
        self._end_after = False
        super().start()

    @property
    def _has_pending(self) -> bool:
        return self._pending_size > 0

    def transmit(self, message: Message) -> None:
        data = message.content
        if not data:
            return
        if self._pending_size or self._corks:
            self._pending.append(data)
            self._pending_size += len(data)
            self.congested = self._pending_size >= _HIGH_WATER
            return
        try:
            sent = self.socket.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self.lose(error)
            return
        self.bytes_sent += sent
        if sent < len(data):
            self._pending.append(memoryview(data)[sent:])
            self._pending_size = len(data) - sent
            self.congested = self._pending_size >= _HIGH_WATER
            self.loop.add_writer(self._descriptor, self._writable)

    def transmit_end(self) -> None:
        if self._pending_size:
            self._end_after = True
        else:
            with contextlib.suppress(OSError):  # the peer may have left already
                self.socket.shutdown(socket.SHUT_WR)

    def _read(self) -> None:
        try:
            data = self.socket.recv(_READ)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self.lose(error)
            return
        if not data:
            self._input_over = True
            self.pause_reading()
            if self.stack is None:
                self.received_end()
            else:
                self.stack.receive_end()
            return
        self.bytes_received += len(data)
        if self.stack is None:
            self.inbox.put(data)
        else:
            self.stack.receive(Message(data, False))

    def _flush(self) -> None:
        pending = self._pending
        while pending:
            try:
                if len(pending) == 1:
                    sent = self.socket.send(pending[0])
                elif self._pending_size <= _SMALL:
                    whole = b"".join(pending)
                    pending.clear()
                    pending.append(whole)
                    sent = self.socket.send(whole)
                else:
                    sent = self.socket.sendmsg([pending[at] for at in range(min(len(pending), _MAX_PARTS))])
            except (BlockingIOError, InterruptedError):
                self.loop.add_writer(self._descriptor, self._writable)
                return
            except OSError as error:
                pending.clear()
                self._pending_size = 0
                self.lose(error)
                return
            self.bytes_sent += sent
            self._pending_size -= sent
            if self._pending_size <= _LOW_WATER:
                self.congested = False
            while sent:
                first = pending.popleft()
                if len(first) > sent:
                    pending.appendleft(memoryview(first)[sent:])
                    break
                sent -= len(first)
        if self._end_after:
            self._end_after = False
            self.transmit_end()
