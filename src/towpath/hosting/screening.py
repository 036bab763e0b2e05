"""One flow before the filters of a run: who is asked next, which bytes are held, what passes.

Filters stand in a row. A new flow is put to one after the other, and the first `Drop` wins; bytes that one of them
wants to see are held for it, and what it lets pass is held for the next that wants to see it. When nobody wants to see
anything any more, the flow is left to the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from towpath.errors import Misuse
from towpath.hosting import messages
from towpath.hosting.inspection import QUIET, UDP_PAUSE, Complete, FlowInspection, Pass, Show, Step
from towpath.hosting.session import PASSED_ON_FAILURE
from towpath.providers.flow import Direction, Flow
from towpath.providers.verdict import Allow, Drop, FlowVerdict, Pause

if TYPE_CHECKING:
    from towpath.hosting.loop import Loop, Timer
    from towpath.hosting.session import FilterSession

__all__ = ["Screening"]

_DIRECTIONS: tuple[Direction, ...] = ("outbound", "inbound")


class _Watch:
    """One filter's view of the flow."""

    __slots__ = ("inspection", "session", "turn")

    def __init__(self, session: FilterSession) -> None:
        self.session = session
        self.inspection = FlowInspection()
        self.turn = 0
        """Counts its questions: an answer to one that was put again is not the answer any more."""


_ALLOWED = FlowInspection()
_ALLOWED.verdict(Allow())


