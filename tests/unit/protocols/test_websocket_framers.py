"""C1: layers above WebSocket see and set what each message is, and hold back `ready` until they have agreed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.websocket_peers import frames_in, server_frame, websocket

from towpath.errors import Misuse, PeerViolation, TimedOut
from towpath.protocols import AuthenticatedWebSocket, Layer, Message, Opcode, WebSocket, WebSocketFramer
from towpath.testing import FramerHarness

SECRET = b"sixteen bytes or more"


def pair(ours: bytes = SECRET, theirs: bytes = SECRET) -> tuple[FramerHarness, FramerHarness]:
    client = websocket(AuthenticatedWebSocket(ours, interval=20, patience=10))
    return client, websocket(AuthenticatedWebSocket(theirs, interval=20, patience=10), is_server=True)


def test_c1_the_program_sees_ready_only_after_the_proof() -> None:
    client, server = pair()
    assert not client.is_ready
    assert not server.is_ready
    client.talk_with(server)
    assert client.is_ready
    assert server.is_ready
    assert client.take_received() == server.take_received() == []


def test_c1_a_wrong_secret_fails_both_with_a_typed_error_and_1008() -> None:
    client, server = pair(theirs=b"another secret of sixteen")
    client.talk_with(server)
    for end in (client, server):
        assert isinstance(end.error, PeerViolation)
        assert end.error.fault == "authentication"
        assert not end.is_ready


def test_c1_the_refused_peer_is_told_so() -> None:
    client, _server = pair()
    client.take_sent()
    client.feed(server_frame(0x81, b"proof of nothing"))
    assert frames_in(client.take_sent(), masked=True) == [(0x88, (1008).to_bytes(2, "big") + b"authentication failed")]


@pytest.mark.parametrize(
    "words",
    [
        [(0x82, b"hello")],
        [(0x81, b"hello short")],
        [(0x81, b"")],
        [(0x81, b"hello " + b"a" * 64), (0x81, b"hello " + b"a" * 64)],
        [(0x81, b"hello " + b"a" * 64), (0x81, b"proof " + "\N{EURO SIGN}".encode())],
        [(0x81, b"news before the proof")],
    ],
)
def test_anything_but_the_proof_ends_it(words: list[tuple[int, bytes]]) -> None:
    client, _server = pair()
    for one in words:
        client.feed(server_frame(*one))
    assert isinstance(client.error, PeerViolation)
    assert client.error.fault == "authentication"


def test_own_words_sent_back_prove_nothing() -> None:
    client, _server = pair()
    for _ in range(2):
        for first, payload in frames_in(client.take_sent(), masked=True):
            client.feed(server_frame(first, payload))
    assert isinstance(client.error, PeerViolation)


def test_c1_an_idle_link_gets_pings_and_the_program_sees_none_of_it() -> None:
    client, server = pair()
    client.talk_with(server)
    for _ in range(5):
        client.advance(20)
        (sent,) = frames_in(client.take_sent(), masked=True)
        assert sent == (0x89, b"")
        client.feed(server_frame(0x8A))
    assert client.error is None
    assert client.take_received() == []


def test_c1_a_peer_that_answers_no_ping_is_dead() -> None:
    client, server = pair()
    client.talk_with(server)
    client.advance(29.9)
    assert client.error is None
    client.advance(0.1)
    assert isinstance(client.error, TimedOut)


def test_the_next_ping_comes_an_interval_after_the_last_answer() -> None:
    end = websocket(AuthenticatedWebSocket(SECRET, interval=5, patience=30))
    end.talk_with(websocket(AuthenticatedWebSocket(SECRET), is_server=True))
    for _ in range(5):
        end.advance(5)
        assert frames_in(end.take_sent(), masked=True) == [(0x89, b"")]
        end.feed(server_frame(0x8A))


def test_any_word_of_the_peer_is_a_sign_of_life() -> None:
    client, server = pair()
    client.talk_with(server)
    for _ in range(10):
        client.advance(15)
        server.send(b"news")
        client.talk_with(server)
    client.advance(19)
    assert client.take_sent() == b""


def test_the_proof_is_not_waited_for_without_end() -> None:
    client, _server = pair()
    client.advance(10)
    assert isinstance(client.error, TimedOut)


def test_c1_the_opcode_survives_the_round_trip() -> None:
    client, server = pair()
    client.talk_with(server)
    client.send(WebSocket.text("text"))
    client.send(WebSocket.binary(b"binary"))
    client.talk_with(server)
    for message in server.take_received():
        server.send(message)
    client.talk_with(server)
    found = [(WebSocket.opcode(one), one.content) for one in client.take_received()]
    assert found == [(Opcode.TEXT, b"text"), (Opcode.BINARY, b"binary")]


class Mark(Layer[str]):
    """Puts its letter around what is sent, and takes it away."""

    def __init__(self, letter: str) -> None:
        self.letter = letter

    def output(self, message: Message) -> None:
        self.write(message.with_content(self.letter.encode() + message.content))

    def input(self, message: Message) -> None:
        assert message.content.startswith(self.letter.encode())
        self.deliver(message.with_content(message.content[1:]).with_metadata(Mark, self.letter))


def test_c1_three_framers_keep_their_order() -> None:
    def layers() -> list[Layer[Any]]:
        return [AuthenticatedWebSocket(SECRET), Mark("b"), Mark("c")]

    client, server = websocket(*layers()), websocket(*layers(), is_server=True)
    client.talk_with(server)
    client.send(WebSocket.text("x"))
    sent = client.take_sent()
    assert frames_in(sent, masked=True) == [(0x81, b"bcx")]
    server.feed(sent)
    (message,) = server.take_received()
    assert (message.content, message.get(Mark)) == (b"x", "c")
    assert WebSocket.opcode(message) is Opcode.TEXT


class Seen(WebSocketFramer[None]):
    """Counts what it sees, and answers each text with a close of its own."""

    seen: tuple[tuple[Opcode, int | None], ...] = ()

    def input_control(self, message: Message) -> None:
        metadata = message.get(WebSocket)
        assert metadata is not None
        self.seen += ((metadata.opcode, metadata.code),)

    def input_data(self, message: Message) -> None:
        self.write(WebSocket.close(4000, "enough"))


def test_c1_a_framer_sees_and_sets_opcodes_and_close_codes() -> None:
    end = websocket(Seen())
    end.feed(server_frame(0x89, b"p") + server_frame(0x8A) + server_frame(0x81, b"x"))
    end.feed(server_frame(0x88, (1000).to_bytes(2, "big")))
    layer = end.stack.layers[1]
    assert isinstance(layer, Seen)
    assert layer.seen == ((Opcode.PING, None), (Opcode.PONG, None), (Opcode.CLOSE, 1000))
    assert end.take_received() == []
    assert (0x88, (4000).to_bytes(2, "big") + b"enough") in frames_in(end.take_sent(), masked=True)


def test_a_framer_above_another_sees_data_only() -> None:
    end = websocket(Mark("a"), Seen())
    end.feed(server_frame(0x89) + server_frame(0x81, b"ax"))
    layer = end.stack.layers[2]
    assert isinstance(layer, Seen)
    assert layer.seen == ()


@pytest.mark.parametrize("settings", [{"secret": b"short"}, {"interval": 0}, {"patience": -1}])
def test_settings_without_sense_are_misuse(settings: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        AuthenticatedWebSocket(**{"secret": SECRET, **settings})
