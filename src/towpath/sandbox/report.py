"""What a run says of its flows: a line for each refusal as it happens, records, and the sums at the end."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol, TextIO

from towpath.sandbox.flows import Flow
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from towpath.kernel.system import owners
    from towpath.policy.learn import Learner
    from towpath.policy.policy import Decision

__all__ = ["LEVELS", "Ledger", "Observer", "Row", "as_record"]

LEVELS = {"debug": 0, "info": 1, "warning": 2, "error": 3}
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "icmp": socket.IPPROTO_ICMP}
_REVERSE = (".in-addr.arpa", ".ip6.arpa")
_MOST_ROWS = 10000
_MOST_LINES = 1000
"""Different refusals that are told one by one. A program that is refused without end is only counted from there on."""


class Observer(Protocol):
    """Who is told of every flow: when it is opened, each time it is decided, and when it is over.

    A DNS question that is refused is only told as decided.
    """

    def opened(self, flow: Flow) -> None: ...
    def changed(self, flow: Flow) -> None: ...
    def closed(self, flow: Flow) -> None: ...


class Row(NamedTuple):
    """One line of the table: what flows have in common."""

    program: str
    destination: str
    transport: str
    learnt: str
    verdict: str
    rule: str


class _Sum:
    __slots__ = ("flows", "received", "sent")

    def __init__(self) -> None:
        self.flows = self.sent = self.received = 0


class Ledger:
    """Takes what is decided and what ends; writes lines to `out` and records to `records` (JSON lines) if given.

    Owners are looked up for every refusal, and for every flow only when somebody will read of it: finding the program
    behind a socket costs more than deciding about it.
    """

    def __init__(self, out: TextIO, *, level: str, records: TextIO | None = None, table: bool = False) -> None:
        self._out = out
        self._level = LEVELS[level]
        self._records = records
        self._thorough = records is not None or table or self._level <= LEVELS["info"]
        self._owners: owners.OwnerFinder | None = None
        self._numbers = 0
        self._told: dict[tuple[str, str, str], int] = {}
        self._untold = 0
        self._warnings: list[str] = []
        self._asked: set[tuple[str, str, str]] = set()
        self.rows: dict[Row, _Sum] = {}
        self.allowed = self.refused_flows = self.failed = 0
        self.overruns = 0
        self.learner: Learner | None = None
        self._observers: list[Observer] = []
        self.screened_ended: Callable[[Flow], None] = lambda _flow: None
        """Called for every flow that filters were asked about, when it is over."""

    def observe(self, observer: Observer) -> None:
        """Tells `observer` of every flow from now on, with its owner."""
        self._observers.append(observer)
        self._thorough = True

    def use_owners(self, finder: owners.OwnerFinder) -> None:
        self._owners = finder

    def say(self, level: str, text: str) -> None:
        """One line for the person who started the run."""
        if LEVELS[level] >= self._level:
            try:
                self._out.write(f"towpath: {text}\n")
                self._out.flush()
            except (OSError, ValueError):
                self._level = LEVELS["error"] + 1  # nobody reads any more

    def warn(self, text: str) -> None:
        """Says it once, however often it happens; it stands in the summary too."""
        if len(self._warnings) < _MOST_LINES and text not in self._warnings:
            self._warnings.append(text)
        self._fold(("", "", text), text)

    def _fold(self, key: tuple[str, str, str], text: str, *, counts: bool = True) -> None:
        if key not in self._told:
            if len(self._told) >= _MOST_LINES:
                self._untold += 1
                return
            self._told[key] = 0
            self.say("warning", text)
        elif counts:
            self._told[key] += 1

    def find_owner(self, flow: Flow) -> None:
        """Looks for the program behind a flow, unless that is known."""
        if self._owners is not None and flow.owner is None and flow.direction == "out":
            ends = (flow.source, flow.source_port, flow.address, flow.port)
            flow.held = self._owners.find(_PROTOCOLS[flow.transport], *ends)
            if flow.held is not None:
                flow.owner = flow.held.owner

    def freed(self, held: owners.Found) -> None:
        """The owner closes the socket of a flow about now."""
        if self._owners is not None:
            self._owners.freed(held)

    def opened(self, flow: Flow, decision: Decision, names: tuple[str, ...]) -> None:
        """A flow has asked for its first packet. Its names are what DNS answers of this run said of its address."""
        self._numbers += 1
        flow.number = self._numbers
        flow.decision = decision
        flow.names = names
        if names:
            flow.name, flow.name_from = names[0], "dns"
        if self._thorough or self.learner is not None:
            self.find_owner(flow)
        for observer in self._observers:
            observer.opened(flow)
        if decision.verdict == "allow":
            self._tell_allowed(flow, decision)

    def decided(self, flow: Flow, decision: Decision) -> None:
        """What the flow said of itself has settled it."""
        flow.decision = decision
        for observer in self._observers:
            observer.changed(flow)
        self._tell_allowed(flow, decision)

    def _tell_allowed(self, flow: Flow, decision: Decision) -> None:
        if self._level <= LEVELS["info"]:  # the sentence costs more than the decision
            self.say("info", f"allowed {_who(flow)} -> {flow.destination} {flow.transport}: {decision.reason}")

    def refused(self, flow: Flow, decision: Decision, *, begun: bool = False) -> None:
        """A flow was refused: says so, with what would allow it. One that had `begun` is recorded when it is closed."""
        flow.cut = begun
        flow.decision = decision
        self.refused_flows += 1
        self.find_owner(flow)
        for observer in self._observers:
            observer.changed(flow)
        self._tell_refusal(flow, f"{flow.destination} {flow.transport}", decision)
        if not begun:
            self._record(flow)

    def question_refused(self, flow: Flow, decision: Decision, kind: str) -> None:
        """A DNS question was refused. `kind` is its type, "A" or "HTTPS"."""
        self._numbers += 1
        flow.number = self._numbers
        flow.decision = decision
        self.refused_flows += 1
        self.find_owner(flow)
        flow.transport = "dns"
        flow.address, flow.port = b"", 0
        flow.error = kind
        for observer in self._observers:
            observer.changed(flow)
        # Programs ask for A and AAAA at once: that is one attempt, not a repetition.
        attempt = (_program(flow), flow.name, kind)
        again = attempt in self._asked
        if len(self._asked) < 2 * _MOST_LINES:
            self._asked.add(attempt)
        if flow.name.endswith(_REVERSE):
            # ping and ssh ask for the name of an address and do well without: nobody needs a line about it.
            self.say("info", f"refused {_who(flow)} -> {flow.name} (dns): {decision.reason}")
        else:
            self._tell_refusal(flow, f"{flow.name} (dns)", decision, counts=again)
        self._record(flow)

    def question_passed(self, flow: Flow, name: str) -> None:
        """A DNS question may leave: it is noted by a run that learns."""
        if self.learner is not None:
            self.find_owner(flow)
            self.learner.question(name, _program(flow))

    def _tell_refusal(self, flow: Flow, what: str, decision: Decision, *, counts: bool = True) -> None:
        text = f"refused {_who(flow)} -> {what}: {decision.reason}"
        if decision.hint:
            text += f"; to allow it: {decision.hint}"
        self._fold((_program(flow), what, decision.reason), text, counts=counts)

    def answer_dropped(self, name: str, addresses: tuple[str, ...]) -> None:
        """An answer led a public name into a private or local network."""
        shown = ", ".join(addresses)
        self._fold(
            ("", name, shown),
            f"dropped {shown} from the DNS answer for {name}: a public name must not lead to a private or local "
            f"address; to allow it: --allow {addresses[0]}",
        )

    def closed(self, flow: Flow) -> None:
        """A flow has ended, or could not begin: `flow.error` says which."""
        flow.ended = time.time()
        if flow.held is not None:
            self.freed(flow.held)
        if flow.screening is not None:
            self.screened_ended(flow)
        for observer in self._observers:
            observer.closed(flow)
        if flow.decision is not None and flow.decision.verdict == "deny":
            if flow.cut:
                self._record(flow)
            return
        if self.learner is not None and flow.direction == "out":
            address = text_of(flow.address)
            self.learner.flow(flow.transport, address, flow.port, flow.names, flow.said, _program(flow), flow.requests)
        if flow.error and not flow.sent and not flow.received:
            self.failed += 1
        else:
            self.allowed += 1
        self._record(flow)

    def _record(self, flow: Flow) -> None:
        if not self._thorough:
            return
        decision = flow.decision
        rule = decision.rule.text if decision and decision.rule else ""
        verdict = "refused" if decision and decision.verdict == "deny" else "allowed"
        learnt = flow.name_from if flow.name else "address"
        if decision and decision.evidence == "name: dns only":
            learnt = "dns only"
        if verdict == "allowed" and flow.error and not (flow.sent or flow.received):
            verdict = f"failed: {flow.error}"
        row = Row(_program(flow), flow.destination, flow.transport, learnt, verdict, rule or _default(flow))
        if row in self.rows or len(self.rows) < _MOST_ROWS:
            total = self.rows.setdefault(row, _Sum())
            total.flows += 1
            total.sent += flow.sent
            total.received += flow.received
        if self._records is not None:
            self._write(as_record(flow))

    def _write(self, record: dict[str, object]) -> None:
        if self._records is None:
            return
        import json

        try:
            self._records.write(json.dumps(record, ensure_ascii=False) + "\n")
        except OSError as error:
            self._records = None
            self.say("error", f"cannot write the report: {error.strerror}")

    def finish(self) -> None:
        """Writes what was held back: how often a line would have been repeated, and the sums."""
        for (program, what, reason), repeated in self._told.items():
            if repeated:
                subject = f"{program} -> {what}: " if what else ""
                self.say("warning", f"{repeated} more of: {subject}{reason}")
        if self._untold:
            self.say("warning", f"{self._untold} more refusals, each of another kind; --report-file has them all")
        if self.overruns:
            self.say("warning", f"the packet queue overran {self.overruns} times: flows were delayed, none passed")
        self._write(
            {
                "type": "summary",
                "allowed": self.allowed,
                "refused": self.refused_flows,
                "failed": self.failed,
                "overruns": self.overruns,
                "warnings": self._warnings,
            }
        )
        if self._records is not None:
            self._records.flush()


def _program(flow: Flow) -> str:
    return flow.owner.program if flow.owner else "?"


def _who(flow: Flow) -> str:
    return f"{flow.owner.program}[{flow.owner.pid}]" if flow.owner else "a program"


def _default(flow: Flow) -> str:
    decision = flow.decision
    if decision is None:
        return ""
    if flow.by:
        return f"{flow.by_kind} {flow.by}"
    return decision.reason if decision.reason.startswith("--") else "(default)"


def as_record(flow: Flow) -> dict[str, object]:
    """A flow as reports and viewers have it: strings, numbers, lists and `None`."""
    owner, decision = flow.owner, flow.decision
    rule = decision.rule.text if decision and decision.rule else ""
    return {
        "type": "dns" if flow.transport == "dns" else "flow",
        "id": flow.number,
        "time": round(flow.started, 6),
        "seconds": round(flow.ended - flow.started, 6) if flow.ended else None,
        "program": owner.program if owner else None,
        "pid": owner.pid if owner else None,
        "executable": owner.executable if owner else None,
        "command": list(owner.command) if owner else None,
        "parents": [name for _, name in owner.parents] if owner else None,
        "direction": flow.direction,
        "transport": flow.transport,
        "address": text_of(flow.address) if flow.address else None,
        "port": flow.port or None,
        "name": flow.name or None,
        "name_from": flow.name_from or None,
        "names": list(flow.names),
        "requests": flow.requests,
        "verdict": "refused" if decision and decision.verdict == "deny" else "allowed",
        "rule": rule or (f"{flow.by_kind} {flow.by}" if flow.by else None),
        "where": decision.rule.where if decision and decision.rule else None,
        "reason": decision.reason if decision else None,
        "evidence": (decision.evidence or None) if decision else None,
        "hint": decision.hint if decision else None,
        "sent": flow.sent,
        "received": flow.received,
        "error": (flow.error or None) if flow.transport != "dns" else None,
        "question": flow.error if flow.transport == "dns" else None,
    }
