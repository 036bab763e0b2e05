"""Messages of WebSocket: what the peer may send and what follows, case by case (RFC 6455 sections 5 to 8)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.websocket_peers import client_frame, frames_in, from_client, server_frame, websocket

from towpath.errors import EndOfStream, Misuse, PeerViolation
from towpath.protocols import (
    AuthenticatedWebSocket,
    CloseCode,
    Message,
    Opcode,
    WebSocket,
    WebSocketClosed,
    WebSocketMetadata,
)

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
"""First bytes of frames that are the last of their message; less 0x80, of those that are not."""
MORE, LAST = 0x00, 0x80
BOTH_SIDES = pytest.mark.parametrize("is_server", [False, True], ids=["client", "server"])

EURO = "\N{EURO SIGN}".encode()
GREEK = "κόσμε".encode()
NORMAL = (1000).to_bytes(2, "big")
SIZES = (0, 1, 125, 126, 127, 128, 65_535, 65_536)

ACCEPTED: dict[str, tuple[list[tuple[int, bytes]], list[tuple[Opcode, bytes]], list[tuple[int, bytes]]]] = {
    # name: frames that come, messages that the program gets, frames that are answered
    "text": ([(TEXT, b"hello")], [(Opcode.TEXT, b"hello")], []),
    "empty": ([(TEXT, b""), (BINARY, b"")], [(Opcode.TEXT, b""), (Opcode.BINARY, b"")], []),
    "greek": ([(TEXT, GREEK)], [(Opcode.TEXT, GREEK)], []),
    "two fragments": ([(0x01, b"hel"), (LAST, b"lo")], [(Opcode.TEXT, b"hello")], []),
    "empty fragments": ([(0x02, b""), (MORE, b""), (LAST, b"")], [(Opcode.BINARY, b"")], []),
    "a character cut by fragments": (
        [(0x01, EURO[:1]), (MORE, EURO[1:2]), (LAST, EURO[2:])],
        [(Opcode.TEXT, EURO)],
        [],
    ),
    "ping between fragments": ([(0x01, b"a"), (PING, b"p"), (LAST, b"b")], [(Opcode.TEXT, b"ab")], [(PONG, b"p")]),
    "pings": ([(PING, b"1"), (PING, b"2")], [], [(PONG, b"1"), (PONG, b"2")]),
    "a ping of 125 bytes": ([(PING, b"\xfe" * 125)], [], [(PONG, b"\xfe" * 125)]),
    "a pong nobody asked for": ([(PONG, b"x")], [], []),
    "close": ([(CLOSE, NORMAL + b"bye"), (TEXT, b"late")], [], [(CLOSE, NORMAL)]),
    "close and nonsense": ([(CLOSE, NORMAL), (0xFF, b"\xff")], [], [(CLOSE, NORMAL)]),
    "close without a code": ([(CLOSE, b"")], [], [(CLOSE, b"")]),
    "bytes that are no text": ([(BINARY, b"\xff\xfe")], [(Opcode.BINARY, b"\xff\xfe")], []),
    "noncharacters": ([(TEXT, "\uffff\U0010ffff".encode())], [(Opcode.TEXT, "\uffff\U0010ffff".encode())], []),
}

REFUSED: dict[str, tuple[list[tuple[int, bytes]], str, int]] = {
    "first reserved bit": ([(TEXT | 0x40, b"")], "websocket-reserved-bits", 1002),
    "second reserved bit": ([(TEXT | 0x20, b"")], "websocket-reserved-bits", 1002),
    "third reserved bit": ([(BINARY | 0x10, b"x")], "websocket-reserved-bits", 1002),
    "reserved bit of a ping": ([(PING | 0x40, b"")], "websocket-reserved-bits", 1002),
    **{f"opcode {kind}": ([(0x80 | kind, b"")], "websocket-opcode", 1002) for kind in (3, 4, 5, 6, 7, 11, 12, 15)},
    "a ping of 126 bytes": ([(PING, b"x" * 126)], "websocket-control", 1002),
    "a close of 126 bytes": ([(CLOSE, NORMAL + b"x" * 124)], "websocket-control", 1002),
    "a fragmented ping": ([(PING & 0x7F, b"")], "websocket-control", 1002),
    "a continuation of nothing": ([(LAST, b"x")], "websocket-fragment", 1002),
    "a continuation after a message": ([(TEXT, b"a"), (LAST, b"b")], "websocket-fragment", 1002),
    "a message inside another": ([(0x01, b"a"), (TEXT, b"b")], "websocket-fragment", 1002),
    "an unfinished message inside another": ([(0x01, b"a"), (0x02, b"b")], "websocket-fragment", 1002),
    "half a code": ([(CLOSE, b"\x03")], "websocket-close", 1002),
    **{
        f"code {code}": ([(CLOSE, code.to_bytes(2, "big"))], "websocket-close", 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535)
    },
    "a reason that is not UTF-8": ([(CLOSE, NORMAL + b"\xff")], "websocket-utf8", 1007),
    "not UTF-8": ([(TEXT, GREEK + b"\xed\xa0\x80edited")], "websocket-utf8", 1007),
    "overlong": ([(TEXT, b"\xc0\xaf")], "websocket-utf8", 1007),
    "beyond Unicode": ([(TEXT, b"\xf4\x90\x80\x80")], "websocket-utf8", 1007),
    "half a character": ([(TEXT, EURO[:2])], "websocket-utf8", 1007),
    "half a character in the last fragment": ([(0x01, b"a"), (LAST, EURO[:2])], "websocket-utf8", 1007),
    "not UTF-8 in a first fragment": ([(0x01, b"\xff")], "websocket-utf8", 1007),
}


@BOTH_SIDES
@pytest.mark.parametrize("name", ACCEPTED)
def test_what_a_peer_may_send(name: str, is_server: bool) -> None:
    frames, messages, answers = ACCEPTED[name]
    end = websocket(is_server=is_server)
    end.feed(b"".join(from_client(is_server, *one) for one in frames))
    assert end.error is None
    assert [(WebSocket.opcode(one), one.content) for one in end.take_received()] == messages
    assert frames_in(end.take_sent(), masked=not is_server) == answers


@BOTH_SIDES
@pytest.mark.parametrize("name", REFUSED)
def test_what_a_peer_must_not_send(name: str, is_server: bool) -> None:
    frames, fault, code = REFUSED[name]
    end = websocket(is_server=is_server)
    for one in frames:
        end.feed(from_client(is_server, *one))
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == fault
    ((first, payload),) = frames_in(end.take_sent(), masked=not is_server)
    assert (first, int.from_bytes(payload[:2], "big"), payload[2:]) == (CLOSE, code, fault.encode())


@pytest.mark.parametrize(
    "data",
    [
        server_frame(BINARY, b"x" * 125, size=2),
        server_frame(BINARY, b"x" * 65_535, size=8),
        b"\x82\x7f\x80\0\0\0\0\0\0\0",
    ],
)
def test_lengths_are_said_in_the_fewest_bytes(data: bytes) -> None:
    end = websocket()
    end.feed(data)
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == "websocket-length"


@BOTH_SIDES
def test_clients_mask_and_servers_do_not(is_server: bool) -> None:
    end = websocket(is_server=is_server)
    end.feed(from_client(not is_server, TEXT, b"x"))
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == "websocket-mask"


def test_every_frame_of_a_client_has_another_key() -> None:
    end = websocket()
    keys = set()
    for _ in range(2000):
        end.send(b"x")
        keys.add(end.take_sent()[2:6])
    assert len(keys) > 1990


@BOTH_SIDES
@pytest.mark.parametrize("size", SIZES)
def test_a_message_of_any_size_goes_through(size: int, is_server: bool) -> None:
    near, far = websocket(is_server=is_server), websocket(is_server=not is_server)
    content = bytes(one % 251 for one in range(size))
    near.send(content)
    sent = near.take_sent()
    far.feed(sent[:3])
    far.feed(sent[3:])
    assert [one.content for one in far.take_received()] == [content]


@pytest.mark.parametrize("frames", [[(BINARY, b"x" * 11)], [(0x02, b"x" * 6), (MORE, b""), (LAST, b"x" * 5)]])
def test_a_message_that_is_too_large_is_closed_with_1009(frames: list[tuple[int, bytes]]) -> None:
    end = websocket(layer=WebSocket(maximum=10))
    end.feed(server_frame(BINARY, b"x" * 10))
    assert len(end.take_received()) == 1
    for one in frames:
        end.feed(server_frame(*one))
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == "message-too-large"
    assert frames_in(end.take_sent(), masked=True)[-1][1][:2] == (1009).to_bytes(2, "big")


def test_each_message_may_have_the_maximum() -> None:
    end = websocket(layer=WebSocket(maximum=10))
    for _ in range(3):
        end.feed(server_frame(0x02, b"x" * 6) + server_frame(LAST, b"x" * 4) + server_frame(BINARY, b"x" * 10))
    assert [len(one.content) for one in end.take_received()] == [10] * 6


def test_a_frame_is_too_large_as_soon_as_it_is_announced() -> None:
    end = websocket(layer=WebSocket(maximum=10))
    end.feed(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"))
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == "message-too-large"


def test_parts_are_handed_up_as_they_come_and_control_frames_after_the_message() -> None:
    end = websocket(layer=WebSocket(partial=True, control=True))
    end.feed(server_frame(0x01, b"he"))
    assert [(one.content, one.complete) for one in end.take_received()] == [(b"he", False)]
    end.feed(server_frame(PONG, b"x") + server_frame(MORE, b"l"))
    end.feed(server_frame(LAST, b"lo"))
    found = [(WebSocket.opcode(one), one.content, one.complete) for one in end.take_received()]
    assert found == [
        (Opcode.TEXT, b"l", False),
        (Opcode.TEXT, b"lo", True),
        (Opcode.PONG, b"x", True),
    ]


def test_control_frames_inside_one_message_are_not_kept_without_end() -> None:
    end = websocket(layer=WebSocket(partial=True, control=True))
    end.feed(server_frame(0x01, b"a") + server_frame(PONG) * 65)
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == "websocket-control"


def test_what_is_sent_in_parts_becomes_fragments() -> None:
    end = websocket(is_server=True)
    for part, complete in (("wo", False), ("r", False), ("ds", True)):
        end.send(WebSocket.text(part, complete=complete))
    end.send(WebSocket.text("next"))
    assert frames_in(end.take_sent(), masked=False) == [(0x01, b"wo"), (MORE, b"r"), (LAST, b"ds"), (TEXT, b"next")]


def test_a_message_keeps_its_opcode_when_it_is_sent_on() -> None:
    end = websocket(is_server=True)
    end.feed(client_frame(TEXT, b"a") + client_frame(BINARY, b"b"))
    for message in end.take_received():
        end.send(message)
    end.send(b"c")
    assert frames_in(end.take_sent(), masked=False) == [(TEXT, b"a"), (BINARY, b"b"), (BINARY, b"c")]


@pytest.mark.parametrize(
    "message",
    [
        Message(b"\xff").with_metadata(WebSocket, WebSocketMetadata(Opcode.TEXT)),
        Message(b"x" * 126).with_metadata(WebSocket, WebSocketMetadata(Opcode.PING)),
        Message(b"x", False).with_metadata(WebSocket, WebSocketMetadata(Opcode.PONG)),
        Message(b"").with_metadata(WebSocket, WebSocketMetadata(Opcode.CLOSE, 1006)),
        Message(b"").with_metadata(WebSocket, WebSocketMetadata(Opcode.CLOSE, 1000, "x" * 124)),
    ],
)
def test_what_must_not_be_sent_is_misuse_and_harms_nothing(message: Message) -> None:
    end = websocket()
    with pytest.raises(Misuse):
        end.send(message)
    assert end.take_sent() == b""
    end.send(b"good")
    assert end.error is None


def test_text_that_is_sent_in_parts_is_whole_at_its_end() -> None:
    end = websocket()
    end.send(WebSocket.text("a", complete=False))
    with pytest.raises(Misuse):
        end.send(Message(EURO[:1]))


def test_pings_are_left_to_the_program_when_it_wants_them() -> None:
    end = websocket(layer=WebSocket(auto_reply_ping=False, control=True))
    end.feed(server_frame(PING, b"p"))
    assert end.take_sent() == b""
    (message,) = end.take_received()
    assert (WebSocket.opcode(message), message.content) == (Opcode.PING, b"p")


def test_of_a_flood_of_pings_the_last_are_answered() -> None:
    end = websocket(is_server=True)
    end.feed(b"".join(client_frame(PING, b"%d" % number) for number in range(100)))
    assert [payload for _, payload in frames_in(end.take_sent(), masked=False)] == [b"%d" % n for n in range(84, 100)]


def test_pongs_wait_while_the_peer_takes_nothing() -> None:
    end = websocket(is_server=True)
    end.congested = True
    for number in range(1000):
        end.feed(client_frame(PING, b"%d" % number))
        end.advance(0.01)
    assert end.take_sent() == b""
    end.congested = False
    end.advance(1)
    assert len(frames_in(end.take_sent(), masked=False)) == 16


@pytest.mark.parametrize("payload", [NORMAL, (1001).to_bytes(2, "big") + b"later", b""])
def test_a_normal_end_is_the_end_of_the_stream(payload: bytes) -> None:
    end = websocket()
    end.feed(server_frame(CLOSE, payload))
    assert end.ended
    assert end.error is None
    closed = end.stack.about(WebSocket)
    assert closed is not None
    assert (closed.code, closed.reason) == (int.from_bytes(payload[:2] or b"\x03\xed", "big"), payload[2:].decode())
    with pytest.raises(WebSocketClosed):
        end.send(b"late")
    end.feed_end()
    assert end.error is None


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1014, 3000, 3999, 4000, 4999])
def test_any_other_end_is_an_error_with_code_and_reason(code: int) -> None:
    end = websocket()
    end.feed(server_frame(CLOSE, code.to_bytes(2, "big") + b"why"))
    assert isinstance(end.error, WebSocketClosed)
    assert (end.error.code, end.error.reason) == (code, "why")
    assert frames_in(end.take_sent(), masked=True) == [(CLOSE, code.to_bytes(2, "big"))]


def test_a_peer_that_goes_without_a_word_is_1006() -> None:
    end = websocket()
    end.feed(server_frame(BINARY, b"whole") + b"\x82\x05half")
    end.feed_end()
    assert isinstance(end.error, WebSocketClosed)
    assert end.error.code == CloseCode.ABNORMAL
    assert [one.content for one in end.take_received()] == [b"whole"]


def test_the_server_ends_the_stream_after_a_normal_close() -> None:
    client, server = websocket(), websocket(is_server=True)
    client.send(WebSocket.close())
    client.talk_with(server)
    assert (server.output_ended, client.output_ended) == (True, False)
    assert client.ended


def test_the_answer_to_an_own_close_is_no_error_whatever_its_code() -> None:
    end = websocket(is_server=True)
    end.send(WebSocket.close(4002, "thank you"))
    end.feed(client_frame(CLOSE, (4002).to_bytes(2, "big")))
    assert end.error is None
    assert end.ended
    assert end.output_ended


def test_a_graceful_end_waits_for_the_peers_close() -> None:
    end = websocket()
    end.stack.stop()
    assert frames_in(end.take_sent(), masked=True) == [(CLOSE, NORMAL)]
    assert not end.is_stopped
    end.feed(server_frame(TEXT, b"on its way"))
    end.feed(server_frame(CLOSE, NORMAL))
    assert end.is_stopped
    assert end.take_received() == []


def test_a_graceful_end_does_not_wait_for_ever() -> None:
    end = websocket(layer=WebSocket(close_patience=3))
    end.stack.stop()
    end.advance(2.9)
    assert not end.is_stopped
    end.advance(0.1)
    assert end.is_stopped


def test_the_end_of_the_transport_ends_the_wait_for_a_close() -> None:
    end = websocket()
    end.stack.stop()
    end.feed_end()
    assert end.is_stopped
    assert end.error is None


def test_after_the_last_message_answers_still_come() -> None:
    end = websocket()
    end.stack.send_end()
    with pytest.raises(Misuse):
        end.send(b"more")
    end.feed(server_frame(TEXT, b"answer") + server_frame(CLOSE, NORMAL))
    assert [one.content for one in end.take_received()] == [b"answer"]
    assert end.ended


def test_ping_makes_a_peer_answer() -> None:
    end, peer = websocket(), websocket(is_server=True)
    end.stack.ping()
    end.talk_with(peer)
    assert end.take_received() == peer.take_received() == []


def test_a_stream_that_ends_while_an_upper_layer_begins_fails_it() -> None:
    end = websocket(AuthenticatedWebSocket(bytes(16)))
    end.feed(server_frame(CLOSE, NORMAL))
    assert isinstance(end.error, EndOfStream)


messages = st.lists(
    st.tuples(st.sampled_from([Opcode.TEXT, Opcode.BINARY]), st.text(max_size=300), st.integers(1, 4)), max_size=5
)


@BOTH_SIDES
def test_messages_come_out_as_they_went_in_however_they_are_cut(is_server: bool) -> None:
    @given(messages, st.lists(st.integers(0, 10_000), max_size=12))
    def holds(sent: list[tuple[Opcode, str, int]], places: list[int]) -> None:
        near, far = websocket(is_server=is_server), websocket(is_server=not is_server)
        for opcode, text, parts in sent:
            content = text.encode()
            step = len(content) // parts + 1
            pieces = [content[at : at + step] for at in range(0, len(content), step)] or [b""]
            for number, piece in enumerate(pieces):
                message = Message(piece, number == len(pieces) - 1)
                near.send(message.with_metadata(WebSocket, WebSocketMetadata(opcode)))
        data = near.take_sent()
        edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
        far.feed_in(data[start:end] for start, end in itertools.pairwise(edges))
        assert far.error is None
        found = [(WebSocket.opcode(one), one.content.decode()) for one in far.take_received()]
        assert found == [(opcode, text) for opcode, text, _ in sent]

    holds()


@BOTH_SIDES
@given(data=st.binary(max_size=200), places=st.lists(st.integers(0, 10_000), max_size=12))
def test_any_bytes_give_the_same_messages_or_the_same_violation_however_they_are_cut(
    is_server: bool, data: bytes, places: list[int]
) -> None:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    cuts = ([data], [data[start:end] for start, end in itertools.pairwise(edges)], [bytes((one,)) for one in data])
    outcomes = []
    for chunks in cuts:
        end = websocket(layer=WebSocket(maximum=100, control=True), is_server=is_server)
        end.feed_in(chunks)
        assert end.error is None or isinstance(end.error, (PeerViolation, WebSocketClosed))
        outcomes.append((end.take_received(), str(end.error)))
    assert outcomes[0] == outcomes[1] == outcomes[2]
