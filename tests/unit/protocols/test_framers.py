"""Every framer: what goes in comes out, however it is cut, and what breaks the rules is refused."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import EndOfStream, Misuse, PeerViolation, TimedOut
from towpath.protocols import Delimiter, FixedSize, Json, KeepAlive, Layer, LengthPrefix, Lines, Message, Tlv
from towpath.testing import FramerHarness

SECRET = b"sixteen bytes or more"
plain = st.binary(max_size=40)
FRAMERS: dict[str, tuple[Callable[[], Layer[Any]], st.SearchStrategy[Message]]] = {
    "length-prefix": (lambda: LengthPrefix(size=2, maximum=40), plain.map(Message)),
    "delimiter": (lambda: Delimiter(b"::", 40), plain.filter(lambda data: b":" not in data).map(Message)),
    "lines": (
        lambda: Lines(40),
        plain.filter(lambda data: b"\n" not in data and not data.endswith(b"\r")).map(Message),
    ),
    "fixed-size": (lambda: FixedSize(3), st.binary(min_size=3, max_size=3).map(Message)),
    "tlv": (
        lambda: Tlv(1, 2, 40),
        st.builds(lambda data, kind: Message(data).with_metadata(Tlv, kind), plain, st.integers(0, 255)),
    ),
}


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@pytest.mark.parametrize("name", FRAMERS)
def test_messages_come_out_as_they_went_in_however_they_are_cut(name: str) -> None:
    make, messages = FRAMERS[name]

    @given(st.lists(messages, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
    def holds(sent: list[Message], places: list[int]) -> None:
        near, far = FramerHarness(make()), FramerHarness(make())
        for message in sent:
            near.send(message)
        far.feed_in(cut(near.take_sent(), places))
        far.feed_end()
        assert far.error is None
        assert far.take_received() == sent
        assert far.ended

    holds()


@pytest.mark.parametrize("name", FRAMERS)
def test_any_bytes_give_the_same_messages_or_the_same_violation_however_they_are_cut(name: str) -> None:
    make, _messages = FRAMERS[name]

    @given(st.binary(max_size=200), st.lists(st.integers(0, 10_000), max_size=12))
    def holds(data: bytes, places: list[int]) -> None:
        outcomes = []
        for chunks in ([data], cut(data, places), [bytes((one,)) for one in data]):
            harness = FramerHarness(make())
            harness.feed_in(chunks)
            harness.feed_end()
            assert harness.error is None or isinstance(harness.error, PeerViolation)
            fault = harness.error.fault if isinstance(harness.error, PeerViolation) else ""
            outcomes.append((harness.take_received(), fault))
        assert outcomes[0] == outcomes[1] == outcomes[2]

    holds()


@pytest.mark.parametrize(
    ("framer", "data", "fault"),
    [
        (LengthPrefix(4, 10), b"\0\0\0\x0b", "message-too-large"),
        (LengthPrefix(8, 10), b"\xff" * 8, "message-too-large"),
        (Tlv(2, 2, 10), b"\0\1\0\x0b", "message-too-large"),
        (Lines(10), b"x" * 12, "message-too-large"),
        (Delimiter(b"::", 10), b"x" * 11 + b":", "message-too-large"),
    ],
)
def test_a_message_that_is_too_large_is_refused_before_it_is_kept(framer: Layer[Any], data: bytes, fault: str) -> None:
    harness = FramerHarness(framer)
    harness.feed(data)
    assert isinstance(harness.error, PeerViolation)
    assert harness.error.fault == fault


@pytest.mark.parametrize(
    ("framer", "message"),
    [
        (LengthPrefix(1), Message(b"x" * 256)),
        (Lines(), Message(b"two\nlines")),
        (Lines(), Message(b"ends with\r")),
        (Delimiter(b"::"), Message(b"a::b")),
        (Delimiter(b"::"), Message(b"ends with:")),
        (FixedSize(4), Message(b"five!")),
        (FixedSize(4), Message(b"abc")),
        (Tlv(), Message(b"no type")),
        (Tlv(1), Message(b"").with_metadata(Tlv, 256)),
    ],
)
def test_what_cannot_be_framed_is_misuse_and_sends_nothing(framer: Layer[Any], message: Message) -> None:
    harness = FramerHarness(framer)
    with pytest.raises(Misuse):
        harness.send(message)
    assert harness.take_sent() == b""
    assert harness.error is None


def test_a_message_sent_in_parts_arrives_whole() -> None:
    harness = FramerHarness(LengthPrefix())
    harness.send(b"one ", complete=False)
    harness.send(b"two", complete=False)
    assert harness.take_sent() == b""
    harness.send(b"")
    assert harness.take_sent() == b"\0\0\0\x07one two"


@dataclass
class News:
    title: str
    count: int = 0


def test_json_carries_values_and_checks_them() -> None:
    near, far = FramerHarness(Lines(), Json()), FramerHarness(Lines(), Json(News))
    near.send(Json.message(News("hello", 3)))
    near.send(Json.message({"title": 7}))
    far.feed(near.take_sent())
    assert [Json.value(message) for message in far.take_received()] == [News("hello", 3)]
    assert isinstance(far.error, PeerViolation)
    assert far.error.fault == "json"


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"[" * 100_000, b"1 2", b"nul"])
def test_what_is_no_json_is_a_violation(text: bytes) -> None:
    harness = FramerHarness(LengthPrefix(), Json())
    harness.feed(len(text).to_bytes(4, "big") + text)
    assert isinstance(harness.error, PeerViolation)


def test_json_knows_null_from_nothing() -> None:
    harness = FramerHarness(Lines(), Json())
    harness.feed(b"null\n")
    (message,) = harness.take_received()
    assert Json.value(message) is None
    with pytest.raises(Misuse):
        Json.value(Message(b"null"))


def keep_alive_pair(ours: bytes = SECRET, theirs: bytes = SECRET) -> tuple[FramerHarness, FramerHarness]:
    layers = LengthPrefix(), KeepAlive(ours, interval=20, patience=10)
    others = LengthPrefix(), KeepAlive(theirs, interval=20, patience=10)
    return FramerHarness(*layers), FramerHarness(*others, is_server=True)


def test_keep_alive_is_ready_once_both_have_proven_the_secret() -> None:
    client, server = keep_alive_pair()
    assert not client.is_ready
    client.talk_with(server)
    assert client.is_ready
    assert server.is_ready
    client.send(b"news")
    client.talk_with(server)
    assert [message.content for message in server.take_received()] == [b"news"]
    assert client.take_received() == []


def test_keep_alive_refuses_another_secret() -> None:
    client, server = keep_alive_pair(theirs=b"another secret of sixteen")
    client.talk_with(server)
    for end in (client, server):
        assert isinstance(end.error, PeerViolation)
        assert end.error.fault == "keep-alive-proof"


def test_keep_alive_refuses_its_own_words_sent_back() -> None:
    client, _server = keep_alive_pair()
    for _ in range(2):
        client.feed(client.take_sent())
    assert isinstance(client.error, PeerViolation)


def test_keep_alive_pings_an_idle_link_and_lives_on_the_answers() -> None:
    client, server = keep_alive_pair()
    client.talk_with(server)
    for _ in range(5):
        client.advance(20)
        assert client.take_sent() == b"\0\0\0\1\1"
        client.feed(b"\0\0\0\1\2")
    assert client.error is None
    assert client.take_received() == []


def test_keep_alive_declares_dead_who_does_not_answer() -> None:
    client, server = keep_alive_pair()
    client.talk_with(server)
    client.advance(29.9)
    assert client.error is None
    client.advance(0.1)
    assert isinstance(client.error, TimedOut)


def test_keep_alive_has_no_patience_without_end_for_the_handshake() -> None:
    client, _server = keep_alive_pair()
    client.advance(10)
    assert isinstance(client.error, TimedOut)


def test_a_peer_that_leaves_during_the_handshake_fails_it() -> None:
    client, _server = keep_alive_pair()
    client.feed_end()
    assert isinstance(client.error, EndOfStream)
