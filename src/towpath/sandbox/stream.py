"""Two connected TCP sockets and the bytes between them. What the kernel can move by itself, it moves (splice(2))."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Protocol

from towpath.hosting.loop import BOTH_EDGES, ENDING, READABLE, Loop
from towpath.kernel.system import pipes, sockets

__all__ = ["Gate", "Hold", "Refused", "Stream"]

_COPIED_FIRST = 1 << 16
"""Bytes each way that are copied: most flows are over by then, and a pipe costs two system calls more."""
_TURNS = 16
"""Reads in a row before other flows get their turn."""
_DRAIN_PATIENCE = 5.0
_DRAIN_INTERVAL = 0.02


class Refused(Exception):
    """A gate will not let these bytes pass; `farewell` is what the client is told, if anything can be said."""

    def __init__(self, farewell: bytes) -> None:
        super().__init__()
        self.farewell = farewell


class Gate(Protocol):
    """Judges what the client sends. While it is there, its direction is copied."""

    def admit(self, data: bytes) -> bytes:
        """The bytes to pass on. Raises `Refused`."""

    def end(self) -> None:
        """The client has said all. Raises `Refused` if that was cut short."""

    def answered(self, data: bytes) -> None:
        """The other side has sent `data`, b"" at its end."""

    def release(self) -> bytes:
        """What the gate kept back while it waited, to be admitted again or, once it is open, to pass."""

    hears: bool
    """It wants to be told of answers."""
    waiting: bool
    """Read nothing more from the client until the other side has answered."""
    open: bool
    """Nothing is left to judge."""


class Hold(Protocol):
    """Keeps the bytes of one direction, after its gate, until somebody who was asked has answered.

    `Stream.proceed` is to be called when an answer has changed anything.
    """

    def take(self, data: bytes) -> None:
        """Bytes have come."""

    def end(self) -> None:
        """No more will come."""

    def passed(self) -> bytes:
        """What may pass and has not been fetched yet."""

    @property
    def holding(self) -> bool:
        """The end of the direction must wait."""

    @property
    def full(self) -> bool:
        """Read nothing more."""

    @property
    def over(self) -> bool:
        """All passes from here on."""


class _Direction:
    __slots__ = (
        "closed", "dry", "ended", "ending", "gate", "heard", "hold", "hurried", "listener", "moved", "pending", "pipe",
        "piped", "sink", "source",
    )  # fmt: skip

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.pending: bytes | memoryview = b""
        self.pipe: tuple[int, int] | None = None
        self.piped = 0
        self.moved = 0
        self.heard = b""
        self.dry = True
        self.ending = False
        self.ended = False
        self.closed = False
        self.hurried = False
        self.gate: Gate | None = None
        self.hold: Hold | None = None
        self.listener: Gate | None = None


def _wake(side: _Direction, events: int) -> None:
    """An edge of the socket that `side` reads from."""
    if events & READABLE:
        side.dry = False
        if events & ENDING:
            side.ending = True


class _SinkFailed(Exception):
    """Writing failed, not reading."""


class Stream:
    """Relays until both sides have ended or one has failed, then calls `done(sent, received, error)`.

    Half-closes pass, back-pressure passes (nothing is read that cannot be written), a reset on one side becomes a reset
    on the other once what came before it has been delivered.
    """

    __slots__ = (
        "_counted",
        "_done",
        "_loop",
        "_patience",
        "_pool",
        "_queued",
        "_sides",
        "answered",
        "client",
        "packets",
        "server",
    )

    def __init__(
        self,
        loop: Loop,
        pool: pipes.PipePool,
        client: socket.socket,
        server: socket.socket,
        done: Callable[[int, int, str], None],
        gate: Gate | None = None,
        holds: tuple[Hold, Hold] | None = None,
        *,
        counted: bool = False,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._done: Callable[[int, int, str], None] | None = done
        self._queued = False
        self._patience = 0.0
        self.client = client
        self.server = server
        out, back = _Direction(client, server), _Direction(server, client)
        out.gate = gate
        if gate is not None and gate.hears:
            back.listener = gate
        self.packets: tuple[int, int] | None = None
        """Sent and received on the server's side, if they are `counted`."""
        self._counted = counted
        self.answered: Callable[[], None] | None = None
        """Called when the server has said all: most clients close then."""
        if holds is not None:
            out.hold, back.hold = holds
        self._sides = (out, back)

    @property
    def said_all(self) -> bool:
        """Whether the client has ended and everything it sent was handed to the server's kernel."""
        return self._done is None or self._sides[0].closed

    @property
    def moved(self) -> tuple[int, int]:
        """Bytes of the client's and of the server's that were passed on so far."""
        return self._sides[0].moved, self._sides[1].moved

    def start(self, heard: bytes = b"", client_events: int = 0, server_events: int = 0) -> None:
        """Begins to relay: first what was `heard` of the client before, then what these events tell of."""
        client_events |= self._loop.adopt(self.client.fileno(), self._client_ready)
        server_events |= self._loop.adopt(self.server.fileno(), self._server_ready)
        out, back = self._sides
        out.heard = heard
        _wake(out, client_events)
        _wake(back, server_events)
        self._advance()

    def _client_ready(self, events: int) -> None:
        _wake(self._sides[0], events)
        self._advance()

    def _server_ready(self, events: int) -> None:
        _wake(self._sides[1], events)
        self._advance()

    def _advance(self) -> None:
        if self._done is None:
            return
        out, back = self._sides
        more = False
        for side, other in ((out, back), (back, out)):
            if side.closed:
                continue
            try:
                more = self._pump(side) or more
            except _SinkFailed as failure:
                # The sink may have sent its last words before it closed the door.
                self._last_words(other)
                self._abort(str(failure))
                return
            except Refused as refusal:
                self._refuse(refusal)
                return
            except OSError as error:
                self._reset_later(side, error)
                return
        if out.closed and back.closed:
            self._finish("")
        elif more and not self._queued:
            self._queued = True
            self._loop.soon(self._again)

    def _again(self) -> None:
        self._queued = False
        self._advance()

    def _pump(self, side: _Direction) -> bool:
        """Moves what can be moved; `True` when only fairness stopped it."""
        for _ in range(_TURNS):
            if side.pending or side.piped:
                if not self._flush(side):
                    return False
                continue
            if side.hold is not None and not self._fetch(side):
                return False
            if side.pending:
                continue
            if side.ended:
                self._end(side)
                return False
            if side.gate is not None:
                if side.gate.waiting:
                    return False
                if side.gate.open:
                    side.gate = None
            if (side.dry and not side.heard) or not self._fill(side):
                self._release(side)
                return False
        return True

    def _fetch(self, side: _Direction) -> bool:
        """Takes what its hold lets pass; `False` when nothing can be done before somebody answers."""
        hold = side.hold
        if hold is None:
            return True
        side.pending = hold.passed()
        if hold.over:
            side.hold = None
        elif not side.pending and ((side.ended and hold.holding) or (not side.ended and hold.full)):
            return False
        return True

    def proceed(self) -> None:
        """A hold has something to pass, or ends."""
        if self._done is not None and not self._queued:
            self._queued = True
            self._loop.soon(self._again)

    def cut(self) -> None:
        """Both sides are reset: the flow was dropped after it had begun."""
        if self._done is not None:
            self._abort("refused")

    def _end(self, side: _Direction) -> None:
        side.closed = True
        if side is self._sides[1] and self.answered is not None:
            self.answered()
        self._release(side)
        out, back = self._sides
        if out.closed and back.closed:
            return  # closing the socket says it as well
        try:
            side.sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has gone already, and its own direction says so

    def _fill(self, side: _Direction) -> bool:
        try:
            plain = side.gate is None and side.listener is None and side.hold is None
            if plain and side.moved >= _COPIED_FIRST:
                if side.pipe is None:
                    side.pipe = self._pool.lend()
                side.piped = os.splice(side.source.fileno(), side.pipe[1], pipes.WISHED_SIZE, flags=pipes.MOVE_NOW)
                side.ended = side.piped == 0
            else:
                data = self._take(side)
                side.ended = not data
                if side.listener is not None:
                    self._hear(side, data)
                if side.gate is not None:
                    if side.ended:
                        side.gate.end()
                    else:
                        data = side.gate.admit(data)
                if side.hold is None:
                    side.pending = data
                elif side.ended:
                    side.hold.end()
                elif data:
                    side.hold.take(data)
        except BlockingIOError:
            side.dry = True
            return False
        return True

    def _take(self, side: _Direction) -> bytes:
        """Some bytes, b"" at the end. Less than was asked for is all there is, unless the end follows (epoll(7))."""
        if side.heard:
            data, side.heard = side.heard, b""
        else:
            data = side.source.recv(_COPIED_FIRST)
            side.dry = len(data) < _COPIED_FIRST and not side.ending
        return data

    def _hear(self, side: _Direction, data: bytes) -> None:
        gate = side.listener
        if gate is None:
            return
        was_waiting = gate.waiting
        gate.answered(data)
        if gate.open:
            side.listener = None
        if gate.open or (was_waiting and not gate.waiting):
            out = self._sides[0]
            out.heard = gate.release() + out.heard
            self._loop.soon(self._again)

    def _flush(self, side: _Direction) -> bool:
        try:
            if side.moved and not side.hurried:
                # The first bytes never wait for an acknowledgement (RFC 896); most flows have no more.
                side.sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                side.hurried = True
            if side.piped and side.pipe:
                sent = os.splice(side.pipe[0], side.sink.fileno(), side.piped, flags=pipes.MOVE_NOW)
                side.piped -= sent
            else:
                sent = side.sink.send(side.pending)
                side.pending = memoryview(side.pending)[sent:] if sent < len(side.pending) else b""
        except BlockingIOError:
            return False
        except OSError as error:
            raise _SinkFailed(errno.errorcode.get(error.errno or 0, str(error))) from error
        side.moved += sent
        return True

    def _release(self, side: _Direction) -> None:
        """Pipes are held only while bytes are in them."""
        if side.pipe is not None and not side.piped:
            self._pool.give_back(side.pipe)
            side.pipe = None

    def _last_words(self, side: _Direction) -> None:
        """Delivers what can be had at once, and not its end: that follows as a reset."""
        side.dry = False
        try:
            while not side.ended:
                if side.pending or side.piped:
                    if not self._flush(side):
                        return
                elif side.hold is not None or not self._fill(side):
                    return
        except (OSError, _SinkFailed, Refused):
            return

    def _refuse(self, refusal: Refused) -> None:
        """Tells the client, then closes; the farewell follows whatever answers are still on their way to it."""
        back = self._sides[1]
        self._last_words(back)
        if refusal.farewell and not back.pending and not back.piped:
            try:
                self.client.send(refusal.farewell)
                self.client.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            self._forget(self.client)
            Linger(self._loop, self.client)
            self._reset(self.server)
            self._finish("refused", close=False)
        else:
            self._abort("refused")

    def _reset_later(self, side: _Direction, error: OSError) -> None:
        """A reset must not overtake what was received before it."""
        if self._done is None:
            return
        reason = errno.errorcode.get(error.errno or 0, str(error))
        try:
            while (side.pending or side.piped) and self._flush(side):
                pass
            waiting = side.pending or side.piped or sockets.unsent(side.sink)
        except (OSError, _SinkFailed):
            waiting = False
        if not waiting or self._patience > _DRAIN_PATIENCE:
            self._abort(reason)
            return
        self._patience += _DRAIN_INTERVAL
        self._forget(self.client)
        self._forget(self.server)
        self._loop.later(_DRAIN_INTERVAL, lambda: self._reset_later(side, error))

    def _forget(self, one: socket.socket) -> None:
        self._loop.forget(one.fileno())

    def _reset(self, one: socket.socket) -> None:
        self._loop.leave(one.fileno())
        sockets.reset(one)

    def _count(self) -> None:
        if self._counted:
            self.packets = sockets.packets(self.server)

    def _abort(self, reason: str) -> None:
        self._count()
        self._reset(self.client)
        self._reset(self.server)
        self._finish(reason, close=False)

    def leave(self) -> None:
        """The run is over. What the program had said in full goes out in peace; anything else is cut off."""
        if self.said_all:
            self._finish("")
        else:
            self._abort("the run has ended")

    def _finish(self, error: str, *, close: bool = True) -> None:
        if self._done is None:
            return
        done, self._done = self._done, None
        if close:
            self._count()
        for side in self._sides:
            if side.pipe is not None:
                if side.piped:
                    self._pool.destroy(side.pipe)
                    side.pipe = None
                else:
                    self._release(side)
        if close:
            for one in (self.client, self.server):
                self._loop.leave(one.fileno())
                one.close()
        done(self._sides[0].moved, self._sides[1].moved, error)


class Linger:
    """Keeps a socket that has had its last bytes until the peer has read them: closing at once could reset it."""

    __slots__ = ("_loop", "_socket", "_timer")

    def __init__(self, loop: Loop, one: socket.socket, seconds: float = 2.0) -> None:
        self._loop = loop
        self._socket = one
        self._timer = loop.later(seconds, self._close)
        loop.watch(one.fileno(), BOTH_EDGES, self._ready)

    def _ready(self, _events: int) -> None:
        try:
            while self._socket.recv(1 << 16):
                pass
        except BlockingIOError:
            return
        except OSError:
            pass
        self._close()

    def _close(self) -> None:
        self._timer.cancel()
        self._loop.forget(self._socket.fileno())
        self._socket.close()
