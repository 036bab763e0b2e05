"""Each message after its type and its length."""

from __future__ import annotations

from towpath.errors import Misuse
from towpath.protocols.framer import MAX_MESSAGE, Framer
from towpath.protocols.message import Message

__all__ = ["Tlv"]


class Tlv(Framer[int]):
    """A type and a length in network order, then so much content; the type is the metadata.

    >>> from towpath.testing import FramerHarness
    >>> harness = FramerHarness(Tlv(type_size=1, length_size=2))
    >>> harness.send(Message(b"news").with_metadata(Tlv, 7))
    >>> harness.take_sent()
    b'\\x07\\x00\\x04news'
    """

    def __init__(self, type_size: int = 4, length_size: int = 4, maximum: int = MAX_MESSAGE) -> None:
        """Both sizes are in bytes, from 1 to 8."""
        super().__init__(maximum)
        if not (1 <= type_size <= 8 and 1 <= length_size <= 8):
            raise Misuse(f"types of {type_size} and lengths of {length_size} bytes: 1 to 8 can be")
        self.type_size = type_size
        self.length_size = length_size
        self.maximum = min(maximum, (1 << 8 * length_size) - 1)

    def parse(self, data: bytes | bytearray) -> int:
        head = self.type_size + self.length_size
        at = 0
        while at + head <= len(data):
            begin = at + head
            length = int.from_bytes(data[at + self.type_size : begin], "big")
            self.check_length(length)
            if begin + length > len(data):
                self.wanted = head + length
                break
            kind = int.from_bytes(data[at : at + self.type_size], "big")
            at = begin + length
            self.deliver(Message(bytes(data[begin:at]), True, {Tlv: kind}))
        return at

    def frame(self, message: Message) -> bytes:
        kind = message.get(Tlv)
        if kind is None:
            error = Misuse("a message without its type")
            error.hint = "say it: Message(content).with_metadata(Tlv, 7)"
            raise error
        if not 0 <= kind < 1 << 8 * self.type_size:
            raise Misuse(f"the type {kind} does not fit into {self.type_size} bytes")
        content = message.content
        return kind.to_bytes(self.type_size, "big") + len(content).to_bytes(self.length_size, "big") + content
