"""Messages over a byte stream: what every framer has in common."""

from __future__ import annotations

from abc import abstractmethod
from typing import TypeVar

from towpath.errors import Misuse, PeerViolation
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack

__all__ = ["MAX_MESSAGE", "Framer"]

_Metadata = TypeVar("_Metadata")

MAX_MESSAGE = 1 << 20
"""Bytes that a message may have unless a framer is told otherwise: a peer must not choose how much we keep."""


class Framer(Layer[_Metadata]):
    """Cuts a byte stream into messages, and makes bytes of messages; `parse` and `frame` are the author's.

    Parts of a message that is sent piece by piece are joined before `frame` sees them. ::

        class Pairs(Framer[None]):
            def parse(self, data: bytes | bytearray) -> int:
                for at in range(0, len(data) - 1, 2):
                    self.deliver(Message(bytes(data[at : at + 2])))
                return len(data) // 2 * 2

            def frame(self, message: Message) -> bytes:
                return message.content
    """

    makes_messages = True

    def __init__(self, maximum: int = MAX_MESSAGE) -> None:
        """`maximum` is the largest content in bytes, either way."""
        if maximum < 1:
            raise Misuse(f"a message of at most {maximum} bytes is none")
        self.maximum = maximum

    @abstractmethod
    def parse(self, data: bytes | bytearray) -> int:
        """Delivers the whole messages at the beginning of `data`; gives how many bytes they were.

        `self.wanted` may be set to how many bytes must be there before the next call can bring anything.
        """

    @abstractmethod
    def frame(self, message: Message) -> bytes:
        """The bytes of one whole message."""

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._kept = bytearray()
        self._parts = bytearray()
        self.wanted = 1

    def input(self, message: Message) -> None:
        kept = self._kept
        if not kept:
            content = message.content
            if len(content) < self.wanted:
                kept += content
                return
            self.wanted = 1
            used = self.parse(content)
            if used < len(content):
                kept += memoryview(content)[used:]
            return
        kept += message.content
        if len(kept) >= self.wanted:
            self.wanted = 1
            used = self.parse(kept)
            del kept[:used]

    def input_ended(self) -> None:
        if self._kept:
            raise PeerViolation("truncated", f"the stream ended {len(self._kept)} bytes into a message")
        self.end_input()

    def output(self, message: Message) -> None:
        if self._parts or not message.complete:
            if len(self._parts) + len(message.content) > self.maximum:
                self._parts.clear()
                self._too_large()
            self._parts += message.content
            if not message.complete:
                return
            message = message.with_content(bytes(self._parts))
            self._parts.clear()
        elif len(message.content) > self.maximum:
            self._too_large()
        self.write(Message(self.frame(message), False, message._metadata))

    def output_ended(self) -> None:
        if self._parts:
            raise Misuse("the stream was ended in the middle of a message")
        self.end_output()

    def check_length(self, length: int) -> None:
        """Raises `PeerViolation` for a message that is announced, or has grown, beyond `maximum`."""
        if length > self.maximum:
            raise PeerViolation("message-too-large", f"{length} bytes, more than {self.maximum}")

    def _too_large(self) -> None:
        error = Misuse(f"a message of more than {self.maximum} bytes")
        error.hint = f"give {type(self).__name__} a larger maximum on both sides"
        raise error