class Screening:
    """Calls `decided(drop)` once: `None` when the flow may begin, perhaps while bytes are still to be looked at.

    After that, `passing(direction)` tells that `take_passed` has something, and `cut(drop)` that the flow must end.
    `by` is the name of the filter that dropped it.
    """

    def __init__(
        self,
        loop: Loop,
        flow: Flow,
        sessions: Sequence[FilterSession],
        decided: Callable[[Drop | None], None],
    ) -> None:
        self.flow = flow
        self.by = ""
        self.unjudged_by = ""
        """The filter that failed, and was overruled by --on-failure pass."""
        self.dropped: Drop | None = None
        self.passing: Callable[[Direction], None] = lambda _direction: None
        self.cut: Callable[[Drop], None] = lambda _drop: None
        self._loop = loop
        self._sessions = sessions
        self._decided: Callable[[Drop | None], None] | None = decided
        self._watches: list[_Watch] = []
        self._asked = 0
        self._passed: dict[Direction, list[bytes]] = {"outbound": [], "inbound": []}
        self._ended: set[Direction] = set()
        self._timers: dict[Direction, Timer] = {}

    def begin(self) -> None:
        """Puts the flow to the first filter."""
        self._next()

    def _next(self) -> None:
        flow = self.flow
        while self._asked < len(self._sessions):
            session = self._sessions[self._asked]
            self._asked += 1
            settings = session.settings
            static = (
                settings.decide(flow.transport, flow.direction, flow.remote.ip, flow.remote.port)
                if settings.rules
                else "filter"
            )
            if static == "drop":
                self._drop(session, Drop(f"a static rule of the filter {session.name}"))
                return
            if static == "filter" and session.wants("handle_new_flow"):
                watch = _Watch(session)
                self._watches.append(watch)
                self._ask_new(watch)
                return
        decided, self._decided = self._decided, None
        if decided is not None:
            decided(None)

    def _ask_new(self, watch: _Watch) -> None:
        watch.turn += 1
        turn = watch.turn
        watch.session.ask(
            lambda number: messages.NewFlow(number, self.flow), lambda verdict: self._answer(watch, turn, verdict)
        )

    def _answer(self, watch: _Watch, turn: int, verdict: FlowVerdict) -> None:
        if turn != watch.turn or self.dropped is not None:
            return
        if verdict is PASSED_ON_FAILURE:
            self.unjudged_by = watch.session.name
        try:
            steps = watch.inspection.verdict(verdict)
        except Misuse as error:
            self._drop(watch.session, Drop(f"the filter {watch.session.name} broke the rules: {error}"))
            return
        if watch.inspection.dropped is not None:
            self._drop(watch.session, watch.inspection.dropped)
            return
        if isinstance(verdict, Pause):
            if self.flow.transport == "udp":
                self._loop.later(UDP_PAUSE, lambda: self._expire(watch, turn))
            return
        self._follow(watch, steps)
        if self._decided is None:
            for direction in _DIRECTIONS:
                self.passing(direction)
        elif watch is self._watches[-1]:
            self._next()

    def _expire(self, watch: _Watch, turn: int) -> None:
        if watch.turn == turn and watch.inspection.paused:
            self._drop(watch.session, Drop(f"paused for more than {UDP_PAUSE:g} s, which is the most for UDP"))

    def _drop(self, session: FilterSession, drop: Drop) -> None:
        if self.dropped is not None:
            return
        self.dropped, self.by = drop, session.name
        for timer in self._timers.values():
            timer.cancel()
        decided, self._decided = self._decided, None
        if decided is not None:
            decided(drop)
        else:
            self.cut(drop)

    # Bytes.

    @property
    def transparent(self) -> bool:
        """Nobody wants to see any more of this flow, and nothing of it is held."""
        return all(watch.inspection.allowed for watch in self._watches) and not any(self._passed.values())

    def full(self, direction: Direction) -> bool:
        """Reading more of this direction would only fill the memory."""
        for watch in self._watches:
            one = watch.inspection.direction(direction)
            if one.holding and one.room == 0:
                return True
        return False

    def holding(self, direction: Direction) -> bool:
        """Whether bytes of this direction, or its end, wait for a verdict."""
        return bool(self._passed[direction]) or any(
            watch.inspection.direction(direction).holding for watch in self._watches
        )

    def take(self, direction: Direction, data: bytes) -> None:
        """Bytes have arrived; what may pass is in `take_passed`, now or later."""
        timer = self._timers.pop(direction, None)
        if timer is not None:
            timer.cancel()
        self._feed(0, direction, data)

    def end(self, direction: Direction) -> None:
        """No more will come in this direction."""
        self._ended.add(direction)
        if self._watches:
            watch = self._watches[0]
            self._follow(watch, watch.inspection.end(direction))

    def take_passed(self, direction: Direction) -> list[bytes]:
        """What may pass, in the pieces in which it came."""
        passed = self._passed[direction]
        if passed:
            self._passed[direction] = []
        return passed

    def _feed(self, index: int, direction: Direction, data: bytes) -> None:
        if self.dropped is not None:
            return
        if index == len(self._watches):
            self._passed[direction].append(data)
            return
        watch = self._watches[index]
        self._follow(watch, watch.inspection.take(direction, data))

    def _follow(self, watch: _Watch, steps: list[Step]) -> None:
        index = self._watches.index(watch)
        for step in steps:
            if isinstance(step, Pass):
                for chunk in step.chunks:
                    self._feed(index + 1, step.direction, chunk)
                if step.ended and index + 1 < len(self._watches):
                    after = self._watches[index + 1]
                    self._follow(after, after.inspection.end(step.direction))
            elif isinstance(step, Show):
                self._show(watch, step)
            elif isinstance(step, Complete):
                self._complete(watch, step)
        for direction in _DIRECTIONS:
            if watch.inspection.waits(direction) and direction not in self._timers:
                self._timers[direction] = self._loop.later(QUIET, partial(self._quiet, direction))

    def _quiet(self, direction: Direction) -> None:
        self._timers.pop(direction, None)
        for watch in self._watches:
            if watch.inspection.waits(direction):
                self._follow(watch, watch.inspection.quiet(direction))

    def _show(self, watch: _Watch, step: Show) -> None:
        hook = "handle_outbound_data" if step.direction == "outbound" else "handle_inbound_data"
        self._ask(watch, hook, lambda number: messages.Data(number, self.flow, *step))

    def _complete(self, watch: _Watch, step: Complete) -> None:
        self._ask(watch, "data_complete", lambda number: messages.End(number, self.flow, step.direction))

    def _ask(self, watch: _Watch, hook: str, build: Callable[[int], messages.FromManager]) -> None:
        watch.turn += 1
        turn = watch.turn
        if watch.session.wants(hook):
            watch.session.ask(build, lambda verdict: self._answer(watch, turn, verdict))
        else:
            self._answer(watch, turn, Allow())

    def asked(self) -> list[FilterSession]:
        """The filters that were asked about this flow."""
        return [watch.session for watch in self._watches]

    def settle(self) -> None:
        """Forgets how the flow was looked at, for it is transparent: many such are remembered until they end."""
        for watch in self._watches:
            watch.inspection = _ALLOWED

    # What comes unasked.

    def named(self, name: str, source: str) -> None:
        """The flow itself has said who it is for."""
        self.flow = msgspec.structs.replace(self.flow, name=name, name_from=source, name_unknown=None)

    def resume(self, session: FilterSession, verdict: FlowVerdict) -> bool:
        """The verdict of a paused flow; `False` when it is not paused by this filter."""
        for watch in self._watches:
            if watch.session is session and watch.inspection.paused and self.dropped is None:
                watch.turn += 1
                self._answer(watch, watch.turn, verdict)
                return True
        return False

    def update(self, session: FilterSession, verdict: FlowVerdict) -> None:
        """A decided flow is dropped after all."""
        if isinstance(verdict, Drop):
            self._drop(session, verdict)

    def ask_again(self, session: FilterSession) -> None:
        """The filter has a new worker, which knows nothing of what the old one paused."""
        for watch in self._watches:
            if watch.session is session and watch.inspection.paused:
                watch.inspection.restart()
                self._ask_new(watch)
