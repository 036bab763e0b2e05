"""DNS messages on one connection to a server, many at a time: bytes in, bytes out (RFC 1035, RFC 7766, RFC 7858)."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Carrier", "StreamCarrier"]

_MOST_HELD = 1 << 18


class Carrier(Protocol):
    """Carries whole messages, told apart by their ids, over whatever takes bytes.

    `ask` and `received` may leave something in `outgoing`. `received` gives the answers that are whole. `ended` says
    why nothing can be carried any more, "" while it can.
    """

    ended: str

    def ask(self, message: bytes) -> None: ...
    def received(self, data: bytes) -> list[bytes]: ...
    def outgoing(self) -> bytes: ...


class StreamCarrier:
    """Each message behind two bytes of its length."""

    def __init__(self) -> None:
        self.ended = ""
        self._out = b""
        self._in = b""

    def ask(self, message: bytes) -> None:
        self._out += len(message).to_bytes(2, "big") + message

    def received(self, data: bytes) -> list[bytes]:
        """Nothing received (b"") is the end of the stream."""
        if not data:
            self.ended = "the server ended the connection"
            return []
        self._in += data
        found = []
        at = 0
        while len(self._in) - at >= 2:
            end = at + 2 + int.from_bytes(self._in[at : at + 2], "big")
            if end > len(self._in):
                break
            found.append(self._in[at + 2 : end])
            at = end
        self._in = self._in[at:]
        if len(self._in) > _MOST_HELD:
            self.ended = "more than any message holds"
        return found

    def outgoing(self) -> bytes:
        out, self._out = self._out, b""
        return out
