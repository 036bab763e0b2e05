"""Fuzz entries of WebSocket: its opening on both sides, its frames, plain and compressed."""

from __future__ import annotations

from collections.abc import Callable

from towpath.errors import EndOfStream, PeerViolation
from towpath.protocols import AuthenticatedWebSocket, WebSocket, WebSocketClosed, WebSocketOpening, WebSocketRefused
from towpath.testing import FramerHarness

__all__ = ["ENTRIES", "SEEDS"]

_REQUEST = (
    b"GET /feed HTTP/1.1\r\nHost: good.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
_LIMIT = 1000


def _alike(data: bytes, make: Callable[[], FramerHarness], greeting: bytes = b"") -> None:
    """One byte at a time or all at once: the same messages, the same answers, and the same complaint."""
    outcomes = []
    for size in (1, len(data) or 1):
        harness = make()
        harness.feed(greeting)
        harness.feed_in(data[at : at + size] for at in range(0, len(data), size))
        harness.feed_end()
        error = harness.error
        allowed = (PeerViolation, EndOfStream, WebSocketClosed, WebSocketRefused)
        assert error is None or isinstance(error, allowed), error
        received = harness.take_received()
        assert all(len(message.content) <= _LIMIT for message in received)
        outcomes.append((received, harness.is_ready, str(error)))
    assert outcomes[0] == outcomes[1]


def websocket_frames(data: bytes) -> None:
    for is_server in (False, True):
        for partial in (False, True):
            layer = WebSocket(maximum=_LIMIT, control=True, partial=partial)
            _alike(data, lambda layer=layer, is_server=is_server: FramerHarness(layer, is_server=is_server))  # type: ignore[misc]


def websocket_compressed(data: bytes) -> None:
    layers = WebSocketOpening(compression=True), WebSocket(maximum=_LIMIT)
    _alike(data, lambda: FramerHarness(*layers, is_server=True), _REQUEST)


def websocket_opening(data: bytes) -> None:
    opening = WebSocketOpening(compression=True, subprotocols=["a"], origins=[None])
    _alike(data, lambda: FramerHarness(opening, WebSocket(maximum=_LIMIT), is_server=True))
    client = FramerHarness(WebSocketOpening(), WebSocket(), url="ws://good.test/")
    client.feed(data)
    assert not client.is_ready
    assert client.error is None or isinstance(client.error, (PeerViolation, WebSocketRefused)), client.error


def websocket_proof(data: bytes) -> None:
    harness = FramerHarness(WebSocket(), AuthenticatedWebSocket(bytes(16)))
    harness.feed(data)
    assert not harness.is_ready
    assert harness.error is None or isinstance(harness.error, (PeerViolation, WebSocketClosed, EndOfStream))


ENTRIES: dict[str, Callable[[bytes], None]] = {
    entry.__name__: entry for entry in (websocket_compressed, websocket_frames, websocket_opening, websocket_proof)
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "websocket_compressed": (
        bytes.fromhex("c18700000000f248cdc9c90700"),
        bytes.fromhex("418300000000f248cd808400000000c9c90700"),
        bytes.fromhex("c28600000000626060a0030000"),
    ),
    "websocket_frames": (
        bytes.fromhex("810568656c6c6f010261628900800163"),
        bytes.fromhex("8185010203046967 6f686e".replace(" ", "")),
        bytes.fromhex("880503e8627965"),
        bytes.fromhex("827e0080") + bytes(128),
    ),
    "websocket_opening": (
        _REQUEST,
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n",
    ),
    "websocket_proof": (b"\x81\x46hello " + b"a" * 64 + b"\x81\x46proof " + b"b" * 64, b"\x82\x01x"),
}
