"""What is known of names already, for as long as it may be believed (RFC 2308), and for a day beyond (RFC 8767)."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from towpath.errors import Misuse
from towpath.names.resolution import Answer, AnswerStatus, Source

__all__ = ["AnswerCache"]

_KEPT = (AnswerStatus.FOUND, AnswerStatus.EMPTY, AnswerStatus.UNKNOWN)
STALE_SECONDS = 86_400.0
"""For how long an answer may be served after its time, on request (RFC 8767 section 5 suggests one to three days)."""


class AnswerCache:
    """Answers by name and type; the least recently used go first when there are `capacity` of them (default 4,096).

    >>> cache = AnswerCache(clock=lambda: 0.0)
    >>> cache.get("www.example.test", "A") is None
    True
    """

    def __init__(self, capacity: int = 4096, clock: Callable[[], float] = time.monotonic) -> None:
        if capacity < 1:
            raise Misuse(f"a cache of {capacity} answers")
        self._capacity = capacity
        self._clock = clock
        self._entries: OrderedDict[tuple[str, str], tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, answer: Answer) -> None:
        """Keeps an answer, unless it is a failure or says that it may not be kept."""
        if answer.status not in _KEPT or answer.ttl <= 0:
            return
        key = answer.name, answer.kind
        self._entries[key] = self._clock(), answer
        self._entries.move_to_end(key)
        if len(self._entries) > self._capacity:
            self._entries.popitem(last=False)

    def get(self, name: str, kind: str, *, stale: bool = False) -> Answer | None:
        """An answer with what is left of its TTL; with `stale` also a positive one whose time has passed, marked so."""
        key = name, kind
        entry = self._entries.get(key)
        if entry is None:
            return None
        kept, answer = entry
        age = self._clock() - kept
        if age >= answer.ttl + STALE_SECONDS:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        if age < answer.ttl:
            return answer.aged(int(age), Source.CACHE)
        return answer.aged(int(age), Source.STALE) if stale and answer.positive else None

    def clear(self) -> None:
        """Forgets everything, as is right when the network changes."""
        self._entries.clear()
