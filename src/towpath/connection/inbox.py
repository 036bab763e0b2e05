"""What has come and was not received yet."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from towpath.connection.arrival import Arrival
from towpath.errors import EndOfStream, Misuse, PeerViolation
from towpath.protocols.message import Message

__all__ = ["Inbox"]


class Inbox:
    """Pieces of a byte stream, or messages; and the tasks that wait for them, the first come the first served.

    What came before an error or the end is received before that is raised. `drained` is called when a program has
    taken enough for the peer to go on, if `full` was seen before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int, drained: Callable[[], None]) -> None:
        self.size = 0
        self.taken = 0
        """Messages that were received."""
        self._loop = loop
        self._limit = limit
        self._drained = drained
        self._pieces: deque[bytes] = deque()
        self._messages: deque[Message] = deque()
        self._waiting: deque[Arrival] = deque()
        self._over: Exception | None = None

    @property
    def full(self) -> bool:
        return self.size >= self._limit

    @property
    def ended(self) -> bool:
        """Nothing more will come; what is here can still be received."""
        return self._over is not None

    def put(self, piece: bytes) -> None:
        """A piece of a byte stream."""
        self._pieces.append(piece)
        self.size += len(piece)

    def put_content(self, message: Message) -> None:
        """The same in a message, of which only the content matters."""
        if message.content:
            self.put(message.content)

    def put_message(self, message: Message) -> None:
        self._messages.append(message)
        # Empty messages take memory too, and a peer must not be able to send them without end.
        self.size += len(message.content) + 1

    def end(self, error: Exception | None = None) -> None:
        """The peer sends no more, or the connection is lost; the first word on it counts."""
        if self._over is None:
            self._over = error if error is not None else EndOfStream()

    def wake(self) -> None:
        """Resumes a waiting task at once. Only from a callback of the event loop."""
        waiting = self._waiting
        # A task that got too little waits again, behind the others: it has to be left alone until more has come.
        for _ in range(len(waiting)):
            if not waiting:
                return
            waiting.popleft().fire()
            if not (self._pieces or self._messages) and self._over is None:
                return

    def wake_soon(self) -> None:
        """Resumes every waiting task in the next turn of the loop."""
        while self._waiting:
            self._waiting.popleft().fire_soon()

    async def receive(self, minimum: int = 1, maximum: int = 1 << 16) -> bytes:
        """From `minimum` to `maximum` bytes; of a message, what is left of it. Raises what ended it."""
        if self._messages:
            return self._part_of_message(maximum)
        pieces = self._pieces
        while not pieces or self.size < minimum:
            if self._messages:
                return self._part_of_message(maximum)
            if self._over is not None:
                raise self._ending()
            await self._arrival(minimum)
        piece = pieces[0]
        if minimum <= len(piece) <= maximum:
            del pieces[0]
        else:
            piece = self._gather(maximum)
        self._take(len(piece))
        return piece

    async def receive_message(self, limit: int) -> Message:
        """A whole message; of a byte stream, all of it up to its end and not more than `limit` bytes."""
        messages = self._messages
        if messages and messages[0].complete and self.size < self._limit:
            message = messages.popleft()
            self.size -= len(message.content) + 1
            self.taken += 1
            return message
        while not messages:
            if self._pieces:
                return await self._whole_stream(limit)
            if self._over is not None:
                raise self._ending()
            await self._arrival(1)
        message = messages.popleft()
        self._take(len(message.content) + 1)
        if not message.complete:
            message = await self._rest_of(message, limit)
        self.taken += 1
        return message

    async def _rest_of(self, first: Message, limit: int) -> Message:
        """Joins a message that came in parts."""
        whole = bytearray(first.content)
        part = first
        while not part.complete:
            while not self._messages:
                if self._over is not None:
                    raise self._ending(bytes(whole))
                await self._arrival(1)
            part = self._messages.popleft()
            self._take(len(part.content) + 1)
            whole += part.content
            if len(whole) > limit:
                raise PeerViolation("message-too-large", f"more than {limit} bytes")
        return part.with_content(bytes(whole))

    async def _whole_stream(self, limit: int) -> Message:
        while self._over is None:
            if self.size > limit:
                raise PeerViolation("message-too-large", f"a stream of more than {limit} bytes")
            await self._arrival(self.size + 1)
        if not isinstance(self._over, EndOfStream):
            raise self._over
        content = self._gather(self.size)
        self._take(len(content))
        return Message(content)

    async def _arrival(self, wanted: int) -> None:
        if wanted > self._limit:
            # Whoever wants that much at once has said how much may be kept for it.
            self._limit = wanted
            self._drained()
        arrival = Arrival(self._loop)
        self._waiting.append(arrival)
        try:
            await arrival
        except asyncio.CancelledError:
            if arrival in self._waiting:
                self._waiting.remove(arrival)
            elif self._pieces or self._messages:
                # It was this task's turn, and it does not take it: the next one's.
                self.wake_soon()
            raise

    def _gather(self, maximum: int) -> bytes:
        pieces = self._pieces
        parts: list[bytes] = []
        while pieces and maximum > 0:
            piece = pieces.popleft()
            if len(piece) > maximum:
                pieces.appendleft(piece[maximum:])
                piece = piece[:maximum]
            parts.append(piece)
            maximum -= len(piece)
        return b"".join(parts)

    def _part_of_message(self, maximum: int) -> bytes:
        message = self._messages.popleft()
        content = message.content[:maximum]
        if len(content) < len(message.content):
            self._messages.appendleft(Message(message.content[maximum:], message.complete, message.metadata))
            self._take(len(content))
        else:
            self._take(len(content) + 1)
            self.taken += 1
        return content

    def _take(self, size: int) -> None:
        was_full = self.size >= self._limit
        self.size -= size
        if was_full and self.size < self._limit:
            self._drained()

    def _ending(self, partial: bytes = b"") -> Exception:
        if self._over is None:
            raise Misuse("nothing has ended")
        if isinstance(self._over, EndOfStream):
            partial = partial or self._gather(self.size)
            self.size -= min(self.size, len(partial))
            return EndOfStream(partial)
        return self._over
