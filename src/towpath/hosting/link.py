"""The manager's end of one worker: messages out and in, its printed lines, and its end."""

from __future__ import annotations

import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from towpath.errors import PeerViolation
from towpath.hosting import messages
from towpath.hosting.loop import IN, OUT, Loop
from towpath.hosting.zygote import Spawned

__all__ = ["WorkerLink"]

_LARGEST = 1 << 18
_PACKETS_AT_ONCE = 32
_LONGEST_LINE = 500
_MOST_LINES = 1000


class WorkerLink:
    """Calls `hear(message)` for each message and `gone(reason)` once, when the worker has ended or broke the protocol.

    `decode` reads what comes. `theirs` and `output` are the worker's ends, to be closed once it has been ordered.
    """

    def __init__(
        self,
        loop: Loop,
        hear: Callable[[Any], None],
        say: Callable[[str, str], None],
        gone: Callable[[str], None],
        decode: Callable[[bytes], list[Any]] = messages.from_worker,
    ) -> None:
        self._loop = loop
        self._decode = decode
        self._hear = hear
        self._say = say
        self._gone: Callable[[str], None] | None = gone
        self._line, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line.setblocking(False)
        printed, self.output = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._printed: int | None = printed
        os.set_blocking(self.output, True)
        self._unsent: list[Any] = []
        self._packets: deque[bytes] = deque()
        self._flushing = False
        self._text = b""
        self._lines = 0
        self._pidfd: int | None = None
        self._unwanted = False
        self._watched = IN
        loop.watch(self._line.fileno(), IN, self._ready)
        loop.watch(printed, IN, self._printing)

    def made(self, spawned: Spawned) -> None:
        """The zygote has an outcome for this worker."""
        self.theirs.close()
        os.close(self.output)
        self._pidfd = spawned.pidfd
        if self._gone is None:
            self.kill()
            self._close_pidfd()
        elif spawned.fault is not None:
            self._end(str(spawned.fault))
        elif self._unwanted:
            self.kill()

    def send(self, message: Any) -> None:
        """Goes with all that is sent in this turn of the loop."""
        self._unsent.append(message)
        if not self._flushing:
            self._flushing = True
            self._loop.soon(self._flush)

    def send_descriptor(self, message: Any, descriptor: int) -> None:
        self._flush()
        try:
            socket.send_fds(self._line, messages.batches([message]), [descriptor])
        except OSError as error:
            self._say("error", f"a descriptor could not be handed over: {error.strerror}")

    def _flush(self) -> None:
        self._flushing = False
        if self._gone is None:
            return
        if self._unsent:
            unsent, self._unsent = self._unsent, []
            self._packets.extend(messages.batches(unsent))
        try:
            while self._packets:
                self._line.send(self._packets[0])
                self._packets.popleft()
        except BlockingIOError:
            self._watch_for(IN | OUT)
        except OSError:
            self._packets.clear()  # it has gone, which is read, not written
        else:
            self._watch_for(IN)

    def _watch_for(self, events: int) -> None:
        if events != self._watched:
            self._watched = events
            self._loop.rewatch(self._line.fileno(), events)

    def _ready(self, events: int) -> None:
        if events & OUT and self._packets:
            self._flush()
        for _ in range(_PACKETS_AT_ONCE):
            if self._gone is None:
                return
            try:
                packet = self._line.recv(_LARGEST)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left something unread; the error comes once, before its own last words
            except OSError:
                packet = b""
            if not packet:
                self._end("it ended")
                return
            try:
                heard = self._decode(packet)
            except PeerViolation as violation:
                self.kill()
                self._end(f"it broke the protocol: {violation}")
                return
            for message in heard:
                self._hear(message)

    def _printing(self, _events: int) -> None:
        self._read_printed()

    def _read_printed(self) -> bool:
        """Says the lines that have come; `False` when there is nothing more for now, or for ever."""
        if self._printed is None:
            return False
        try:
            data = os.read(self._printed, 1 << 16)
        except BlockingIOError:
            return False
        if not data:
            self._stop_reading()
            return False
        *lines, self._text = (self._text + data).split(b"\n")
        self._text = self._text[:_LONGEST_LINE]
        for line in lines:
            self._lines += 1
            if self._lines <= _MOST_LINES:
                self._say("warning", line[:_LONGEST_LINE].decode("utf-8", "replace"))
        return True

    def _stop_reading(self) -> None:
        if self._printed is not None:
            self._loop.forget(self._printed)
            os.close(self._printed)
            self._printed = None

    def kill(self) -> None:
        """SIGKILL, at once or as soon as it exists."""
        self._unwanted = True
        if self._pidfd is not None:
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def drop(self) -> None:
        """Kills it and hears of nothing any more, not even its end."""
        self._gone = None
        self.kill()
        self._close()

    def _end(self, reason: str) -> None:
        gone, self._gone = self._gone, None
        if gone is not None:
            self._close()
            gone(reason)

    def _close(self) -> None:
        self._loop.forget(self._line.fileno())
        self._line.close()
        self._close_pidfd()
        for _ in range(_PACKETS_AT_ONCE):  # its last words; a worker that never ends them is not waited for
            if not self._read_printed():
                break
        self._stop_reading()

    def _close_pidfd(self) -> None:
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None
