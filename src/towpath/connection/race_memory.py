"""What earlier races taught: which address family did not get through."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.connection.racing import Attempt

__all__ = ["RaceMemory"]

_MAX_KEYS = 1024
REMEMBER = 600.0
"""For how many seconds a family is put last: ten minutes, as the drafts suggest that clients come back to it."""


class RaceMemory:
    """Remembers families that failed, or did not answer before another one won, by key (a host and port).

    One memory is for one network: make another, or `forget`, when the machine moves. It holds 1,024 keys.

    >>> RaceMemory().last("www.example.test:443", 0.0) is None
    True
    """

    def __init__(self, seconds: float = REMEMBER) -> None:
        self._seconds = seconds
        self._failed: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def last(self, key: str, now: float) -> int | None:
        """The family (4 or 6) to try last."""
        family, until = self._failed.get(key, (0, now))
        if now >= until:
            self._failed.pop(key, None)
            return None
        return family

    def learn(self, key: str, attempts: Sequence[Attempt], delay: float, now: float) -> None:
        """Takes in a race that had a winner; `delay` is how long an attempt must have had to count as unanswered."""
        winner = next((attempt for attempt in attempts if attempt.outcome == "won"), None)
        if winner is None:
            return
        family = winner.candidate.version
        beaten = [
            attempt
            for attempt in attempts
            if attempt.candidate.version != family
            and (attempt.outcome == "failed" or (attempt.outcome == "cancelled" and attempt.duration >= delay))
        ]
        if beaten:
            self._failed[key] = 10 - family, now + self._seconds
            self._failed.move_to_end(key)
            if len(self._failed) > _MAX_KEYS:
                self._failed.popitem(last=False)
        elif self._failed.get(key, (0, 0.0))[0] == family:
            del self._failed[key]

    def forget(self) -> None:
        """The network is another one."""
        self._failed.clear()
