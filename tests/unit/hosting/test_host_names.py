"""Copies of packets from port 53 teach which names an address has, over UDP and TCP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.hosting.host_names import learn_from, messages_of
from towpath.hosting.names import NameEvidence
from towpath.wire import dns, ip

_ADDRESS = bytes([192, 0, 2, 7])


def answer(name: str) -> bytes:
    return dns.answer(dns.query(name, "A", 1, edns=False), [dns.Record(name, "A", 60, _ADDRESS)])


def packet(protocol: int, payload: bytes) -> bytes:
    head = bytes(4) if protocol == ip.UDP else bytes(8) + b"\x50\x18" + bytes(6)
    return bytes.fromhex("450000000000400040") + bytes([protocol]) + bytes(10) + b"\0\x35\x9c\x40" + head + payload


def framed(*messages: bytes) -> bytes:
    return b"".join(len(one).to_bytes(2, "big") + one for one in messages)


@pytest.mark.parametrize(
    ("protocol", "payload", "names"),
    [
        (ip.UDP, answer("a.test"), ("a.test",)),
        (ip.TCP, framed(answer("a.test")), ("a.test",)),
        (ip.TCP, framed(answer("a.test"), answer("b.test")), ("b.test", "a.test")),
        (ip.TCP, framed(answer("a.test")) + framed(answer("b.test"))[:20], ("a.test",)),
        (ip.TCP, framed(answer("a.test"))[9:], ()),
        (ip.TCP, b"", ()),
        (ip.UDP, b"no answer", ()),
    ],
)
def test_what_programs_are_told_is_learnt(protocol: int, payload: bytes, names: tuple[str, ...]) -> None:
    evidence = NameEvidence()
    learn_from(packet(protocol, payload), evidence)
    assert evidence.of(_ADDRESS) == names


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=1))
def test_messages_of_a_segment_come_as_they_were_sent(messages: list[bytes], beginning: bytes) -> None:
    assert list(messages_of(packet(ip.TCP, framed(*messages) + beginning))) == messages
