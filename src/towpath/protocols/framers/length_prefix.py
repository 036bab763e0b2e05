"""Each message after its length."""

from __future__ import annotations

from towpath.errors import Misuse
from towpath.protocols.framer import MAX_MESSAGE, Framer
from towpath.protocols.message import Message

__all__ = ["LengthPrefix"]


class LengthPrefix(Framer[None]):
    """A length of 1 to 8 bytes in network order, then so much content.

    >>> from towpath.testing import FramerHarness
    >>> harness = FramerHarness(LengthPrefix(size=2))
    >>> harness.send(b"news")
    >>> harness.take_sent()
    b'\\x00\\x04news'
    """

    def __init__(self, size: int = 4, maximum: int = MAX_MESSAGE) -> None:
        """`size` is that of the length in bytes."""
        super().__init__(maximum)
        if not 1 <= size <= 8:
            raise Misuse(f"a length of {size} bytes: 1 to 8 can be")
        self.size = size
        self.maximum = min(maximum, (1 << 8 * size) - 1)

    def parse(self, data: bytes | bytearray) -> int:
        size, maximum, deliver, end = self.size, self.maximum, self.deliver, len(data)
        at = 0
        while at + size <= end:
            begin = at + size
            length = int.from_bytes(data[at:begin], "big")
            if length > maximum:
                self.check_length(length)
            stop = begin + length
            if stop > end:
                self.wanted = size + length
                return at
            deliver(Message(bytes(data[begin:stop])))
            at = stop
        return at

    def frame(self, message: Message) -> bytes:
        content = message.content
        return len(content).to_bytes(self.size, "big") + content
