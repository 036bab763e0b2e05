"""Conversations with protocol layers, without a connection and on a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from towpath.errors import Misuse
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack

__all__ = ["FramerHarness"]

_Metadata = TypeVar("_Metadata")
_MAX_TURNS = 10_000


class FramerHarness:
    """A stack of layers whose transport and program are the test. It is started as it is made.

    >>> from towpath.protocols import LengthPrefix
    >>> harness = FramerHarness(LengthPrefix())
    >>> harness.feed(b"\\0\\0\\0\\4ne")
    >>> harness.feed(b"ws")
    >>> harness.take_received()
    [Message(b'news', complete=True)]
    """

    def __init__(self, *layers: Layer[Any], is_server: bool = False, host: str = "peer.test", url: str = "") -> None:
        """`layers` are patterns as in `Parameters`, the lowest first."""
        self.now = 0.0
        """Seconds on the virtual clock; `advance` moves it."""
        self.ready_at: float | None = None
        self.error: Exception | None = None
        self.ended = False
        """The program was told that the peer sends no more."""
        self.output_ended = False
        self.is_stopped = False
        self.congested = False
        """The transport takes no more; the test says so."""
        self._sent: list[Message] = []
        self._received: list[Message] = []
        self.stack = Stack(layers, Link(lambda: self.now, is_server, host, url or None), self)
        self.stack.start()

    @property
    def is_ready(self) -> bool:
        return self.stack.is_ready

    def feed(self, data: bytes | Message) -> None:
        """The transport brings bytes of a stream, or a whole message (a datagram)."""
        self.stack.receive(data if isinstance(data, Message) else Message(data, False))

    def feed_in(self, chunks: Iterable[bytes]) -> None:
        """The transport brings bytes in these pieces."""
        for chunk in chunks:
            self.feed(chunk)

    def feed_end(self) -> None:
        """The transport's peer sends no more."""
        self.stack.receive_end()

    def send(self, content: bytes | Message, *, complete: bool = True) -> None:
        """The program sends."""
        self.stack.send(content if isinstance(content, Message) else Message(content, complete))

    def advance(self, seconds: float) -> None:
        """Moves the clock, stopping at each wake-up on the way. Raises `Misuse` when layers wake up without end."""
        until = self.now + seconds
        for _turn in range(_MAX_TURNS):
            due = self.stack.next_wakeup
            if due is None or due > until:
                self.now = until
                return
            self.now = max(self.now, due)
            self.stack.wake()
        raise Misuse(f"more than {_MAX_TURNS} wake-ups in {seconds:g} s")

    def take_sent(self) -> bytes:
        """The bytes that went down since it was last asked."""
        return b"".join(message.content for message in self.take_sent_messages())

    def take_sent_messages(self) -> list[Message]:
        """The same as messages, each with its metadata."""
        found, self._sent = self._sent, []
        return found

    def take_received(self) -> list[Message]:
        """What reached the program since it was last asked."""
        found, self._received = self._received, []
        return found

    def talk_with(self, other: FramerHarness) -> None:
        """Carries what each sends to the other until both are silent. Raises `Misuse` when they never are."""
        for _turn in range(_MAX_TURNS):
            moved = [(other, message) for message in self.take_sent_messages()]
            moved += [(self, message) for message in other.take_sent_messages()]
            if not moved:
                return
            for end, message in moved:
                end.feed(message)
        raise Misuse(f"the conversation does not end in {_MAX_TURNS} turns")

    def transmit(self, message: Message) -> None:
        self._sent.append(message)

    def transmit_end(self) -> None:
        self.output_ended = True

    def received(self, message: Message) -> None:
        self._received.append(message)

    def received_end(self) -> None:
        self.ended = True

    def became_ready(self) -> None:
        self.ready_at = self.now

    def stopped(self) -> None:
        self.is_stopped = True

    def failed(self, error: Exception) -> None:
        self.error = error

    def wakeup_changed(self) -> None:
        """The clock is asked for when the test moves it."""
