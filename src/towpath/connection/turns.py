"""Whose turn it is to send: while there is no room, messages wait, and go by priority when there is some."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from weakref import WeakSet

from towpath.connection.arrival import Arrival
from towpath.connection.context import DEFAULT_CONTEXT, MessageContext
from towpath.errors import Cancelled, Misuse, TimedOut

__all__ = ["Turns"]


class Turns:
    """The order of sends on one connection.

    A stream carries one message after the other: while one is incomplete, only its own context may go on.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, has_room: Callable[[], bool]) -> None:
        self.idle = True
        """Nothing waits, nothing is unfinished, nothing has ended: a plain message may go if there is room."""
        self._loop = loop
        self._has_room = has_room
        self._queue: list[tuple[float, int, Arrival, MessageContext]] = []
        self._numbers = itertools.count()
        self._open: MessageContext | None = None
        self._granted: Arrival | None = None
        self._done: WeakSet[MessageContext] = WeakSet()
        self._failed: WeakSet[MessageContext] = WeakSet()
        self._over: Exception | None = None
        self.ended = False
        """The final message was sent."""

    def free(self, context: MessageContext) -> bool:
        """Whether a message may go at once."""
        return (
            not self._queue
            and self._granted is None
            and (self._open is None or self._open is context)
            and context.antecedent is None
            and not self.ended
            and self._over is None
            and self._has_room()
        )

    def note(self, context: MessageContext, *, complete: bool) -> None:
        """A part of the message was sent, the last one when `complete`."""
        if not complete:
            self._open = context
            self.idle = False
            return
        self._open = None
        if context is not DEFAULT_CONTEXT:
            self._done.add(context)
            self.ended = self.ended or context.final
        self._settle()

    def note_failed(self, context: MessageContext) -> None:
        """The message cannot be sent; those that come after it cannot either."""
        if context is not DEFAULT_CONTEXT:
            self._failed.add(context)
        if self._open is context:
            self._open = None
        self._settle()

    async def wait(self, context: MessageContext) -> None:
        """Returns when the message may go, which the caller must do at once, then `note` it.

        Raises `TimedOut` when it expired, `Cancelled` when its antecedent failed, and what ended the connection.
        """
        self._check(context)
        arrival = Arrival(self._loop)
        self.idle = False
        heapq.heappush(self._queue, (-context.priority, next(self._numbers), arrival, context))
        timer = None
        if context.expires_after is not None:
            timer = self._loop.call_later(context.expires_after, arrival.fire_soon)
        self.admit()
        try:
            await arrival
            if self._granted is not arrival:
                self._check(context)
                raise TimedOut("a message waited to be sent, which", context.expires_after or 0.0)
        except BaseException:
            self._leave(arrival)
            self.note_failed(context)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        self._granted = None

    def admit(self) -> None:
        """Lets the next message go, when there is room and nobody else is going."""
        if self._granted is not None or not self._queue:
            return
        for entry in sorted(self._queue):
            _priority, _number, arrival, context = entry
            antecedent = context.antecedent
            if self._over is not None or self.ended or (antecedent is not None and antecedent in self._failed):
                self._leave(arrival)
                arrival.fire_soon()
            elif (
                self._has_room()
                and (self._open is None or self._open is context)
                and (antecedent is None or antecedent in self._done)
            ):
                self._leave(arrival)
                self._granted = arrival
                arrival.fire_soon()
                return

    def end(self, error: Exception) -> None:
        """Nobody sends any more."""
        self._over = self._over or error
        self._settle()

    def _settle(self) -> None:
        self.admit()
        quiet = not self._queue and self._granted is None and self._open is None
        self.idle = quiet and not self.ended and self._over is None

    def _leave(self, arrival: Arrival) -> None:
        if self._granted is arrival:
            self._granted = None
        self._queue = [entry for entry in self._queue if entry[2] is not arrival]
        heapq.heapify(self._queue)

    def _check(self, context: MessageContext) -> None:
        if self._over is not None:
            raise self._over
        if self.ended:
            raise Misuse("the final message was sent: this side sends no more")
        if context.antecedent is not None and context.antecedent in self._failed:
            raise Cancelled("the message before this one could not be sent")
