"""One question to some servers: what goes out when, and what counts as its answer. Virtual time throughout."""

from __future__ import annotations

import pytest
from tests.support.dns_answers import extended_error

from towpath.errors import Misuse
from towpath.names.client import Lookup, QuerySettings, Send, Server
from towpath.names.framing import MessageReader, framed
from towpath.wire import dns

ONE, TWO = Server("192.0.2.1"), Server("192.0.2.2")


def lookup(settings: QuerySettings | None = None, servers: tuple[Server, ...] = (ONE, TWO)) -> Lookup:
    return Lookup("www.good.test", "A", servers, settings)


def answer(send: Send, address: str = "198.51.100.1", rcode: int = 0, *, truncated: bool = False) -> bytes:
    records = [dns.Record("www.good.test", "A", 60, dns.a(address))] if rcode == 0 and not truncated else []
    return dns.answer(send.message, records, rcode, truncated=truncated)


def test_an_answer_ends_the_question() -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    assert (send.server, send.protocol) == (ONE, "udp")
    assert asked.received(send.number, answer(send), 0.1) == []
    assert asked.finished
    assert asked.reply is not None
    assert [record.data for record in asked.reply.records] == [dns.a("198.51.100.1")]


def test_servers_are_tried_in_turn_as_often_as_was_said() -> None:
    asked = lookup(QuerySettings(timeout=2.0, attempts=2))
    sends = asked.start(0.0)
    tried = [sends[0].server]
    for at in range(1, 4):
        assert asked.wake(at * 2.0 - 0.01) == []
        sends = asked.wake(at * 2.0)
        tried.append(sends[0].server)
    assert tried == [ONE, TWO, ONE, TWO]
    assert asked.wake(8.0) == []
    assert asked.finished
    assert asked.reply is None
    assert asked.troubles == [f"192.0.2.{1 + at % 2}: no answer in 2 s" for at in range(4)]


def test_an_answer_to_an_earlier_try_still_counts() -> None:
    asked = lookup()
    (first,) = asked.start(0.0)
    (second,) = asked.wake(5.0)
    asked.received(first.number, answer(first, "198.51.100.9"), 5.1)
    assert asked.finished
    assert asked.reply is not None
    assert asked.answered == first
    assert asked.received(second.number, answer(second), 5.2) == []
    assert asked.reply.records[0].data == dns.a("198.51.100.9")
    assert asked.dropped == 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: bytes((data[0] ^ 1,)) + data[1:],
        lambda data: data[:2] + b"\x01\x00" + data[4:],
        lambda data: data.replace(b"\x04good", b"\x04evil", 1),
        lambda data: dns.answer(dns.query("www.good.test", "AAAA", int.from_bytes(data[:2], "big")), []),
        lambda data: b"",
        lambda data: b"\xff" * 40,
    ],
    ids=["id", "query", "name", "type", "empty", "noise"],
)
def test_what_answers_another_question_is_dropped(spoil: object) -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    assert callable(spoil)
    assert asked.received(send.number, spoil(answer(send)), 0.1) == []
    assert (asked.finished, asked.dropped) == (False, 1)
    asked.received(send.number, answer(send), 0.2)
    assert asked.finished


def test_a_broken_answer_to_the_question_moves_on_to_the_next_server() -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    (again,) = asked.received(send.number, answer(send) + b"\0", 0.1)
    assert again.server == TWO
    assert "dns-trailing" in asked.troubles[0]


def test_a_truncated_answer_is_asked_for_again_over_a_stream() -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    (again,) = asked.received(send.number, answer(send, truncated=True), 0.1)
    assert (again.server, again.protocol) == (ONE, "tcp")
    assert asked.received(again.number, answer(again), 0.2) == []
    assert asked.finished
    assert asked.answered == again


@pytest.mark.parametrize("rcode", [1, 4])
def test_a_server_that_does_not_know_edns_is_asked_without(rcode: int) -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    assert dns.parse_query(send.message).edns
    (again,) = asked.received(send.number, answer(send, rcode=rcode), 0.1)
    assert again.server == ONE
    assert not dns.parse_query(again.message).edns


@pytest.mark.parametrize(("rcode", "ends"), [(0, True), (3, True), (2, False), (5, False)])
def test_a_failure_of_one_server_is_not_the_last_word(rcode: int, ends: bool) -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    sends = asked.received(send.number, answer(send, rcode=rcode), 0.1)
    assert asked.finished is ends
    assert [send.server for send in sends] == ([] if ends else [TWO])


def test_a_refusal_by_policy_is_not_evaded_by_asking_another_server() -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    assert asked.received(send.number, extended_error(answer(send, rcode=5), 15, "malware"), 0.1) == []
    assert asked.finished
    assert asked.reply is not None
    assert [str(error) for error in asked.reply.extended] == ["Blocked: malware"]


def test_a_server_that_cannot_be_reached_costs_no_time() -> None:
    asked = lookup()
    (send,) = asked.start(0.0)
    (again,) = asked.failed(send.number, "Connection refused", 0.001)
    assert again.server == TWO
    assert asked.deadline == 5.001


def test_an_old_try_that_ends_does_not_hurry_the_new_one() -> None:
    asked = lookup()
    (first,) = asked.start(0.0)
    asked.wake(5.0)
    assert asked.failed(first.number, "Connection refused", 5.1) == []
    assert not asked.finished


def test_ids_differ_and_names_may_be_spelled_at_random() -> None:
    draws = iter([7, *[at % 2 for at in range(13)], 9, *[1 - at % 2 for at in range(13)]])
    asked = Lookup(
        "www.good.test", "A", [ONE], QuerySettings(mixed_case=True, attempts=2), below=lambda limit: next(draws)
    )
    (first,) = asked.start(0.0)
    assert dns.parse_query(first.message).id == 7
    assert b"\x03wWw\x04gOoD\x04TeSt" in first.message
    plain = answer(first)
    asked.received(first.number, plain.replace(b"wWw", b"www"), 0.1)
    assert (asked.finished, asked.dropped) == (False, 1)
    asked.received(first.number, plain, 0.2)
    assert asked.finished


@pytest.mark.parametrize(("trust", "expected"), [(True, True), (False, False)])
def test_the_servers_word_is_believed_only_where_it_is_trusted(trust: bool, expected: bool) -> None:
    asked = lookup(QuerySettings(trust_ad=trust))
    (send,) = asked.start(0.0)
    assert bool(send.message[3] & 0x20) is trust
    data = answer(send)
    asked.received(send.number, data[:3] + bytes((data[3] | 0x20,)) + data[4:], 0.1)
    assert asked.reply is not None
    assert asked.reply.authenticated is expected


def test_a_question_needs_a_server() -> None:
    with pytest.raises(Misuse):
        Lookup("www.good.test", "A", [])


def test_a_message_too_long_for_its_length_is_refused() -> None:
    with pytest.raises(Misuse):
        framed(bytes(65536))


def test_a_stream_may_end_between_messages_only() -> None:
    reader = MessageReader()
    assert reader.receive(framed(b"one") + b"\0") == [b"one"]
    assert not reader.clean
    assert reader.receive(b"\0") == [b""]
    assert reader.clean
