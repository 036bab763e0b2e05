"""DNS messages to a server, many at a time over one connection: messages and bytes in, bytes and messages out.

What drives a carrier owns the socket and the clock. Over TCP here (RFC 1035, RFC 7766); others are beside it.
"""

from __future__ import annotations

from typing import Protocol

from towpath.names.framing import MessageReader, framed

__all__ = ["Carrier", "StreamCarrier"]


class Carrier(Protocol):
    """Carries whole messages, told apart by their ids.

    `ask`, `received` and `start` may leave something in `outgoing`. `received` takes what came, b"" for the end, and
    gives the answers that are whole; `lost` gives the ids that will have no answer, each with the reason. `ended` says
    why nothing can be carried any more, "" while it can.
    """

    ended: str

    def start(self) -> None: ...
    def ask(self, message: bytes) -> None: ...
    def received(self, data: bytes) -> list[bytes]: ...
    def lost(self) -> list[tuple[int, str]]: ...
    def outgoing(self) -> bytes: ...


class StreamCarrier:
    """Each message behind two bytes of its length."""

    def __init__(self) -> None:
        self.ended = ""
        self._out = b""
        self._reader = MessageReader()

    def start(self) -> None:
        """Nothing has to be agreed upon."""

    def ask(self, message: bytes) -> None:
        self._out += framed(message)

    def received(self, data: bytes) -> list[bytes]:
        if not data:
            self.ended = "the server ended the connection"
            return []
        return self._reader.receive(data)

    def lost(self) -> list[tuple[int, str]]:
        return []

    def outgoing(self) -> bytes:
        out, self._out = self._out, b""
        return out
