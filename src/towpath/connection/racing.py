"""Racing on asyncio: the first candidate that is ready wins, the others are cancelled and stand in the report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from towpath.connection.preference import in_order
from towpath.connection.race_candidates import (
    Candidate,
    Candidates,
    Rank,
    Transport,
    arrange,
    candidates_for,
    kinds_for,
    literal,
)
from towpath.connection.race_machine import Attempt, Outcome, Race, RaceSettings, Start
from towpath.connection.race_memory import RaceMemory
from towpath.errors import TowpathError

__all__ = [
    "Attempt",
    "Candidate",
    "Candidates",
    "Outcome",
    "Race",
    "RaceFailed",
    "RaceMemory",
    "RaceSettings",
    "Raced",
    "Transport",
    "candidates_for",
    "kinds_for",
    "literal",
    "race",
]

T = TypeVar("T")


class RaceFailed(TowpathError, OSError):
    """Every candidate failed. `attempts` says how each; `resolution` is the error of the name, where that was why."""

    def __init__(self, attempts: tuple[Attempt, ...], resolution: Exception | None) -> None:
        reasons = [f"{attempt.candidate}: {_words(attempt.error)}" for attempt in attempts]
        super().__init__("; ".join(reasons) or str(resolution or "there is no address to try"))
        self.attempts = attempts
        if attempts:
            self.hint = f"towpath path {attempts[0].candidate.address} says which way it would go"
        self.resolution = resolution
        self.errno = next((found.error.errno for found in attempts if isinstance(found.error, OSError)), None)


def _words(error: BaseException | None) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


@dataclass(frozen=True, slots=True)
class Raced(Generic[T]):
    """How a race ended. `result` is what the winner's dial gave; `attempts` are all, in the order they began."""

    result: T
    candidate: Candidate
    attempts: tuple[Attempt, ...]
    duration: float


async def race(
    resolving: AsyncIterator[Candidates],
    dial: Callable[[Candidate], Awaitable[T]],
    *,
    clock: Callable[[], float] | None = None,
    memory: RaceMemory | None = None,
    key: str = "",
    settings: RaceSettings | None = None,
    rank: Rank = in_order,
    discard: Callable[[T], object] | None = None,
) -> Raced[T]:
    """Tries candidates as `resolving` finds them, staggered, until the `dial` of one returns.

    `dial` decides what ready means: return after the TCP handshake, or after TLS; losing, it is cancelled. `discard`
    closes the result of one that became ready at the same moment and lost. `memory` with `key` (a host and port) lets
    this race begin with the family that works. `rank` orders addresses (default: RFC 6724 with this machine's own
    source addresses). `clock` gives seconds (default: the loop's).

    Raises `RaceFailed` when every attempt failed, and the `ResolutionFailed` of `resolving` where there was none to
    make. Errors of losers, and errors that are no `OSError` or `TowpathError` of failed attempts, only stand in
    `attempts`.

    >>> async def dial(candidate: Candidate) -> str:
    ...     return candidate.address
    >>> asyncio.run(race(literal(Candidate("127.0.0.1", 80)), dial)).result
    '127.0.0.1'
    """
    tell = clock or asyncio.get_running_loop().time
    begun = tell()
    last = memory.last(key, begun) if memory else None
    machine = Race(begun, lambda found: arrange(found, rank, last=last), settings, preferred=4 if last == 6 else 6)
    driver = _Driver(machine, dial, tell, discard)
    winner, result = await driver.run(resolving)
    attempts = tuple(machine.attempts)
    if memory:
        memory.learn(key, attempts, machine.settings.attempt_delay, tell())
    return Raced(result, attempts[winner].candidate, attempts, tell() - begun)


class _Driver(Generic[T]):
    def __init__(
        self,
        machine: Race,
        dial: Callable[[Candidate], Awaitable[T]],
        clock: Callable[[], float],
        discard: Callable[[T], object] | None,
    ) -> None:
        self._machine = machine
        self._dial = dial
        self._clock = clock
        self._discard = discard
        self._dials: dict[asyncio.Task[T], int] = {}

    async def run(self, resolving: AsyncIterator[Candidates]) -> tuple[int, T]:
        source: asyncio.Task[Candidates] | None = _step(resolving)
        kept: asyncio.Task[T] | None = None
        try:
            while not self._machine.over:
                deadline = self._machine.deadline
                patience = None if deadline is None else max(0.0, deadline - self._clock())
                waited: set[asyncio.Task[Candidates] | asyncio.Task[T]] = {*self._dials}
                if source is not None:
                    waited.add(source)
                done, _ = await asyncio.wait(waited, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for task in [dial for dial in self._dials if dial in done]:
                    kept = self._ended(task) or kept
                if source in done and source is not None:
                    source = self._known(source, resolving)
                self._start(self._machine.wake(self._clock()))
            if kept is None or self._machine.winner is None:
                raise self._failure()
            return self._machine.winner, kept.result()
        finally:
            await self._close(kept, source, resolving)

    def _start(self, starts: Sequence[Start]) -> None:
        for start in starts:
            self._dials[asyncio.create_task(_awaited(self._dial(start.candidate)))] = start.number

    def _ended(self, task: asyncio.Task[T]) -> asyncio.Task[T] | None:
        """The task, when it won."""
        now = self._clock()
        error = task.exception() if not task.cancelled() else asyncio.CancelledError()
        if error is not None:
            self._start(self._machine.failed(self._dials.pop(task), error, now))
            return None
        return task if self._machine.succeeded(self._dials[task], now) else None

    def _known(
        self, source: asyncio.Task[Candidates], resolving: AsyncIterator[Candidates]
    ) -> asyncio.Task[Candidates] | None:
        now = self._clock()
        error = source.exception()
        if error is None:
            self._start(self._machine.resolved(source.result(), now))
            return _step(resolving)
        if isinstance(error, Exception) and not isinstance(error, StopAsyncIteration):
            self._machine.problem = error
        self._start(self._machine.resolving_ended(now))
        return None

    def _failure(self) -> Exception:
        problem = self._machine.problem
        if not self._machine.attempts and problem is not None:
            return problem
        return RaceFailed(tuple(self._machine.attempts), problem)

    async def _close(
        self,
        kept: asyncio.Task[T] | None,
        source: asyncio.Task[Candidates] | None,
        resolving: AsyncIterator[Candidates],
    ) -> None:
        losers = [task for task in self._dials if task is not kept]
        ending: list[asyncio.Task[T] | asyncio.Task[Candidates]] = [*losers]
        if source is not None:
            ending.append(source)
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for loser in losers:
            if self._discard and not loser.cancelled() and loser.exception() is None:
                self._discard(loser.result())
        close = getattr(resolving, "aclose", None)
        if close is not None:
            await close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work


async def _next(resolving: AsyncIterator[Candidates]) -> Candidates:
    return await resolving.__anext__()


def _step(resolving: AsyncIterator[Candidates]) -> asyncio.Task[Candidates]:
    return asyncio.create_task(_next(resolving))
