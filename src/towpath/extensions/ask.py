# /// script
# [tool.towpath.extension]
# id = "ask"
# version = "1.0"
# kind = "content-filter"
# class = "Ask"
# capabilities = ["content-filter-provider", "prompt", "output"]
# memory = 64
# ///
"""Asks a person about each new destination, and holds the flow until there is an answer.

    # ask.toml
    remember = "saved"        # the longest that may be chosen: "once", "run" or "saved" (default "run")
    saved = "answers.jsonl"   # where saved answers are kept; relative to this file's folder
    ttl = 2592000             # seconds for which a saved answer counts (30 days)
    default = "drop"          # when nobody answers: "drop" or "allow"
    timeout = 60              # seconds until nobody has answered

A destination is a name (or an address, where there is none), a port and a transport. However many flows wait for one,
it is asked once. A UDP flow is dropped after 10 s of waiting, and the answer counts for the program's next try.
"""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Literal, NamedTuple

import msgspec

from towpath.providers import (
    Allow,
    ContentFilterProvider,
    Drop,
    Flow,
    FlowReport,
    NameVerdict,
    Pause,
    Prompt,
    Reply,
    StopReason,
)

__all__ = ["Ask", "Settings"]

_MOST_SAVED = 1 << 24

Action = Literal["allow", "drop"]
Scope = Literal["once", "run", "saved"]


class Settings(msgspec.Struct, frozen=True):
    """How to ask, and for how long an answer counts."""

    remember: Scope = "run"
    saved: str = ""
    ttl: Annotated[float, msgspec.Meta(gt=0)] = 30 * 86400.0
    default: Action = "drop"
    timeout: Annotated[float, msgspec.Meta(gt=0)] = 60.0

    def __post_init__(self) -> None:
        if self.remember == "saved" and not self.saved:
            raise ValueError('remember = "saved" needs a file to save in: saved = "answers.jsonl"')


class Answer(msgspec.Struct, frozen=True):
    """A line of the file of saved answers. `until` is in seconds since 1970."""

    rule: str
    action: Action
    until: float


class _Choice(NamedTuple):
    text: str
    action: Action
    scope: Scope


_CHOICES = (
    _Choice("allow once", "allow", "once"),
    _Choice("drop once", "drop", "once"),
    _Choice("allow for this run", "allow", "run"),
    _Choice("drop for this run", "drop", "run"),
    _Choice("allow and save", "allow", "saved"),
    _Choice("drop and save", "drop", "saved"),
)
_OFFERED: dict[Scope, int] = {"once": 2, "run": 4, "saved": 6}


class Ask(ContentFilterProvider[Settings]):
    """The filter; see the module."""

    def __init__(self) -> None:
        self._answers: dict[str, Answer] = {}
        self._waiting: dict[str, list[Flow]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._saved: int | None = None

    def start(self) -> None:
        self._saved = self.context.output(self.config.saved) if self.config.saved else None
        if self._saved is not None:
            self._read_saved(self._saved)

    def rules_changed(self) -> None:
        self._close()
        self.start()

    def stop(self, reason: StopReason) -> None:
        for task in self._tasks:
            task.cancel()
        self._close()

    async def handle_new_flow(self, flow: Flow) -> NameVerdict | Pause:
        rule = f"{flow.transport}://{flow.destination}"
        answer = self._answers.get(rule)
        if answer is not None and answer.until > self.context.now():
            return _verdict(answer.action, "an earlier answer refuses it")
        if rule in self._waiting:
            self._waiting[rule].append(flow)
        else:
            self._waiting[rule] = [flow]
            task = asyncio.create_task(self._ask(rule, flow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return Pause()

    def flow_closed(self, report: FlowReport) -> None:
        for flows in self._waiting.values():
            flows[:] = [flow for flow in flows if flow.number != report.flow.number]

    async def _ask(self, rule: str, flow: Flow) -> None:
        offered = _CHOICES[: _OFFERED[self.config.remember]]
        prompt = Prompt(rule, _sentence(flow), tuple(choice.text for choice in offered), _details(flow))
        try:
            async with asyncio.timeout(self.config.timeout):
                reply = await self.context.prompt(prompt)
        except TimeoutError:
            reply = Reply(None, f"nobody answered within {self.config.timeout:g} s")
        chosen = next((choice for choice in offered if choice.text == reply.choice), None)
        if chosen is None:
            verdict = _verdict(self.config.default, reply.reason or "nobody answered")
        else:
            verdict = _verdict(chosen.action, "refused when asked")
            self._remember(rule, chosen)
        for waiting in self._waiting.pop(rule):
            self.resume(waiting, verdict)

    def _remember(self, rule: str, choice: _Choice) -> None:
        if choice.scope == "once":
            return
        until = self.context.now() + self.config.ttl if choice.scope == "saved" else float("inf")
        answer = self._answers[rule] = Answer(rule, choice.action, until)
        if choice.scope == "saved" and self._saved is not None:
            try:
                os.write(self._saved, msgspec.json.encode(answer) + b"\n")
            except OSError as error:
                self.log(f"{self.config.saved}: {error.strerror}", "error")

    def _close(self) -> None:
        if self._saved is not None:
            os.close(self._saved)
        self._saved = None

    def _read_saved(self, descriptor: int) -> None:
        """Later lines overrule earlier ones; a line that is none is passed over and said so."""
        for number, line in enumerate(os.pread(descriptor, _MOST_SAVED, 0).splitlines(), 1):
            try:
                answer = msgspec.json.decode(line, type=Answer)
            except msgspec.DecodeError as error:
                self.log(f"{self.config.saved}:{number}: {error}", "warning")
                continue
            self._answers[answer.rule] = answer


def _verdict(action: Action, reason: str) -> NameVerdict:
    return Allow() if action == "allow" else Drop(reason)


def _sentence(flow: Flow) -> str:
    who = flow.owner.program if flow.owner else "A program"
    if flow.direction == "inbound":
        return f"{flow.destination} wants to reach {who} ({flow.transport} port {flow.local.port})"
    return f"{who} wants to reach {flow.destination} ({flow.transport})"


def _details(flow: Flow) -> dict[str, str]:
    details = {"address": str(flow.remote)}
    if flow.name_from:
        details["name learnt from"] = flow.name_from
    if len(flow.names) > 1:
        details["other names"] = ", ".join(name for name in flow.names if name != flow.name)
    if flow.owner:
        details["process"] = str(flow.owner.pid)
        details["command"] = " ".join(flow.owner.command) or flow.owner.executable or flow.owner.program
        if flow.owner.parents:
            details["started by"] = ", ".join(parent.program for parent in flow.owner.parents)
    return details
