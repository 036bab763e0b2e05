"""Which names stand behind an address, and for how long."""

from __future__ import annotations

from towpath.sandbox.names import LEAST_LIFETIME, MOST_ADDRESSES, NameEvidence

_ADDRESS = b"\xc6\x33\x64\x01"


def test_an_address_has_the_names_that_were_answered_with_it_the_latest_first() -> None:
    names = NameEvidence()
    names.learn("a.test", [(_ADDRESS, 60)], now=0)
    names.learn("b.test", [(_ADDRESS, 60)], now=1)
    assert names.of(_ADDRESS, now=2) == ("b.test", "a.test")
    assert names.of(b"\1\2\3\4", now=2) == ()


def test_evidence_counts_for_five_minutes_even_when_the_ttl_is_shorter() -> None:
    names = NameEvidence()
    names.learn("a.test", [(_ADDRESS, 0)], now=0)
    assert names.of(_ADDRESS, now=LEAST_LIFETIME - 1) == ("a.test",)
    assert names.of(_ADDRESS, now=LEAST_LIFETIME) == ()


def test_a_longer_ttl_counts_in_full() -> None:
    names = NameEvidence()
    names.learn("a.test", [(_ADDRESS, 86400)], now=0)
    assert names.of(_ADDRESS, now=86399) == ("a.test",)
    assert names.of(_ADDRESS, now=86400) == ()


def test_evidence_lives_on_while_a_flow_to_it_does() -> None:
    names = NameEvidence()
    names.learn("a.test", [(_ADDRESS, 60)], now=0)
    names.hold(_ADDRESS)
    assert names.of(_ADDRESS, now=10_000) == ("a.test",)
    names.release(_ADDRESS)
    assert names.of(_ADDRESS, now=20_000) == ()


def test_what_is_known_changes_its_generation_when_it_changes() -> None:
    names = NameEvidence()
    start = names.generation
    names.learn("a.test", [(_ADDRESS, 60)], now=0)
    learnt = names.generation
    names.learn("a.test", [(_ADDRESS, 60)], now=1)
    assert start < learnt == names.generation
    names.of(_ADDRESS, now=1000)
    assert names.generation > learnt


def test_a_program_that_resolves_without_end_pushes_out_the_oldest() -> None:
    names = NameEvidence()
    names.learn("first.test", [(_ADDRESS, 60)], now=0)
    for number in range(MOST_ADDRESSES):
        names.learn("more.test", [(number.to_bytes(4, "big"), 60)], now=0)
    assert names.of(_ADDRESS, now=0) == ()
