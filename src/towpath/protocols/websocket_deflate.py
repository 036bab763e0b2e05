"""Compressed messages of WebSocket: permessage-deflate (RFC 7692), never inflated beyond what may be kept."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from towpath.errors import PeerViolation

__all__ = ["Deflate", "Deflater", "Inflater"]

_TAIL = b"\x00\x00\xff\xff"
"""What ends each compressed message and is left out of it (RFC 7692 section 7.2.1)."""


@dataclass(frozen=True, slots=True)
class Deflate:
    """What both sides agreed on, seen from this side: windows in bits, and whether they last between messages."""

    sending_bits: int = 15
    receiving_bits: int = 15
    sending_keeps: bool = True
    receiving_keeps: bool = True


class Inflater:
    """Inflates the messages that come."""

    def __init__(self, agreed: Deflate) -> None:
        self._bits = -agreed.receiving_bits
        self._keeps = agreed.receiving_keeps
        self._stream = zlib.decompressobj(self._bits)

    def inflate(self, data: bytes, last: bool, limit: int) -> bytes:
        """One frame's part of a message, of at most `limit` bytes. Raises `PeerViolation`."""
        stream = self._stream
        try:
            # One byte more than is allowed is enough to know, and zlib takes 0 for "without limit".
            found = stream.decompress(data, limit + 1)
            if last and not stream.eof and not stream.unconsumed_tail and len(found) <= limit:
                found += stream.decompress(_TAIL, limit + 1 - len(found))
        except zlib.error as error:
            raise PeerViolation("websocket-deflate", str(error)) from None
        if len(found) > limit or stream.unconsumed_tail:
            raise PeerViolation("message-too-large", f"a compressed message has more than {limit} bytes left")
        if stream.unused_data.strip(b"\0"):
            raise PeerViolation("websocket-deflate", "a message goes on after its final block")
        if stream.eof or (last and not self._keeps):
            # RFC 7692 section 7.2.3.5: a final block may end a message; what follows begins anew.
            self._stream = zlib.decompressobj(self._bits)
        return found


class Deflater:
    """Deflates the messages that are sent."""

    def __init__(self, agreed: Deflate) -> None:
        self._bits = -agreed.sending_bits
        self._keeps = agreed.sending_keeps
        self._stream = zlib.compressobj(wbits=self._bits)

    def deflate(self, data: bytes, last: bool) -> bytes:
        """The payload of one frame."""
        packed = self._stream.compress(data) + self._stream.flush(zlib.Z_SYNC_FLUSH)
        if not last:
            return packed
        if not self._keeps:
            self._stream = zlib.compressobj(wbits=self._bits)
        return packed.removesuffix(_TAIL)
