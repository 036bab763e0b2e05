"""One scripted flow of a `FilterHarness`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from towpath.errors import Misuse
from towpath.hosting.inspection import QUIET, UDP_PAUSE, FlowInspection, Pass, Show, Step
from towpath.providers import (
    Allow,
    ContentFilterProvider,
    Direction,
    Drop,
    Flow,
    FlowReport,
    FlowVerdict,
    NameVerdict,
    Pause,
    Peek,
)

__all__ = ["FlowRun", "Stage"]


class Stage(Protocol):
    """What a flow needs of its harness."""

    @property
    def provider(self) -> ContentFilterProvider[Any]: ...

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    async def call(self, hook: str, kinds: tuple[type, ...], *arguments: object) -> Any:
        """Calls a hook of the provider and gives its answer, which must be of one of `kinds`."""

    def spawn(self, work: Awaitable[None]) -> None:
        """Runs something; what it raises is raised in the test."""

    def settle(self) -> None:
        """Runs until nothing is left to do at this time."""

    def now(self) -> float: ...


_FLOW_KINDS = (Allow, Drop, Peek, Pause)


class FlowRun:
    """A flow that a test drives; made by `FilterHarness.flow`.

    `verdict` is the last one that was given, `passed_out` and `passed_in` what got through so far.
    """

    def __init__(self, stage: Stage, flow: Flow) -> None:
        self.flow = flow
        self.verdict: FlowVerdict | None = None
        self.passed_out = b""
        self.passed_in = b""
        self.report: FlowReport | None = None
        self._stage = stage
        self._inspection = FlowInspection()
        self._turn = asyncio.Lock()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._sent = 0
        self._error: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether all passes and nothing will be asked any more."""
        return self._inspection.allowed and not self.dropped

    @property
    def dropped(self) -> bool:
        """Whether nothing passes any more."""
        return isinstance(self._inspection.dropped, Drop)

    @property
    def reason(self) -> str:
        """Why it was dropped, or ""."""
        return self._inspection.dropped.reason if self._inspection.dropped else ""

    @property
    def paused(self) -> bool:
        """Whether it waits for `resume`."""
        return self._inspection.paused and not self.closed

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self.report is not None

    def begin(self, settled: FlowVerdict | None = None) -> None:
        """Asks `handle_new_flow`, unless the filter's settings have `settled` it."""
        if settled is None:
            self._stage.spawn(self._ask("handle_new_flow", self.flow))
        else:
            self._judge(settled)
        self._stage.settle()

    def send(self, data: bytes) -> FlowRun:
        """The side that opened the flow sends: bytes of a stream, or one datagram. Gives the flow itself."""
        return self._take("outbound", data)

    def receive(self, data: bytes) -> FlowRun:
        """The other side sends."""
        return self._take("inbound", data)

    def end_sending(self) -> FlowRun:
        """The side that opened the flow says that it will send no more (TCP's FIN)."""
        return self._end("outbound")

    def end_receiving(self) -> FlowRun:
        """The other side says so."""
        return self._end("inbound")

    def close(self, error: str | None = None) -> FlowRun:
        """Both directions end, then the flow; with an `error` at once, as a reset connection does."""
        if self.closed:
            return self
        if error is None:
            self._end("outbound")
            self._end("inbound")
        self._error = error
        self._finish()
        self._stage.settle()
        return self

    def resume(self, verdict: FlowVerdict) -> None:
        """What `ContentFilterProvider.resume` does."""
        if not self.paused:
            raise Misuse(f"resume: flow {self.flow.number} to {self.flow.destination} is not paused")
        if not isinstance(verdict, _FLOW_KINDS) or isinstance(verdict, Pause):
            raise Misuse(f"resume: a flow is resumed by Allow, Drop or Peek, not by {verdict!r}")
        self._judge(verdict)

    def update(self, verdict: NameVerdict) -> None:
        """What `ContentFilterProvider.update` does."""
        if self.closed or self.dropped:
            return
        if not self._inspection.allowed:
            raise Misuse(f"update: flow {self.flow.number} to {self.flow.destination} is not decided yet")
        if isinstance(verdict, Drop):
            self.verdict = self._inspection.dropped = verdict
            self._finish()

    def _take(self, direction: Direction, data: bytes) -> FlowRun:
        if self.closed and not self.dropped:
            raise Misuse("FlowRun: this flow is closed")
        if self._inspection.direction(direction).ended:
            raise Misuse(f"FlowRun: the {direction} direction has ended")
        if data and not self.closed:
            if (direction == "outbound") == (self.flow.direction == "outbound"):
                self._sent += len(data)
            self._follow(self._inspection.take(direction, data))
            self._watch(direction)
            self._stage.settle()
        return self

    def _end(self, direction: Direction) -> FlowRun:
        if not self.closed:
            self._follow(self._inspection.end(direction))
            self._stage.settle()
        return self

    def _judge(self, verdict: FlowVerdict) -> None:
        steps = self._inspection.verdict(verdict)
        self.verdict = verdict
        if isinstance(verdict, Pause) and self.flow.transport == "udp":
            self._later("pause", UDP_PAUSE, self._give_up)
        elif not isinstance(verdict, Pause):
            self._cancel("pause")
        self._follow(steps)
        for direction in ("outbound", "inbound"):
            self._watch(direction)
        if self.dropped:
            self._finish()

    def _follow(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, Pass):
                if step.direction == "outbound":
                    self.passed_out += b"".join(step.chunks)
                else:
                    self.passed_in += b"".join(step.chunks)
            elif isinstance(step, Show):
                self._stage.spawn(self._ask(f"handle_{step.direction}_data", self.flow, step.offset, step.data))
            else:
                self._stage.spawn(self._ask("data_complete", self.flow, step.direction))

    async def _ask(self, hook: str, *arguments: object) -> None:
        async with self._turn:
            verdict = await self._stage.call(hook, _FLOW_KINDS, *arguments)
            if not self.closed:
                self._judge(verdict)

    def _watch(self, direction: str) -> None:
        """The second of silence begins anew with each byte and verdict."""
        which: Direction = "inbound" if direction == "inbound" else "outbound"
        if self._inspection.waits(which):
            self._later(direction, QUIET, lambda: self._follow(self._inspection.quiet(which)))

    def _give_up(self) -> None:
        self._judge(Drop(f"paused for longer than {UDP_PAUSE:g} s"))

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = self._stage.loop.call_later(seconds, call)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def _finish(self) -> None:
        for name in tuple(self._timers):
            self._cancel(name)
        outbound = self.flow.direction == "outbound"
        self.report = FlowReport(
            flow=self.flow,
            verdict="dropped" if self.dropped else "allowed",
            reason=self.reason,
            by="harness" if self.dropped else "",
            sent=self._sent,
            received=len(self.passed_in if outbound else self.passed_out),
            ended=self._stage.now(),
            error=self._error,
        )
        self._stage.spawn(self._closed(self.report))

    async def _closed(self, report: FlowReport) -> None:
        async with self._turn:
            await self._stage.call("flow_closed", (type(None),), report)
