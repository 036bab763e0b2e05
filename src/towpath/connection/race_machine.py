"""Happy Eyeballs as a machine without input or output: who is tried when (RFC 8305; draft-ietf-happy-happyeyeballs-v3).

Times are seconds of one clock that only goes forward. Every method that takes an event returns what to do now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from towpath.connection.race_candidates import Candidate, Candidates
from towpath.errors import Misuse

__all__ = ["Attempt", "Outcome", "Race", "RaceSettings", "Start"]

Outcome = Literal["running", "won", "failed", "cancelled"]
Arrange = Callable[[Iterable[Candidate]], list[Candidate]]

LEAST_DELAY, MOST_DELAY = 0.01, 2.0


@dataclass(frozen=True, slots=True)
class RaceSettings:
    """How long things wait, in seconds.

    `attempt_delay`: one attempt for the one before, 0.01 to 2. `resolution_delay`: the first address for the answers
    that would be preferred. Raises `Misuse` outside of these.
    """

    attempt_delay: float = 0.25
    resolution_delay: float = 0.05

    def __post_init__(self) -> None:
        if not LEAST_DELAY <= self.attempt_delay <= MOST_DELAY or not 0 <= self.resolution_delay <= MOST_DELAY:
            raise Misuse(f"a race with delays of {self.attempt_delay:g} s and {self.resolution_delay:g} s")


@dataclass(frozen=True, slots=True)
class Attempt:
    """What became of a candidate. `offset` and `duration` in seconds; `offset` counts from the start of the race.

    The outcome "cancelled" is that of losers: another one was ready first.
    """

    candidate: Candidate
    offset: float
    duration: float = 0.0
    outcome: Outcome = "running"
    error: BaseException | None = None


class Start(NamedTuple):
    """Begin with a candidate; its end is told by `number`."""

    number: int
    candidate: Candidate


class Race:
    """The state of one race.

    `arrange` puts candidates in order; `preferred` is the family (4 or 6) whose answer is worth the resolution delay.

    >>> race = Race(0.0, list)
    >>> race.resolved(Candidates((Candidate("192.0.2.1", 443), Candidate("192.0.2.2", 443))), 0.01)[0].candidate.address
    '192.0.2.1'
    >>> race.deadline
    0.26
    >>> [start.candidate.address for start in race.wake(0.26)]
    ['192.0.2.2']
    """

    def __init__(
        self, now: float, arrange: Arrange, settings: RaceSettings | None = None, *, preferred: int = 6
    ) -> None:
        self.settings = settings or RaceSettings()
        self.attempts: list[Attempt] = []
        self.winner: int | None = None
        self.problem: Exception | None = None
        self._begun = now
        self._arrange = arrange
        self._preferred = "AAAA" if preferred == 6 else "A"
        self._waiting: list[Candidate] = []
        self._tried: set[tuple[str, int, str]] = set()
        self._awaited: frozenset[str] = frozenset()
        self._more = True
        self._first_address: float | None = None
        self._next_start = now

    @property
    def lost(self) -> bool:
        """Whether everything failed, and nothing more can come."""
        return self.winner is None and not self._more and not self._waiting and not self._running

    @property
    def over(self) -> bool:
        return self.winner is not None or self.lost

    @property
    def deadline(self) -> float | None:
        """When to call `wake`, or `None` while only events can change anything."""
        if self.over or not self._waiting:
            return None
        if self.attempts:
            return self._next_start
        return None if self._first_address is None else self._first_address + self.settings.resolution_delay

    def resolved(self, candidates: Candidates, now: float) -> list[Start]:
        """What is known now. Attempts that run go on, also when their address has gone."""
        if self.over:
            return []
        self._awaited = candidates.awaited
        self._more = candidates.renewing or bool(candidates.awaited)
        self.problem = candidates.problem or self.problem
        self._waiting = [found for found in self._arrange(candidates.found) if found.key not in self._tried]
        if self._waiting and self._first_address is None:
            self._first_address = now
        return self._go(now)

    def resolving_ended(self, now: float) -> list[Start]:
        """No more will be known."""
        self._awaited, self._more = frozenset(), False
        return self._go(now)

    def succeeded(self, number: int, now: float) -> bool:
        """An attempt is ready. Whether it won; all others that run have lost with that."""
        if self.winner is not None:
            return False
        self.winner = number
        for at, attempt in enumerate(self.attempts):
            if attempt.outcome == "running":
                self._finish(at, "won" if at == number else "cancelled", now)
        self._waiting = []
        return True

    def failed(self, number: int, error: BaseException, now: float) -> list[Start]:
        """An attempt failed; the next one does not wait."""
        if self.over:
            return []
        self._finish(number, "failed", now, error)
        self._next_start = min(self._next_start, now)
        return self._go(now)

    def wake(self, now: float) -> list[Start]:
        """Time has passed."""
        return self._go(now)

    @property
    def _running(self) -> bool:
        return any(attempt.outcome == "running" for attempt in self.attempts)

    def _finish(self, number: int, outcome: Outcome, now: float, error: BaseException | None = None) -> None:
        attempt = self.attempts[number]
        duration = now - self._begun - attempt.offset
        self.attempts[number] = Attempt(attempt.candidate, attempt.offset, duration, outcome, error)

    def _go(self, now: float) -> list[Start]:
        if self.over or not self._waiting or not self._may_start(now):
            return []
        candidate = self._waiting.pop(0)
        self._tried.add(candidate.key)
        self.attempts.append(Attempt(candidate, now - self._begun))
        self._next_start = now + self.settings.attempt_delay
        return [Start(len(self.attempts) - 1, candidate)]

    def _may_start(self, now: float) -> bool:
        if self.attempts:
            return now >= self._next_start
        if self._first_address is not None and now >= self._first_address + self.settings.resolution_delay:
            return True
        return self._awaited.isdisjoint((self._preferred, "HTTPS", "SVCB"))
