"""What a stack promises its layers: order, readiness, metadata, time, endings."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from towpath.errors import ConnectionFailed, Misuse, PeerViolation, TimedOut
from towpath.protocols import Layer, LengthPrefix, Message
from towpath.testing import FramerHarness

TEXT, BINARY, PING, PONG = 1, 2, 9, 10


@dataclass(frozen=True)
class Envelope:
    opcode: int


class Opcodes(Layer[Envelope]):
    """A message protocol whose messages have an opcode, as WebSocket's have."""

    def input(self, message: Message) -> None:
        told = message.with_content(message.content[1:])
        self.deliver(told.with_metadata(Opcodes, Envelope(message.content[0])))

    def output(self, message: Message) -> None:
        envelope = message.get(Opcodes) or Envelope(BINARY)
        self.write(message.with_content(bytes((envelope.opcode,)) + message.content))


class Session(Layer[None]):
    """Above a protocol with opcodes: a token before ready, pings of its own, no answer is a failure."""

    def start(self) -> bool:
        self.write(Message(b"token").with_metadata(Opcodes, Envelope(TEXT)))
        self.welcome = False
        self.asked = False
        return False

    def input(self, message: Message) -> None:
        envelope = message.get(Opcodes)
        self.asked = False
        if envelope is not None and envelope.opcode == PONG:
            self.schedule_wakeup(20)
        elif not self.welcome:
            if message.content != b"welcome":
                raise PeerViolation("session-refused", message.content.decode())
            self.welcome = True
            self.schedule_wakeup(20)
            self.mark_ready()
        else:
            self.deliver(message)

    def wakeup(self) -> None:
        if self.asked:
            raise TimedOut("the pong", 5)
        self.asked = True
        self.write(Message().with_metadata(Opcodes, Envelope(PING)))
        self.schedule_wakeup(5)


def framed(opcode: int, content: bytes = b"") -> bytes:
    return (len(content) + 1).to_bytes(4, "big") + bytes((opcode,)) + content


def session() -> FramerHarness:
    harness = FramerHarness(LengthPrefix(), Opcodes(), Session())
    assert harness.take_sent() == framed(TEXT, b"token")
    return harness


def test_c1_ready_is_withheld_until_the_exchange_is_done() -> None:
    harness = session()
    assert not harness.is_ready
    harness.feed(framed(TEXT, b"welcome") + framed(TEXT, b"first"))
    assert harness.is_ready
    assert [message.content for message in harness.take_received()] == [b"first"]


def test_c1_a_failed_exchange_fails_the_connection_with_its_own_error() -> None:
    harness = session()
    harness.feed(framed(TEXT, b"go away"))
    assert isinstance(harness.error, PeerViolation)
    assert harness.error.fault == "session-refused"
    assert not harness.is_ready


def test_c1_the_opcode_is_seen_and_set_by_the_program_above_all_layers() -> None:
    harness = session()
    harness.feed(framed(TEXT, b"welcome") + framed(TEXT, b"in"))
    (message,) = harness.take_received()
    assert message.get(Opcodes) == Envelope(TEXT)
    harness.send(Message(b"out").with_metadata(Opcodes, Envelope(TEXT)))
    harness.send(b"raw")
    assert harness.take_sent() == framed(TEXT, b"out") + framed(BINARY, b"raw")


def test_c1_an_idle_link_gets_pings_and_the_program_sees_none_of_it() -> None:
    harness = session()
    harness.feed(framed(TEXT, b"welcome"))
    for _ in range(3):
        harness.advance(20)
        assert harness.take_sent() == framed(PING)
        harness.feed(framed(PONG))
    assert harness.take_received() == []
    assert harness.error is None
    harness.advance(24.9)
    assert harness.error is None
    harness.advance(0.1)
    assert isinstance(harness.error, TimedOut)


class Mark(Layer[None]):
    """Leaves its letter on what passes."""

    def __init__(self, letter: bytes) -> None:
        self.letter = letter

    def input(self, message: Message) -> None:
        self.deliver(message.with_content(message.content + self.letter))

    def output(self, message: Message) -> None:
        self.write(message.with_content(message.content + self.letter))


def test_c1_the_last_layer_added_sends_first_and_receives_last() -> None:
    harness = FramerHarness(Mark(b"a"), Mark(b"b"), Mark(b"c"))
    harness.send(b"")
    harness.feed(Message(b""))
    assert harness.take_sent() == b"cba"
    assert [message.content for message in harness.take_received()] == [b"abc"]


class Reluctant(Layer[None]):
    """Says goodbye before it stops."""

    def stop(self) -> bool:
        self.write(Message(b"bye"))
        return False

    def input(self, message: Message) -> None:
        self.mark_stopped()


def test_a_layer_may_delay_the_end_until_its_peer_has_answered() -> None:
    harness = FramerHarness(Reluctant(), Mark(b"."))
    harness.stack.stop()
    assert harness.take_sent() == b"bye"
    assert not harness.is_stopped
    harness.feed(b"bye")
    assert harness.is_stopped
    assert harness.take_received() == []


class Broken(Layer[None]):
    def input(self, message: Message) -> None:
        raise KeyError("a mistake of the author")


def test_a_mistake_in_a_layer_ends_the_connection_and_keeps_its_cause() -> None:
    harness = FramerHarness(Broken())
    harness.feed(b"x")
    assert isinstance(harness.error, ConnectionFailed)
    assert isinstance(harness.error.__cause__, KeyError)


class Early(Layer[None]):
    def start(self) -> bool:
        self.deliver(Message(b"too soon"))
        return False


def test_nothing_is_delivered_before_a_layer_is_ready() -> None:
    harness = FramerHarness(Early(), Mark(b"."))
    assert isinstance(harness.error, PeerViolation)
    assert harness.take_received() == []


class Shared(Layer[None]):
    def __init__(self) -> None:
        self.seen = bytearray()


def test_a_pattern_that_would_share_state_is_refused() -> None:
    with pytest.raises(Misuse, match="shared"):
        FramerHarness(Shared())


def test_conversations_of_one_pattern_know_nothing_of_each_other() -> None:
    pattern = LengthPrefix()
    one, two = FramerHarness(pattern), FramerHarness(pattern)
    one.feed(b"\0\0\0\5he")
    two.feed(b"\0\0\0\3you")
    one.feed(b"llo")
    assert [message.content for message in one.take_received()] == [b"hello"]
    assert [message.content for message in two.take_received()] == [b"you"]
