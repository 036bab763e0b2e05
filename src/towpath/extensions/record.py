# /// script
# [tool.towpath.extension]
# id = "record"
# version = "1.0"
# kind = "content-filter"
# class = "Record"
# capabilities = ["content-filter-provider", "output"]
# memory = 64
# ///
"""Allows everything and writes it down: a JSON line for each question, and for each flow with its first bytes.

    # record.toml
    output = "flows.jsonl"   # appended to; relative to this file's folder
    bytes = 256              # of each direction, 0 to 65536; what arrives in one piece at first, up to that

Fields are those of `towpath run --report json` where both have them; `outbound` and `inbound` are base64.
"""

from __future__ import annotations

import base64
import os
from typing import Annotated

import msgspec

from towpath.providers import (
    MOST_PEEK,
    Allow,
    ContentFilterProvider,
    Direction,
    Flow,
    FlowReport,
    FlowVerdict,
    Owner,
    Peek,
    Question,
    StopReason,
)

__all__ = ["Record", "Settings"]


class Settings(msgspec.Struct, frozen=True):
    """Where to write, and how many of the first bytes."""

    output: str
    bytes: Annotated[int, msgspec.Meta(ge=0, le=MOST_PEEK)] = 256


class _Beginning:
    """The first bytes of a flow, `None` for a direction of which none was seen."""

    __slots__ = ("inbound", "outbound")

    def __init__(self) -> None:
        self.outbound: bytes | None = None
        self.inbound: bytes | None = None


class Record(ContentFilterProvider[Settings]):
    """The filter; see the module."""

    def __init__(self) -> None:
        self._beginnings: dict[int, _Beginning] = {}
        self._output = -1
        self._failed = False

    def start(self) -> None:
        self._output = self.context.output(self.config.output)

    def stop(self, reason: StopReason) -> None:
        os.close(self._output)

    def rules_changed(self) -> None:
        output = self.context.output(self.config.output)
        os.close(self._output)
        self._output = output

    def handle_name(self, question: Question) -> Allow:
        self._write(
            {
                "type": "question",
                "time": self.context.now(),
                "name": question.name,
                "question": question.type,
                "transport": question.transport,
                "server": str(question.server),
                **_owner(question.owner),
            }
        )
        return Allow()

    def handle_new_flow(self, flow: Flow) -> FlowVerdict:
        return self._next(flow)

    def handle_outbound_data(self, flow: Flow, offset: int, data: bytes) -> FlowVerdict:
        self._beginning(flow).outbound = data
        return self._next(flow)

    def handle_inbound_data(self, flow: Flow, offset: int, data: bytes) -> FlowVerdict:
        self._beginning(flow).inbound = data
        return self._next(flow)

    def data_complete(self, flow: Flow, direction: Direction) -> FlowVerdict:
        beginning = self._beginning(flow)
        if direction == "outbound":
            beginning.outbound = beginning.outbound or b""
        else:
            beginning.inbound = beginning.inbound or b""
        return self._next(flow)

    def flow_closed(self, report: FlowReport) -> None:
        flow = report.flow
        beginning = self._beginnings.pop(flow.number, None) or _Beginning()
        self._write(
            {
                "type": "flow",
                "id": flow.number,
                "time": flow.started,
                "seconds": round(report.ended - flow.started, 6),
                "transport": flow.transport,
                "direction": flow.direction,
                "local": str(flow.local),
                "remote": str(flow.remote),
                "name": flow.name,
                "name_from": flow.name_from,
                **_owner(flow.owner),
                "verdict": report.verdict,
                "reason": report.reason,
                "by": report.by,
                "sent": report.sent,
                "received": report.received,
                "error": report.error,
                "outbound": _base64(beginning.outbound),
                "inbound": _base64(beginning.inbound),
            }
        )

    def _beginning(self, flow: Flow) -> _Beginning:
        return self._beginnings.setdefault(flow.number, _Beginning())

    def _next(self, flow: Flow) -> FlowVerdict:
        """Asks for the directions that were not seen yet; what was seen once passes, nothing is kept waiting."""
        beginning, count = self._beginning(flow), self.config.bytes
        return Peek(
            outbound=count if beginning.outbound is None else 0, inbound=count if beginning.inbound is None else 0
        )

    def _write(self, line: dict[str, object]) -> None:
        data = msgspec.json.encode(line) + b"\n"
        try:
            # One write a line: those of several runs into one file do not mix.
            os.write(self._output, data)
        except OSError as error:
            # A full disk must not decide about anybody's traffic.
            if not self._failed:
                self.log(f"{self.config.output}: {error.strerror}", "error")
            self._failed = True


def _owner(owner: Owner | None) -> dict[str, object]:
    if owner is None:
        return {"program": None, "pid": None, "executable": None, "command": None}
    return {
        "program": owner.program,
        "pid": owner.pid,
        "executable": owner.executable,
        "command": list(owner.command),
    }


def _base64(data: bytes | None) -> str:
    return base64.b64encode(data or b"").decode("ascii")
