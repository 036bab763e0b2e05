"""Who is tried when: the rules of Happy Eyeballs under a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.connection.race_candidates import Candidate, Candidates, arrange
from towpath.connection.race_machine import Race, RaceSettings, Start
from towpath.connection.race_memory import RaceMemory
from towpath.errors import Misuse

NEVER = 1e9
V4, V6 = "192.0.2.1", "2001:db8::1"


@dataclass
class Told:
    """Something that happens to a race at a time."""

    at: float
    known: Candidates | None


def ranked(addresses: Sequence[str]) -> Sequence[str]:
    """IPv6 first, otherwise as given."""
    return sorted(addresses, key=lambda address: ":" not in address)


def order(found: object) -> list[Candidate]:
    assert isinstance(found, Sequence)
    return arrange(found, ranked)


def run(
    told: Sequence[Told], ends: Callable[[Candidate], tuple[float, bool]], settings: RaceSettings | None = None
) -> Race:
    """Plays a race to its end: `ends` says how long a candidate takes, and whether it succeeds."""
    now = 0.0
    race = Race(now, order, settings)
    events = sorted(told, key=lambda event: event.at)
    ending: list[tuple[float, int, bool]] = []

    def take(starts: list[Start]) -> None:
        for start in starts:
            seconds, succeeds = ends(start.candidate)
            ending.append((now + seconds, start.number, succeeds))

    for _ in range(10_000):
        if race.over:
            return race
        times = [event.at for event in events[:1]] + [at for at, _, _ in ending if at < NEVER]
        times += [] if race.deadline is None else [max(now, race.deadline)]
        if not times:
            return race
        now = min(times)
        ending.sort()
        if events and events[0].at == now:
            event = events.pop(0)
            take(race.resolved(event.known, now) if event.known else race.resolving_ended(now))
        elif ending and ending[0][0] == now:
            _, number, succeeds = ending.pop(0)
            if succeeds:
                race.succeeded(number, now)
            else:
                take(race.failed(number, OSError("refused"), now))
        else:
            take(race.wake(now))
    raise AssertionError("the race does not end")


def at_once(*addresses: str, awaited: Sequence[str] = ()) -> Candidates:
    return Candidates(tuple(Candidate(address, 443) for address in addresses), frozenset(awaited))


def starts(race: Race) -> list[tuple[str, float]]:
    return [(attempt.candidate.address, round(attempt.offset, 6)) for attempt in race.attempts]


def black_holed(version: int) -> Callable[[Candidate], tuple[float, bool]]:
    return lambda candidate: (NEVER, True) if candidate.version == version else (0.02, True)


def test_a_black_holed_family_costs_one_attempt_delay() -> None:
    race = run([Told(0.0, at_once(V4, V6))], black_holed(6))
    assert starts(race) == [(V6, 0.0), (V4, 0.25)]
    assert [attempt.outcome for attempt in race.attempts] == ["cancelled", "won"]
    assert race.attempts[1].duration == pytest.approx(0.02)


def test_a_failure_starts_the_next_at_once() -> None:
    race = run([Told(0.0, at_once(V6, V4))], lambda candidate: (0.01, candidate.version == 4))
    assert starts(race) == [(V6, 0.0), (V4, 0.01)]
    assert [attempt.outcome for attempt in race.attempts] == ["failed", "won"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([Told(0.0, at_once(V6, awaited=["A"]))], 0.0),
        ([Told(0.0, at_once(V6, awaited=["A", "HTTPS"]))], 0.05),
        ([Told(0.01, at_once(V4, awaited=["AAAA"])), Told(0.03, at_once(V4, V6))], 0.03),
        ([Told(0.01, at_once(V4, awaited=["AAAA"])), Told(0.2, at_once(V4, V6))], 0.06),
        ([Told(0.01, at_once(V4, awaited=["AAAA"])), Told(0.02, at_once(V4))], 0.02),
        ([Told(0.0, at_once(awaited=["AAAA"])), Told(0.5, at_once(V6))], 0.5),
    ],
    ids=["preferred", "service-awaited", "preferred-comes", "delay-passes", "preferred-absent", "nothing-first"],
)
def test_the_first_attempt_waits_for_what_would_be_better_but_not_long(told: list[Told], expected: float) -> None:
    race = run(told, lambda candidate: (0.5, True))
    assert race.attempts[0].offset == pytest.approx(expected)


def test_an_address_that_went_is_not_tried_and_one_that_runs_goes_on() -> None:
    race = run(
        [
            Told(0.0, at_once("2001:db8::a", "2001:db8::b", awaited=["A"])),
            Told(0.1, at_once("2001:db8::c", awaited=["A"])),
            Told(0.2, at_once("2001:db8::c")),
        ],
        lambda candidate: (0.4, candidate.address.endswith("c")),
    )
    assert starts(race) == [("2001:db8::a", 0.0), ("2001:db8::c", 0.25)]


def test_nothing_is_lost_while_more_may_come() -> None:
    race = run(
        [Told(0.0, at_once(V6, awaited=["A"])), Told(3.0, at_once(V6, V4))], lambda found: (0.1, found.version == 4)
    )
    assert starts(race) == [(V6, 0.0), (V4, 3.0)]
    assert race.winner == 1


def test_stale_answers_are_used_at_once_and_fresh_ones_waited_for() -> None:
    stale = Candidates((Candidate(V6, 443),), frozenset(), renewing=True)
    race = run([Told(0.0, stale), Told(1.0, at_once(V6, V4))], lambda found: (0.1, found.version == 4))
    assert starts(race) == [(V6, 0.0), (V4, 1.0)]


def test_all_that_fails_is_lost() -> None:
    race = run([Told(0.0, at_once(V6, V4))], lambda found: (0.1, False))
    assert race.lost
    assert [attempt.outcome for attempt in race.attempts] == ["failed", "failed"]


def test_a_name_without_addresses_is_lost_when_the_answers_are_in() -> None:
    race = run([Told(0.0, at_once(awaited=["A"])), Told(0.1, at_once())], lambda found: (0.1, True))
    assert race.lost
    assert race.attempts == []


@pytest.mark.parametrize("settings", [{"attempt_delay": 0.009}, {"attempt_delay": 2.1}, {"resolution_delay": -1.0}])
def test_delays_have_bounds(settings: dict[str, float]) -> None:
    with pytest.raises(Misuse):
        RaceSettings(**settings)


ADDRESSES = [*(f"192.0.2.{at}" for at in range(4)), *(f"2001:db8::{at + 1}" for at in range(4))]
times = st.integers(0, 60).map(lambda steps: steps / 100)


@given(
    st.lists(st.tuples(times, st.sets(st.sampled_from(ADDRESSES))), min_size=1, max_size=4),
    st.fixed_dictionaries(dict.fromkeys(ADDRESSES, st.tuples(st.one_of(times, st.just(NEVER)), st.booleans()))),
)
def test_whatever_happens_the_rules_hold(
    arrivals: list[tuple[float, set[str]]], ends: dict[str, tuple[float, bool]]
) -> None:
    arrivals = sorted(arrivals, key=lambda entry: entry[0])
    told = [
        Told(at, at_once(*sorted(found), awaited=["A"] if number < len(arrivals) - 1 else []))
        for number, (at, found) in enumerate(arrivals)
    ]
    race = run(told, lambda candidate: ends[candidate.address])
    tried = [attempt.candidate.address for attempt in race.attempts]
    assert len(set(tried)) == len(tried)
    finished = {round(attempt.offset + attempt.duration, 6) for attempt in race.attempts if attempt.outcome == "failed"}
    for before, after in zip(race.attempts, race.attempts[1:], strict=False):
        late_enough = after.offset >= before.offset + 0.25 - 1e-9
        assert late_enough or any(before.offset - 1e-6 <= at <= after.offset + 1e-6 for at in finished)
    outcomes = [attempt.outcome for attempt in race.attempts]
    would_succeed = [
        attempt.offset + ends[attempt.candidate.address][0]
        for attempt in race.attempts
        if ends[attempt.candidate.address][1] and ends[attempt.candidate.address][0] < NEVER
    ]
    if would_succeed:
        assert race.winner is not None
        assert outcomes.count("won") == 1
        won = race.attempts[race.winner]
        assert won.offset + won.duration == pytest.approx(min(would_succeed))
        assert "running" not in outcomes
    else:
        assert race.winner is None
        assert race.lost == all(ends[address][0] < NEVER for address in tried)
    if race.lost:
        assert set(arrivals[-1][1]) <= set(tried)


# Order


def test_families_take_turns_beginning_with_the_preferred() -> None:
    found = [Candidate(address, 443) for address in ADDRESSES[:3] + ADDRESSES[4:6]]
    assert [candidate.version for candidate in arrange(found, ranked)] == [6, 4, 6, 4, 4]
    assert [candidate.version for candidate in arrange(found, ranked, last=6)] == [4, 6, 4, 6, 4]


def test_groups_come_before_services_and_services_before_families() -> None:
    found = [
        Candidate(V4, 443, group=1),
        Candidate(V6, 443, group=1, priority=2),
        Candidate(V4, 8443, group=1, priority=1),
        Candidate(V4, 443, "quic", group=0, priority=2),
    ]
    assert [(one.transport, one.version, one.port) for one in arrange(found, ranked)] == [
        ("quic", 4, 443),
        ("tcp", 4, 8443),
        ("tcp", 6, 443),
        ("tcp", 4, 443),
    ]


# Memory


def test_a_family_that_did_not_get_through_is_last_for_a_while() -> None:
    memory = RaceMemory()
    race = run([Told(0.0, at_once(V4, V6))], black_holed(6))
    memory.learn("good.test", race.attempts, 0.25, 100.0)
    assert memory.last("good.test", 699.0) == 6
    assert memory.last("other.test", 699.0) is None
    assert memory.last("good.test", 700.0) is None


def test_an_attempt_that_had_little_time_is_not_held_against_its_family() -> None:
    memory = RaceMemory()
    race = run([Told(0.0, at_once(V4, V6))], lambda found: (0.26, True) if found.version == 6 else (0.005, True))
    assert [attempt.outcome for attempt in race.attempts] == ["cancelled", "won"]
    memory.learn("quick.test", race.attempts, 0.3, 0.0)
    assert memory.last("quick.test", 1.0) is None


def test_a_family_that_works_again_is_forgiven_and_a_new_network_knows_nothing() -> None:
    memory = RaceMemory()
    broken = run([Told(0.0, at_once(V4, V6))], black_holed(6))
    memory.learn("good.test", broken.attempts, 0.25, 0.0)
    memory.learn("good.test", run([Told(0.0, at_once(V6))], black_holed(4)).attempts, 0.25, 1.0)
    assert memory.last("good.test", 2.0) is None
    memory.learn("good.test", broken.attempts, 0.25, 3.0)
    memory.forget()
    assert memory.last("good.test", 4.0) is None
