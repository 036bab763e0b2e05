"""Messages that are all of one size."""

from __future__ import annotations

from towpath.errors import Misuse
from towpath.protocols.framer import Framer
from towpath.protocols.message import Message

__all__ = ["FixedSize"]


class FixedSize(Framer[None]):
    """Every message has `size` bytes. ::

    Parameters.tcp(framers=[FixedSize(188)])
    """

    def __init__(self, size: int) -> None:
        super().__init__(size)

    def parse(self, data: bytes | bytearray) -> int:
        size = self.maximum
        used = len(data) // size * size
        for at in range(0, used, size):
            self.deliver(Message(bytes(data[at : at + size])))
        self.wanted = size
        return used

    def frame(self, message: Message) -> bytes:
        if len(message.content) != self.maximum:
            raise Misuse(f"a message of {len(message.content)} bytes where all have {self.maximum}")
        return message.content
