"""The one loop of a run: readable and writable descriptors, and deadlines.

Small on purpose. asyncio would cost its import before the command starts and a task switch for every new flow; the
handlers here are plain functions that never wait.
"""

from __future__ import annotations

import heapq
import itertools
import os
import select
import time
from collections import deque
from collections.abc import Callable
from functools import partial

__all__ = ["BOTH_EDGES", "ENDING", "FAILING", "IN", "OUT", "READABLE", "Loop", "Patience", "Timer"]

IN, OUT = select.EPOLLIN, select.EPOLLOUT
BOTH_EDGES = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
FAILING = select.EPOLLERR | select.EPOLLHUP
ENDING = select.EPOLLRDHUP | FAILING
READABLE = select.EPOLLIN | ENDING

Handler = Callable[[int], None]


class Timer:
    """A deadline that can be cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    """Calls a handler with the ready events of its descriptor, until `stop`.

    A descriptor closed by one handler may be reused within the same batch of events; a handler is therefore never
    called for events older than itself. One thread runs it; of the others each may `post`.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Handler, int]] = {}
        self._missed: dict[int, int] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._soon: deque[Callable[[], None]] = deque()
        self._batch = 0
        self._stopped = False
        self._posted: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._bell, IN, self._take_posted)

    def watch(self, descriptor: int, events: int, handler: Handler) -> None:
        self._epoll.register(descriptor, events)
        self._handlers[descriptor] = handler, self._batch

    def rewatch(self, descriptor: int, events: int) -> None:
        """Other events of a descriptor that is watched, for the same handler."""
        self._epoll.modify(descriptor, events)

    def park(self, descriptor: int, events: int) -> None:
        """Keeps these events of a descriptor, and those to come, for the handler that `adopt` will give it."""
        self._missed[descriptor] = events
        self._handlers[descriptor] = partial(self._miss, descriptor), self._handlers[descriptor][1]

    def _miss(self, descriptor: int, events: int) -> None:
        self._missed[descriptor] |= events

    def adopt(self, descriptor: int, handler: Handler) -> int:
        """Watches both edges; of a descriptor that is watched so already only the handler changes, with no system call.

        Gives the events it missed while it was parked: their edges do not come again.
        """
        entry = self._handlers.get(descriptor)
        if entry is None:
            self.watch(descriptor, BOTH_EDGES, handler)
            return 0
        self._handlers[descriptor] = handler, entry[1]
        return self._missed.pop(descriptor, 0)

    def leave(self, descriptor: int) -> None:
        """`forget` for a descriptor that the caller closes at once: with it the kernel's interest ends (epoll(7))."""
        self._handlers.pop(descriptor, None)
        self._missed.pop(descriptor, None)

    def forget(self, descriptor: int) -> None:
        """To be called before the descriptor is closed. Does nothing for one that is not watched."""
        if self._handlers.pop(descriptor, None) is not None:
            self._missed.pop(descriptor, None)
            self._epoll.unregister(descriptor)

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def soon(self, call: Callable[[], None]) -> None:
        """Calls after the events that are ready now: for work that was cut short to be fair."""
        self._soon.append(call)

    def post(self, call: Callable[[], None]) -> None:
        """Calls in the loop's thread, in the order of posting; from any thread, and never waits.

        What is posted after `close` is not called.
        """
        self._posted.append(call)
        try:
            os.eventfd_write(self._bell, 1)
        except OSError:
            pass  # closed

    def _take_posted(self, _events: int) -> None:
        os.eventfd_read(self._bell)
        for _ in range(len(self._posted)):
            self._posted.popleft()()

    def stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        """Runs until `stop`."""
        handlers = self._handlers
        self._stopped = False
        while not self._stopped:
            self._batch += 1
            for descriptor, events in self._epoll.poll(self._patience(), 256):
                entry = handlers.get(descriptor)
                if entry is not None and entry[1] != self._batch:
                    entry[0](events)
            for _ in range(len(self._soon)):
                self._soon.popleft()()
            self._fire()

    def _patience(self) -> float:
        if self._soon:
            return 0
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _fire(self) -> None:
        if not self._timers:
            return
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            call = heapq.heappop(self._timers)[2].call
            if call is not None:
                call()

    def close(self) -> None:
        self._epoll.close()
        bell, self._bell = self._bell, -1
        if bell >= 0:
            os.close(bell)


class Patience:
    """Deadlines equally far away, so that one timer serves them all: the oldest is always the next."""

    def __init__(self, loop: Loop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._waiting: dict[object, tuple[float, Callable[[], None]]] = {}
        self._armed = False

    def begin(self, who: object, call: Callable[[], None]) -> None:
        """Calls after the seconds, unless `end` was called for `who`."""
        self._waiting[who] = time.monotonic() + self._seconds, call
        if not self._armed:
            self._arm(self._seconds)

    def end(self, who: object) -> None:
        self._waiting.pop(who, None)

    def _arm(self, seconds: float) -> None:
        self._armed = True
        self._loop.later(seconds, self._fire)

    def _fire(self) -> None:
        self._armed = False
        now = time.monotonic()
        while self._waiting:
            who, (deadline, call) = next(iter(self._waiting.items()))
            if deadline > now:
                self._arm(deadline - now)
                return
            del self._waiting[who]
            call()
