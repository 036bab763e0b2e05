"""The other end of a WebSocket, byte by byte: frames as a test wants them, right or wrong."""

from __future__ import annotations

from typing import Any

from towpath.protocols import Layer, WebSocket
from towpath.protocols.websocket_frames import FrameReader
from towpath.testing import FramerHarness

__all__ = ["KEY", "client_frame", "frames_in", "from_client", "server_frame", "websocket"]

KEY = b"\x01\x02\x03\x04"


def server_frame(first: int, payload: bytes = b"", *, size: int | None = None) -> bytes:
    """A frame as a server sends it; `size` is how many bytes its length takes, the fewest by default."""
    length = len(payload)
    size = size if size is not None else 0 if length < 126 else 2 if length < 1 << 16 else 8
    head = {0: bytes((length & 0x7F,)), 2: b"\x7e" + length.to_bytes(2, "big"), 8: b"\x7f" + length.to_bytes(8, "big")}
    return bytes((first,)) + head[size] + payload


def client_frame(first: int, payload: bytes = b"") -> bytes:
    """The same, masked."""
    plain = server_frame(first, payload)
    head = plain[: len(plain) - len(payload)]
    masked = bytes(one ^ KEY[at % 4] for at, one in enumerate(payload))
    return head[:1] + bytes((head[1] | 0x80,)) + head[2:] + KEY + masked


def from_client(is_server: bool, first: int, payload: bytes = b"") -> bytes:
    """A frame for an end that `is_server`, or for a client."""
    return client_frame(first, payload) if is_server else server_frame(first, payload)


def frames_in(data: bytes, *, masked: bool) -> list[tuple[int, bytes]]:
    """What an end sent: the first byte and the payload of each frame."""
    found: list[tuple[int, bytes]] = []
    reader = FrameReader(lambda first, payload: found.append((first, payload)), masked=masked, room=1 << 24)
    reader.allowed_bits = 0x40
    reader.feed(data)
    assert reader.is_between_frames
    return found


def websocket(*above: Layer[Any], layer: WebSocket | None = None, is_server: bool = False) -> FramerHarness:
    """WebSocket without its opening, with a test at both ends."""
    return FramerHarness(layer or WebSocket(), *above, is_server=is_server, url="ws://peer.test/")
