"""Messages that end with a mark."""

from __future__ import annotations

from towpath.errors import Misuse
from towpath.protocols.framer import MAX_MESSAGE, Framer
from towpath.protocols.layer import Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack

__all__ = ["Delimiter", "Lines"]


class Delimiter(Framer[None]):
    """Each message ends with `delimiter`, which no message contains. ::

    Parameters.tcp(framers=[Delimiter(b"\\0")])
    """

    def __init__(self, delimiter: bytes, maximum: int = MAX_MESSAGE) -> None:
        super().__init__(maximum)
        if not delimiter:
            raise Misuse("an empty delimiter ends nothing")
        self.delimiter = delimiter

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._searched = 0

    def parse(self, data: bytes | bytearray) -> int:
        delimiter = self.delimiter
        at = 0
        # What was searched is not searched again, or a long line in small pieces would take quadratic time.
        begin = self._searched
        while (found := data.find(delimiter, begin)) >= 0:
            content = self.clean(bytes(data[at:found]))
            self.check_length(len(content))
            self.deliver(Message(content))
            at = begin = found + len(delimiter)
        self._searched = max(0, len(data) - at - len(delimiter) + 1)
        self.check_length(self._searched - self.slack)
        return at

    slack = 0
    """Bytes at the end of a message that `clean` may take away."""

    def clean(self, content: bytes) -> bytes:
        """The message in what stood before the delimiter."""
        return content

    def frame(self, message: Message) -> bytes:
        if self.delimiter in message.content:
            raise Misuse(f"the message contains its own delimiter {self.delimiter!r}")
        framed = message.content + self.delimiter
        if framed.find(self.delimiter) != len(message.content):
            raise Misuse(f"the end of the message and the delimiter {self.delimiter!r} make an earlier delimiter")
        return framed


class Lines(Delimiter):
    """A message a line, without its end: LF or CR LF are read, LF is written.

    >>> from towpath.testing import FramerHarness
    >>> harness = FramerHarness(Lines())
    >>> harness.feed(b"one\\r\\ntwo\\n")
    >>> [message.content for message in harness.take_received()]
    [b'one', b'two']
    """

    slack = 1

    def __init__(self, maximum: int = MAX_MESSAGE) -> None:
        super().__init__(b"\n", maximum)

    def clean(self, content: bytes) -> bytes:
        return content.removesuffix(b"\r")

    def frame(self, message: Message) -> bytes:
        if message.content.endswith(b"\r"):
            raise Misuse("a line that ends with CR would be read without it")
        return super().frame(message)
