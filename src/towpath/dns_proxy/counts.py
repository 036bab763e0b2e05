"""Which names are asked for, by whom, with what outcome: for somebody who watches."""

from __future__ import annotations

from typing import Any

__all__ = ["NameCounts"]

_MOST = 2000
_SHOWN = 40


class _Count:
    __slots__ = ("asked", "cached", "programs", "reason", "refused", "seconds")

    def __init__(self) -> None:
        self.asked = self.cached = self.refused = 0
        self.seconds = 0.0
        self.reason = ""
        self.programs: dict[str, None] = {}


class NameCounts:
    """Counts of at most 2,000 names, those forgotten first that were asked for longest ago.

    >>> counts = NameCounts()
    >>> counts.asked("news.test", "curl", cached=False, seconds=0.02)
    >>> counts.report()["names"][0]["name"]
    'news.test'
    """

    def __init__(self) -> None:
        self._names: dict[str, _Count] = {}
        self._servers: dict[str, tuple[int, float]] = {}
        self.total = self.cached = self.refused = 0

    def _count(self, name: str, program: str) -> _Count:
        count = self._names.pop(name, None) or _Count()
        self._names[name] = count
        if len(self._names) > _MOST:
            del self._names[next(iter(self._names))]
        count.asked += 1
        self.total += 1
        if len(count.programs) < 8:
            count.programs[program] = None
        return count

    def asked(self, name: str, program: str, *, cached: bool, seconds: float) -> None:
        """A question was answered, from the cache or after so many seconds."""
        count = self._count(name, program)
        if cached:
            count.cached += 1
            self.cached += 1
        else:
            count.seconds = seconds

    def refuse(self, name: str, program: str, reason: str) -> None:
        """A question was refused, and why."""
        count = self._count(name, program)
        count.refused += 1
        count.reason = reason
        self.refused += 1

    def answered(self, server: str, seconds: float) -> None:
        """A server has answered."""
        known, before = self._servers.get(server, (0, seconds))
        self._servers[server] = known + 1, before * 0.875 + seconds * 0.125

    def report(self) -> dict[str, Any]:
        """The sums, the names that are asked for most, and the servers: times in milliseconds."""
        names = sorted(self._names.items(), key=lambda item: -item[1].asked)[:_SHOWN]
        return {
            "asked": self.total,
            "cached": self.cached,
            "refused": self.refused,
            "names": [
                {
                    "name": name,
                    "asked": count.asked,
                    "cached": count.cached,
                    "refused": count.refused,
                    "reason": count.reason or None,
                    "programs": list(count.programs),
                    "milliseconds": round(count.seconds * 1000, 2),
                }
                for name, count in names
            ],
            "servers": [
                {"server": server, "answers": count, "milliseconds": round(seconds * 1000, 2)}
                for server, (count, seconds) in self._servers.items()
            ],
        }
