"""The flows of a run as a viewer knows them: rates, owners as a tree, a search, and the sums at the end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Board", "Node", "Row", "printable", "size"]

_MOST_ROWS = 5000
_UNITS = ("B", "kB", "MB", "GB", "TB")
_SHOWN_AT_END = 40


@dataclass(slots=True)
class Row:
    """One flow. Rates are bytes a second, `round_trip` microseconds; `record` is as reports have it."""

    record: Mapping[str, Any]
    sent: int = 0
    received: int = 0
    rate_out: float = 0.0
    rate_in: float = 0.0
    round_trip: int | None = None
    closed: bool = False

    @property
    def program(self) -> str:
        """With its process id inside of the run."""
        pid = self.record.get("pid")
        return f"{self.record.get('program') or '?'}" + (f"[{pid}]" if pid else "")

    @property
    def destination(self) -> str:
        host = str(self.record.get("name") or self.record.get("address") or "?")
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{self.record['port']}" if self.record.get("port") else host

    @property
    def transport(self) -> str:
        return "dns" if self.record.get("type") == "dns" else str(self.record.get("transport"))

    @property
    def learnt(self) -> str:
        """How its name was learnt."""
        if self.record.get("evidence") == "name: dns only":
            return "dns only"
        return str(self.record.get("name_from") or "address")

    @property
    def verdict(self) -> str:
        """ "allowed", "refused", "looking", or "failed"."""
        verdict = str(self.record.get("verdict"))
        failed = verdict == "allowed" and self.closed and self.record.get("error") and not (self.sent or self.received)
        return "failed" if failed else verdict

    @property
    def rule(self) -> str:
        return str(self.record.get("rule") or "(default)")

    def rule_to(self, action: str) -> str:
        """The rule that would allow or deny what this flow does."""
        hint = self.record.get("hint")
        if action == "allow" and isinstance(hint, str) and hint.startswith("--allow "):
            return hint.removeprefix("--allow ").strip("'")
        if self.transport == "icmp":
            return f"icmp://{self.destination}"
        if self.transport == "udp" and self.record.get("port") != 443 and action == "allow":
            return f"udp://{self.destination}"
        return self.destination

    def matches(self, word: str) -> bool:
        """Whether a search finds it: in the program, the destination, the rule or the verdict."""
        shown = (self.program, self.destination, self.transport, self.rule, self.verdict)
        return any(word.lower() in text.lower() for text in shown)


@dataclass(slots=True)
class Node:
    """A process with the flows that it and those below it have opened."""

    pid: int
    name: str
    children: dict[int, Node] = field(default_factory=dict)
    flows: int = 0
    refused: int = 0
    rate: float = 0.0

    @property
    def text(self) -> str:
        rate = f"  {size(self.rate)}/s" if self.rate >= 1 else ""
        refused = f", {self.refused} refused" if self.refused else ""
        return f"{printable(self.name)}[{self.pid}]  {self.flows} flow{'s' if self.flows > 1 else ''}{refused}{rate}"


class Board:
    """Takes the messages of a run's stream.

    >>> board = Board()
    >>> board.take({"type": "flow", "id": 1, "name": "web.test", "port": 443, "transport": "tcp",
    ...             "verdict": "allowed", "program": "curl", "pid": 7})
    >>> [(row.program, row.destination) for row in board.visible()]
    [('curl[7]', 'web.test:443')]
    """

    def __init__(self, hello: Mapping[str, Any] | None = None) -> None:
        self.hello: Mapping[str, Any] = _greeting(hello or {})
        self.rows: dict[int, Row] = {}
        self.forgotten = 0
        self.ended: Mapping[str, Any] | None = None
        self.last_answer = ""
        self._last_time = 0.0

    def take(self, message: Mapping[str, Any]) -> None:
        """What a message says; one that is not understood, as of another version, changes little or nothing."""
        try:
            self._take(message)
        except (TypeError, ValueError, KeyError, AttributeError):
            return

    def _take(self, message: Mapping[str, Any]) -> None:
        kind = message.get("type")
        if kind in ("flow", "dns"):
            self._flow(message)
        elif kind == "traffic":
            self._traffic(message)
        elif kind in ("hello", "rules"):
            self.hello = _greeting(message)
        elif kind == "answer":
            self.last_answer = str(message.get("text") or f"not done: {message.get('error')}")
        elif kind == "end":
            self.ended = message
            for row in self.rows.values():
                row.rate_in = row.rate_out = 0.0

    def _flow(self, record: Mapping[str, Any]) -> None:
        number = record.get("id")
        if not isinstance(number, int):
            return
        record = _record(record)
        row = self.rows.get(number)
        if row is None:
            row = self.rows[number] = Row(record)
            if len(self.rows) > _MOST_ROWS:
                oldest = next((key for key, one in self.rows.items() if one.closed), next(iter(self.rows)))
                del self.rows[oldest]
                self.forgotten += 1
        row.record = record
        row.sent = max(row.sent, int(record.get("sent") or 0))
        row.received = max(row.received, int(record.get("received") or 0))
        if record.get("ended") or record.get("type") == "dns" or record.get("verdict") == "refused":
            row.closed = True
            row.rate_in = row.rate_out = 0.0

    def _traffic(self, message: Mapping[str, Any]) -> None:
        now = float(message.get("time") or 0)
        seconds = now - self._last_time if self._last_time else 0.0
        self._last_time = now
        for number, sent, received, round_trip in message.get("flows") or ():
            row = self.rows.get(number)
            if row is None or row.closed:
                continue
            if seconds > 0:
                row.rate_out = _smoothed(row.rate_out, (sent - row.sent) / seconds)
                row.rate_in = _smoothed(row.rate_in, (received - row.received) / seconds)
            row.sent, row.received, row.round_trip = sent, received, round_trip

    def visible(self, search: str = "", pid: int | None = None) -> list[Row]:
        """The flows that a search finds, of one process and those below it if `pid` is given; the newest first."""
        found = [
            row
            for row in self.rows.values()
            if (not search or row.matches(search)) and (pid is None or pid in _lineage(row.record))
        ]
        return found[::-1]

    def tree(self) -> dict[int, Node]:
        """The processes, from those that the run began with."""
        roots: dict[int, Node] = {}
        for row in self.rows.values():
            record = row.record
            if not record.get("pid"):
                continue
            chain = [(int(record["pid"]), str(record.get("program")))]
            chain += [(int(pid), str(name)) for pid, name in record.get("ancestors") or ()]
            level = roots
            for pid, name in reversed(chain):
                node = level.setdefault(pid, Node(pid, name))
                node.name = name
                node.flows += 1
                node.refused += row.verdict == "refused"
                node.rate += row.rate_in + row.rate_out
                level = node.children
        return roots

    def counts(self) -> dict[str, int]:
        """How many flows have which verdict."""
        found = {"allowed": 0, "refused": 0, "failed": 0}
        for row in self.rows.values():
            if row.verdict in found:
                found[row.verdict] += 1
        return found

    def summary(self) -> str:
        """What happened, in Markdown: to paste where one asks for help. Nothing in it is an address of this host."""
        from platform import python_version, release

        from towpath import __version__

        counts = self.counts()
        sent, received = sum(row.sent for row in self.rows.values()), sum(row.received for row in self.rows.values())
        command = printable(" ".join(map(str, self.hello.get("command") or ())))
        lines = [
            f"`towpath run -- {command.replace('`', chr(39))}`",
            "",
            f"- towpath {__version__}, Linux {release()}, Python {python_version()}",
            f"- {counts['allowed']} allowed, {counts['refused']} refused, {counts['failed']} failed; "
            f"{size(sent)} sent, {size(received)} received",
        ]
        if self.ended is not None:
            how = (
                f"signal {self.ended['signal']}" if self.ended.get("signal") else f"exit code {self.ended.get('code')}"
            )
            lines.append(f"- ended with {how}")
        rules = [f"`{printable(str(rule))}`" for rule in self.hello.get("rules") or ()]
        lines.append(f"- rules: {', '.join(rules[:20]) or 'none'}" + (" and more" if len(rules) > 20 else ""))
        groups: dict[tuple[str, ...], int] = {}
        for row in self.rows.values():
            program = str(row.record.get("program") or "?")
            key = (program, row.destination, row.transport, row.verdict, str(row.record.get("reason") or ""))
            groups[key] = groups.get(key, 0) + 1
        lines += ["", "| program | destination | via | verdict | why | flows |", "|---|---|---|---|---|---|"]
        ranked = sorted(groups.items(), key=lambda entry: (entry[0][3] == "allowed", -entry[1]))
        for kind, count in ranked[:_SHOWN_AT_END]:
            lines.append("| " + " | ".join(printable(cell).replace("|", "/") for cell in (*kind, str(count))) + " |")
        if len(ranked) > _SHOWN_AT_END:
            lines.append(f"\n{len(ranked) - _SHOWN_AT_END} more kinds of flows are left out.")
        return "\n".join(lines)


def _greeting(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the types that are drawn; raises `TypeError` for others."""
    texts = {key: [str(one) for one in message.get(key) or ()] for key in ("command", "rules")}
    return {**message, **texts}


