"""An asyncio loop whose time passes only when a test says so."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

__all__ = ["VirtualLoop"]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Runs what is ready; where only timers are left, jumps to the next of them, as far as it may.

    >>> loop = VirtualLoop()
    >>> rung = []
    >>> _ = loop.call_later(3600, rung.append, "an hour later")
    >>> loop.run(3599), rung
    (None, [])
    >>> loop.run(1), rung
    (None, ['an hour later'])
    >>> loop.close()
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._limit: Callable[[], float] = self.time
        super().__init__(_Selector(self._idle))

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def run(self, seconds: float = 0.0, until: Callable[[], float] = lambda: 0.0) -> None:
        """Lets so many seconds pass, or more: as long as `until` gives a later time."""
        end = self._now + seconds
        self._limit = lambda: max(end, until())
        self.run_forever()

    def _idle(self, timeout: float | None) -> None:
        """Nothing is ready, and the next timer is `timeout` seconds away."""
        limit = self._limit()
        if timeout is None or self._now + timeout > limit + _ROUNDING:
            self._now = max(self._now, limit)
            self.stop()
        else:
            self._now += timeout


_ROUNDING = 1e-6


class _Selector(selectors.SelectSelector):
    def __init__(self, idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self._idle(timeout)
        return ready
