"""DNS messages on a stream: each behind two bytes of its length (RFC 1035 section 4.2.2, RFC 7766)."""

from __future__ import annotations

from towpath.errors import Misuse

__all__ = ["MessageReader", "framed"]


def framed(message: bytes) -> bytes:
    """A message as it goes onto a stream. Raises `Misuse` for one over 65,535 bytes.

    >>> framed(b"abc")
    b'\\x00\\x03abc'
    """
    if len(message) > 0xFFFF:
        raise Misuse(f"a DNS message of {len(message)} bytes")
    return len(message).to_bytes(2, "big") + message


class MessageReader:
    """Bytes of a stream in whatever pieces in, whole messages out; holds at most one message and what follows.

    >>> reader = MessageReader()
    >>> reader.receive(b"\\x00"), reader.receive(b"\\x03ab"), reader.receive(b"c")
    ([], [], [b'abc'])
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    def receive(self, data: bytes) -> list[bytes]:
        """The messages that are now whole."""
        self._buffer += data
        found = []
        at = 0
        while len(self._buffer) >= at + 2:
            end = at + 2 + (self._buffer[at] << 8 | self._buffer[at + 1])
            if end > len(self._buffer):
                break
            found.append(bytes(self._buffer[at + 2 : end]))
            at = end
        del self._buffer[:at]
        return found

    @property
    def clean(self) -> bool:
        """Whether the stream may end here."""
        return not self._buffer