def _record(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """With the types that are drawn; raises `TypeError` or `ValueError` for others."""
    ancestors = [[int(pid), str(name)] for pid, name in record.get("ancestors") or ()]
    lists = {key: [str(one) for one in record.get(key) or ()] for key in ("command", "requests")}
    numbers = {key: int(record[key]) for key in ("pid", "port") if record.get(key)}
    return {**record, **lists, **numbers, "ancestors": ancestors}


def _smoothed(before: float, now: float) -> float:
    """Programs take bytes in gusts."""
    return now if before < 1 else (before + now) / 2


def _lineage(record: Mapping[str, Any]) -> set[Any]:
    return {record.get("pid"), *(pid for pid, _ in record.get("ancestors") or ())}


def size(count: float) -> str:
    """Bytes as people read them: three figures and a decimal unit.

    >>> size(1500), size(12)
    ('1.5 kB', '12 B')
    """
    step = 0
    while count >= 1000 and step + 1 < len(_UNITS):
        count /= 1000
        step += 1
    return f"{count:.0f} B" if step == 0 else f"{count:.3g} {_UNITS[step]}"


def printable(text: str | Iterable[str]) -> str:
    """Programs and names are a stranger's: nothing of them may move a cursor."""
    return "".join(one if one.isprintable() else "?" for one in text)
