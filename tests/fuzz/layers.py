"""Fuzz entries of protocol layers and endpoints: the same rule as for all others, see `tests.fuzz.entries`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fuzz import websocket

from towpath.connection.endpoint import Endpoint
from towpath.errors import ConnectionFailed, EndOfStream, Misuse, PeerViolation
from towpath.protocols import Delimiter, FixedSize, Json, KeepAlive, Layer, LengthPrefix, Lines, Tls, Tlv
from towpath.testing import FramerHarness

__all__ = ["ENTRIES", "SEEDS"]

_STACKS: tuple[Callable[[], tuple[Layer[Any], ...]], ...] = (
    lambda: (LengthPrefix(2, 100),),
    lambda: (Tlv(1, 2, 100),),
    lambda: (Lines(100),),
    lambda: (Delimiter(b"--", 100),),
    lambda: (FixedSize(7),),
    lambda: (Lines(1000), Json()),
    lambda: (LengthPrefix(1), KeepAlive(bytes(16))),
)
_TLS = Tls(resumption=False)


def framers(data: bytes) -> None:
    """One byte at a time or all at once: the same messages, and the same complaint."""
    for make in _STACKS:
        outcomes = []
        for size in (1, len(data) or 1):
            harness = FramerHarness(*make())
            harness.feed_in(data[at : at + size] for at in range(0, len(data), size))
            harness.feed_end()
            assert harness.error is None or isinstance(harness.error, (PeerViolation, EndOfStream)), harness.error
            fault = harness.error.fault if isinstance(harness.error, PeerViolation) else type(harness.error).__name__
            outcomes.append((harness.take_received(), fault))
        assert outcomes[0] == outcomes[1]


def tls_answers(data: bytes) -> None:
    """What a server says to a ClientHello never makes the connection ready, and in the end fails it in a typed way."""
    harness = FramerHarness(_TLS, host="www.example.com")
    harness.feed(data)
    harness.feed_end()
    assert not harness.is_ready
    assert isinstance(harness.error, (PeerViolation, EndOfStream, ConnectionFailed)), harness.error


def endpoint_text(data: bytes) -> None:
    """An endpoint that was read is read again from its own text."""
    try:
        endpoint = Endpoint.parse(data.decode("utf-8", "replace"))
    except Misuse:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


ENTRIES: dict[str, Callable[[bytes], None]] = {
    **{entry.__name__: entry for entry in (endpoint_text, framers, tls_answers)},
    **websocket.ENTRIES,
}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "endpoint_text": (
        b"[fe80::1%eth0]:443",
        b"news.example:80",
        b"unix:@x",
        b"wss://[::1]/",
        b"bonjour:a._http._tcp.x",
    ),
    "framers": (b"\0\3abc\0\1d", b'{"a": [1, null]}\r\n--x--', b"\x21\3" + bytes(32), b"\0\0\0\0--\n\n"),
    "tls_answers": (
        b"\x15\3\3\0\2\2\x28",
        b"\x16\3\3\0\4\x0e\0\0\0",
        bytes.fromhex("160303002a020000260303") + bytes(32) + b"\0\x13\x01\0",
    ),
    **websocket.SEEDS,
}
