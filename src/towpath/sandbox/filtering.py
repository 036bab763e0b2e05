"""The filters of a run, in the run's own words: its flows as filters see them, their verdicts as decisions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, cast

from towpath.hosting.first_words import NameFinder
from towpath.hosting.owners import as_seen
from towpath.policy.policy import Decision
from towpath.providers.flow import Address, FlowReport, NameSource, Owner, Question
from towpath.providers.flow import Flow as FlowSeen
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from towpath.hosting.filters import Filters
    from towpath.hosting.screening import Screening
    from towpath.providers.flow import Direction
    from towpath.providers.verdict import Drop
    from towpath.sandbox.flows import Flow
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger
    from towpath.sandbox.stream import Stream

__all__ = ["Filtering", "StreamHold", "owner_of", "question_seen"]

_NO_NAME = "no DNS answer of this run gave this address"
_NO_OWNER = "its process hides its descriptors, or had ended already"
_FROM_OUTSIDE = "it comes from outside of the run"


class Filtering:
    """Asks filters about the flows and names of a run, and tells them how flows ended."""

    def __init__(self, filters: Filters, judge: Judge, ledger: Ledger) -> None:
        self._filters = filters
        self._judge = judge
        self._ledger = ledger
        ledger.screened_ended = self._ended

    def ask(self, flow: Flow, decided: Callable[[Decision | None, bool], None]) -> None:
        """Puts a flow to the filters; `decided(refusal, silent)` is called once, perhaps at once."""

        def settled(screening: Screening, drop: Drop | None) -> None:
            flow.screening = screening
            if drop is not None:
                decided(self.refusal(flow, drop), drop.silent)
                return
            if screening.unjudged_by and flow.decision is not None:
                failed = f"; the filter {screening.unjudged_by} failed, and --on-failure is pass"
                flow.decision = flow.decision._replace(reason=flow.decision.reason + failed)
            decided(None, False)

        self._filters.screen(self._seen(flow), settled)

    def question(self, flow: Flow, name: str, kind: str, decided: Callable[[Decision | None, bool], None]) -> None:
        """Puts a DNS question to the filters; as `ask`."""

        def answered(drop: Drop | None, by: str) -> None:
            flow.by = by
            if drop is None:
                decided(None, False)
            else:
                decided(_refusal(by, drop), drop.silent)

        owner, unknown = owner_of(self._ledger, flow)
        self._filters.name(question_seen(self._filters.number(), flow, name, kind, owner, unknown), answered)

    def holds(self, flow: Flow) -> tuple[StreamHold, StreamHold] | None:
        """What a stream keeps bytes in: those of who opened the flow, and the answers; `None` if all may pass."""
        return StreamHold.both(flow.screening) if flow.screening is not None else None

    def join(self, flow: Flow, stream: Stream, dropped: Callable[[Decision], None]) -> None:
        """Lets verdicts that come later reach the stream."""
        if flow.screening is not None:
            flow.screening.passing = lambda _direction: stream.proceed()
            flow.screening.cut = lambda drop: dropped(self.refusal(flow, drop))

    def dropped(self, flow: Flow) -> Decision | None:
        """The refusal of a flow that was dropped after it had been let through."""
        drop = flow.screening.dropped if flow.screening is not None else None
        return None if drop is None else self.refusal(flow, drop)

    def refusal(self, flow: Flow, drop: Drop) -> Decision:
        """What a filter's drop is to the report."""
        flow.by = flow.screening.by if flow.screening else ""
        return _refusal(flow.by, drop)

    def _seen(self, flow: Flow) -> FlowSeen:
        owner, unknown = owner_of(self._ledger, flow)
        inward = flow.direction == "in"
        here, there = Address(text_of(flow.source), flow.source_port), Address(text_of(flow.address), flow.port)
        names = () if inward else self._judge.names.of(flow.address)
        name = flow.name
        if flow.owner is not None:
            names = self._judge.names.meant_by(flow.owner.pid, names)
            if flow.name_from == "dns" and names:
                name = names[0]
        return FlowSeen(
            number=flow.number,
            transport=cast('Literal["tcp", "udp"]', flow.transport),
            direction="inbound" if inward else "outbound",
            local=there if inward else here,
            remote=here if inward else there,
            started=flow.started,
            name=name or None,
            name_from=cast("NameSource", flow.name_from) if flow.name else None,
            name_unknown=None if flow.name else (_FROM_OUTSIDE if inward else _NO_NAME),
            names=names,
            owner=owner,
            owner_unknown=unknown,
        )

    def _ended(self, flow: Flow) -> None:
        screening = flow.screening
        if screening is None:
            return
        refused = flow.decision is not None and flow.decision.verdict == "deny"
        inward = flow.direction == "in"
        self._filters.closed(
            screening,
            FlowReport(
                flow=screening.flow,
                verdict="dropped" if refused else "allowed",
                reason=(flow.decision.reason if flow.decision else "") if refused else "",
                by=(flow.by or "policy") if refused else "",
                sent=flow.sent,
                received=flow.received,
                packets_sent=flow.packets[1 if inward else 0] if flow.packets else None,
                packets_received=flow.packets[0 if inward else 1] if flow.packets else None,
                ended=flow.ended or flow.started,
                error=flow.error or None,
            ),
        )


def owner_of(ledger: Ledger, flow: Flow) -> tuple[Owner | None, str | None]:
    """The program behind a flow as providers see it, or why there is none."""
    if flow.direction == "in":
        return None, _FROM_OUTSIDE
    ledger.find_owner(flow)
    found = flow.owner
    if found is None:
        return None, _NO_OWNER
    return as_seen(found), None


def question_seen(number: int, flow: Flow, name: str, kind: str, owner: Owner | None, unknown: str | None) -> Question:
    """A DNS question as providers see it."""
    return Question(
        number=number,
        name=name,
        type=kind,
        transport=cast('Literal["tcp", "udp"]', flow.transport),
        server=Address(text_of(flow.address), flow.port),
        owner=owner,
        owner_unknown=unknown,
    )


def _refusal(by: str, drop: Drop) -> Decision:
    return Decision("deny", None, f"the filter {by}: {drop.reason}", "filter", None)


class StreamHold:
    """One direction of a TCP flow before the filters; see `towpath.sandbox.stream.Hold`."""

    __slots__ = ("_direction", "_finder", "_screening")

    def __init__(self, screening: Screening, direction: Direction, *, opening: bool) -> None:
        self._screening = screening
        self._direction: Direction = direction
        self._finder = NameFinder(screening) if opening else None

    @classmethod
    def both(cls, screening: Screening) -> tuple[StreamHold, StreamHold] | None:
        """For the opener's bytes and for the answers; `None` when no filter wants to see anything."""
        if screening.transparent:
            return None
        inward = screening.flow.direction == "inbound"
        first: Direction = "inbound" if inward else "outbound"
        second: Direction = "outbound" if inward else "inbound"
        return cls(screening, first, opening=not inward), cls(screening, second, opening=False)

    def take(self, data: bytes) -> None:
        if self._finder is not None:
            self._finder.hear(data)
        self._screening.take(self._direction, data)

    def end(self) -> None:
        self._screening.end(self._direction)

    def passed(self) -> bytes:
        return b"".join(self._screening.take_passed(self._direction))

    @property
    def holding(self) -> bool:
        return self._screening.holding(self._direction)

    @property
    def full(self) -> bool:
        return self._screening.full(self._direction)

    @property
    def over(self) -> bool:
        return self._screening.transparent
