"""Messages of WebSocket in several frames (RFC 6455 section 5.4), and texts that are UTF-8, in either direction."""

from __future__ import annotations

import codecs

from towpath.errors import Misuse, PeerViolation
from towpath.protocols.websocket_deflate import Deflater, Inflater
from towpath.protocols.websocket_frames import FIN, OPCODE, RSV1, Opcode

__all__ = ["Cutter", "Joiner", "check_sent_text", "check_text"]

_CONTINUATION = 0


class Joiner:
    """Joins the frames of a message, or with `partial` says of each part what it belongs to."""

    def __init__(self, maximum: int, inflater: Inflater | None, *, partial: bool) -> None:
        """`maximum` is in bytes of the whole message, inflated."""
        self.opcode: Opcode | None = None
        """What the message is that has begun; `None` between messages."""
        self.room = maximum
        """Bytes that the rest of the message may have."""
        self._maximum = maximum
        self._inflater = inflater
        self._partial = partial
        self._compressed = False
        self._whole = bytearray()
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def join(self, first: int, payload: bytes) -> tuple[Opcode, bytes, bool] | None:
        """A message or a part of one: its kind, its content, whether it is complete. Raises `PeerViolation`."""
        last = bool(first & FIN)
        opcode = self._begin_or_go_on(first)
        if self._compressed and self._inflater is not None:
            payload = self._inflater.inflate(payload, last, self.room)
        self.room -= len(payload)
        if opcode is Opcode.TEXT:
            try:
                self._decoder.decode(payload, last)
            except UnicodeDecodeError:
                raise _not_utf8() from None
        if last:
            self.opcode = None
            self.room = self._maximum
        if self._partial:
            return opcode, payload, last
        self._whole += payload
        if not last:
            return None
        whole = bytes(self._whole)
        self._whole.clear()
        return opcode, whole, True

    def _begin_or_go_on(self, first: int) -> Opcode:
        if first & OPCODE:
            if self.opcode is not None:
                raise PeerViolation("websocket-fragment", "a message begins inside another one")
            self.opcode = Opcode(first & OPCODE)
            self._compressed = bool(first & RSV1)
        elif self.opcode is None:
            raise PeerViolation("websocket-fragment", "a message goes on that has not begun")
        elif first & RSV1:
            raise PeerViolation("websocket-reserved-bits", "only the first frame says that a message is compressed")
        return self.opcode


class Cutter:
    """Makes a frame of each part that is sent of a message."""

    def __init__(self, deflater: Deflater | None) -> None:
        self.opcode: Opcode | None = None
        """What the message is that was begun; `None` between messages."""
        self._deflater = deflater
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def cut(self, opcode: Opcode, content: bytes, last: bool) -> tuple[int, bytes]:
        """The first byte of the frame, and its payload. Raises `Misuse`."""
        begins = self.opcode is None
        if begins:
            self._decoder.reset()
        elif opcode is not self.opcode:
            raise Misuse(f"a message of another kind does not go on as {opcode.name}")
        if opcode is Opcode.TEXT:
            try:
                self._decoder.decode(content, last)
            except UnicodeDecodeError:
                raise _not_text() from None
        self.opcode = None if last else opcode
        first = (opcode if begins else _CONTINUATION) | (FIN if last else 0)
        if self._deflater is not None:
            content = self._deflater.deflate(content, last)
            first |= RSV1 if begins else 0
        return first, content


def check_text(content: bytes) -> None:
    """Raises `PeerViolation` for a whole text that came and is none."""
    try:
        content.decode()
    except UnicodeDecodeError:
        raise _not_utf8() from None


def check_sent_text(content: bytes) -> None:
    """Raises `Misuse` for a whole text that is to be sent and is none."""
    try:
        content.decode()
    except UnicodeDecodeError:
        raise _not_text() from None


def _not_utf8() -> PeerViolation:
    return PeerViolation("websocket-utf8", "a text message is not UTF-8")


def _not_text() -> Misuse:
    error = Misuse("a text message is UTF-8")
    error.hint = "send bytes as they are with WebSocket.binary"
    return error
