"""How long an address counts as a name's: as long as the answer says, 300 s at least, and while a flow to it lives."""

from __future__ import annotations

import pytest

from towpath.hosting.names import LEAST_LIFETIME, MOST_ADDRESSES, MOST_NAMES, NameEvidence

_ADDRESS = bytes([198, 51, 100, 1])


@pytest.mark.parametrize(("ttl", "lifetime"), [(0, 300), (5, 300), (300, 300), (301, 301), (86400, 86400)])
def test_evidence_lasts_for_its_ttl_and_for_five_minutes_at_least(ttl: int, lifetime: int) -> None:
    names = NameEvidence()
    names.learn("web.test", [(_ADDRESS, ttl)], now=1000.0)
    assert names.of(_ADDRESS, now=1000.0 + lifetime - 0.1) == ("web.test",)
    assert names.of(_ADDRESS, now=1000.0 + lifetime + 0.1) == ()


def test_asking_again_renews_it() -> None:
    names = NameEvidence()
    names.learn("web.test", [(_ADDRESS, 0)], now=0.0)
    names.learn("web.test", [(_ADDRESS, 0)], now=200.0)
    assert names.of(_ADDRESS, now=499.0) == ("web.test",)
    assert names.of(_ADDRESS, now=501.0) == ()


def test_evidence_lives_while_a_flow_to_its_address_does() -> None:
    names = NameEvidence()
    names.learn("web.test", [(_ADDRESS, 0)], now=0.0)
    names.hold(_ADDRESS)
    names.hold(_ADDRESS)
    names.release(_ADDRESS)
    assert names.of(_ADDRESS, now=10 * LEAST_LIFETIME) == ("web.test",)
    names.release(_ADDRESS)
    assert names.of(_ADDRESS, now=12 * LEAST_LIFETIME) == ()


def test_names_that_share_an_address_expire_each_for_itself() -> None:
    names = NameEvidence()
    names.learn("long.test", [(_ADDRESS, 1000)], now=0.0)
    names.learn("short.test", [(_ADDRESS, 0)], now=1.0)
    assert names.of(_ADDRESS, now=2.0) == ("short.test", "long.test")
    assert names.of(_ADDRESS, now=400.0) == ("long.test",)


def test_every_change_of_evidence_is_a_new_generation() -> None:
    """Decisions are remembered by it."""
    names = NameEvidence()
    seen = [names.generation]
    for action in (
        lambda: names.learn("web.test", [(_ADDRESS, 0)], now=0.0),
        lambda: names.learn("www.web.test", [(_ADDRESS, 0)], now=0.0),
        lambda: names.of(_ADDRESS, now=400.0),
    ):
        action()
        seen.append(names.generation)
    assert len(set(seen)) == len(seen)


def test_a_program_that_resolves_without_end_pushes_out_the_oldest_evidence_and_none_in_use() -> None:
    names = NameEvidence()
    names.learn("held.test", [(_ADDRESS, 0)], now=0.0)
    names.hold(_ADDRESS)
    others = [(number.to_bytes(4), 60) for number in range(MOST_ADDRESSES + 10)]
    names.learn("many.test", others, now=0.0)
    assert names.of(_ADDRESS, now=1.0) == ("held.test",)
    assert names.of(others[0][0], now=1.0) == ()
    assert names.of(others[-1][0], now=1.0) == ("many.test",)


def test_a_zone_that_answers_every_name_with_one_address_keeps_the_latest_names_only() -> None:
    names = NameEvidence()
    for number in range(MOST_NAMES + 10):
        names.learn(f"n{number}.test", [(_ADDRESS, 60)], now=0)
    assert len(names.of(_ADDRESS, now=1)) == MOST_NAMES
    assert names.of(_ADDRESS, now=1)[0] == f"n{MOST_NAMES + 9}.test"


def test_an_asker_means_the_names_that_it_asked_for() -> None:
    names = NameEvidence()
    names.learn("a.test", [(b"\1\2\3\4", 60)])
    names.learn("b.test", [(b"\1\2\3\4", 60)])
    names.learn("c.test", [(b"\1\2\3\4", 60)])
    names.asked(7, "b.test")
    names.asked(7, "a.test")
    names.asked(8, "c.test")
    found = names.of(b"\1\2\3\4")
    assert found == ("c.test", "b.test", "a.test")
    assert names.meant_by(7, found) == ("a.test", "b.test", "c.test")
    assert names.meant_by(8, found) == ("c.test", "b.test", "a.test")
    assert names.meant_by(9, found) == found


def test_askers_are_bounded() -> None:
    names = NameEvidence()
    for asker in range(10_000):
        for number in range(70):
            names.asked(asker % 600, f"n{number}.test")
    assert len(names._asked) <= 512
    assert all(len(one) <= 64 for one in names._asked.values())
