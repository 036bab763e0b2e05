"""Compressed messages (RFC 7692): what both sides may agree on, and what a peer cannot do with it."""

from __future__ import annotations

import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.websocket_peers import frames_in, server_frame

from towpath.errors import PeerViolation
from towpath.protocols import Opcode, WebSocket, WebSocketOpening
from towpath.protocols.websocket_deflate import Deflate, Deflater, Inflater
from towpath.testing import FramerHarness

LIMIT = 1 << 16


def agreed(keeps: bool, bits: int) -> Deflate:
    return Deflate(bits, bits, keeps, keeps)


def packed(data: bytes, *, final: bool = False) -> bytes:
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush(zlib.Z_FINISH if final else zlib.Z_SYNC_FLUSH)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize("bits", [9, 12, 15])
def test_messages_come_out_as_they_went_in(keeps: bool, bits: int) -> None:
    @given(st.lists(st.lists(st.binary(max_size=2000), min_size=1, max_size=3), max_size=4))
    def holds(messages: list[list[bytes]]) -> None:
        deflater, inflater = Deflater(agreed(keeps, bits)), Inflater(agreed(keeps, bits))
        for parts in messages:
            for number, part in enumerate(parts):
                last = number == len(parts) - 1
                assert inflater.inflate(deflater.deflate(part, last), last, LIMIT) == part

    holds()


def test_a_window_that_lasts_makes_the_second_message_small() -> None:
    content = bytes(range(256))
    sizes = {}
    for keeps in (True, False):
        deflater = Deflater(agreed(keeps, 15))
        sizes[keeps] = [len(deflater.deflate(content, True)) for _ in range(2)]
    assert sizes[True][1] < 20 < sizes[False][1] == sizes[False][0]


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (bytes.fromhex("f248cdc9c90700"), b"Hello"),
        (bytes.fromhex("f348cdc9c9070000"), b"Hello"),  # in a block that says it is the final one
        (bytes.fromhex("000500faff48656c6c6f00"), b"Hello"),  # not compressed
        (bytes.fromhex("f248050000 00ffffcac9c90700".replace(" ", "")), b"Hello"),  # in two blocks
        (b"\x00", b""),
    ],
)
def test_the_same_words_in_any_blocks(data: bytes, found: bytes) -> None:
    """The encodings are those that RFC 7692 section 7.2.3 shows."""
    inflater = Inflater(Deflate())
    assert inflater.inflate(data, True, LIMIT) == found
    assert inflater.inflate(packed(b"next")[:-4], True, LIMIT) == b"next"


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x06", packed(b"x", final=True) + b"more"])
def test_what_is_not_deflated_is_a_violation(data: bytes) -> None:
    with pytest.raises(PeerViolation) as caught:
        Inflater(Deflate()).inflate(data, True, LIMIT)
    assert caught.value.fault == "websocket-deflate"


@pytest.mark.parametrize("size", [LIMIT + 1, 1 << 26])
def test_a_bomb_is_never_inflated_beyond_the_limit(size: int) -> None:
    data = packed(bytes(size))
    tracemalloc.start()
    try:
        with pytest.raises(PeerViolation) as caught:
            Inflater(Deflate()).inflate(data, True, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 8 * LIMIT
    finally:
        tracemalloc.stop()
    assert caught.value.fault == "message-too-large"


def test_a_message_of_just_the_limit_is_none() -> None:
    assert len(Inflater(Deflate()).inflate(packed(bytes(LIMIT))[:-4], True, LIMIT)) == LIMIT


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_a_message_or_a_violation(data: bytes, last: bool) -> None:
    try:
        found = Inflater(Deflate()).inflate(data, last, 1000)
    except PeerViolation:
        return
    assert len(found) <= 1000


def pair(compression: bool = True) -> tuple[FramerHarness, FramerHarness]:
    client = FramerHarness(WebSocketOpening(compression=True), WebSocket(maximum=LIMIT), url="ws://peer.test/")
    other = FramerHarness(WebSocketOpening(compression=compression), WebSocket(maximum=LIMIT), is_server=True)
    client.talk_with(other)
    assert client.is_ready
    return client, other


def test_both_compress_once_they_have_agreed() -> None:
    client, server = pair()
    for near, far in ((client, server), (server, client)):
        near.send(WebSocket.text("a" * 1000))
        sent = near.take_sent()
        assert len(sent) < 100
        far.feed(sent)
        (message,) = far.take_received()
        assert message == WebSocket.text("a" * 1000)


def test_fragments_are_compressed_too_and_pings_are_not() -> None:
    client, server = pair()
    client.send(WebSocket.text("one", complete=False))
    client.stack.ping()
    client.send(WebSocket.text("two"))
    client.talk_with(server)
    assert [(WebSocket.opcode(one), one.content) for one in server.take_received()] == [(Opcode.TEXT, b"onetwo")]


def test_nobody_compresses_when_one_side_does_not_want_it() -> None:
    client, _server = pair(compression=False)
    client.send(bytes(1000))
    assert len(client.take_sent()) > 1000
    client.feed(server_frame(0xC1, packed(b"x")[:-4]))
    assert isinstance(client.error, PeerViolation)
    assert client.error.fault == "websocket-reserved-bits"


@pytest.mark.parametrize(
    ("frames", "fault", "code"),
    [
        ([(0xC2, packed(bytes(LIMIT + 1))[:-4])], "message-too-large", 1009),
        ([(0x42, packed(bytes(LIMIT))), (0x80, packed(b"x")[:-4])], "message-too-large", 1009),
        ([(0xC2, b"\xff\xff")], "websocket-deflate", 1007),
        ([(0xC1, packed(b"\xff")[:-4])], "websocket-utf8", 1007),
        ([(0x42, packed(b"x")), (0xC0, packed(b"x")[:-4])], "websocket-reserved-bits", 1002),
        ([(0xC9, b"")], "websocket-reserved-bits", 1002),
    ],
)
def test_what_a_compressing_peer_must_not_send(frames: list[tuple[int, bytes]], fault: str, code: int) -> None:
    client, _server = pair()
    for one in frames:
        client.feed(server_frame(*one))
    assert isinstance(client.error, PeerViolation)
    assert client.error.fault == fault
    ((first, payload),) = frames_in(client.take_sent(), masked=True)
    assert (first, int.from_bytes(payload[:2], "big")) == (0x88, code)


def test_a_message_that_is_not_compressed_may_come_all_the_same() -> None:
    client, _server = pair()
    client.feed(server_frame(0x82, b"plain"))
    assert client.take_received() == [WebSocket.binary(b"plain")]
