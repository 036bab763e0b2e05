"""A flow as a run sees it, and what was decided about it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from towpath.hosting.screening import Screening
    from towpath.kernel.system import owners
    from towpath.policy.policy import Decision
    from towpath.wire.http_request import Head

__all__ = ["Flow"]

_MOST_SAID = 64
"""Hosts of one HTTP connection that are remembered, and requests."""
_LONGEST_PATH = 512


class Flow:
    """One TCP connection, UDP association, ping or DNS question.

    `address` is packed; it is `b""` for a question that was refused before it had one. `name_from` says how the name
    was learnt: "dns", "sni", "host", "quic sni", "question" or "". `names` are all that DNS gave the address, `said`
    what the bytes named, with how; `requests` are those of plain HTTP, "METHOD HOST PATH" without the query. `sent` and
    `received` are the program's bytes, `packets` what was counted of both. `screening` is the flow before the filters,
    `by` the filter or (`by_kind`) the DNS proxy that dropped it, `cut` whether it had begun by then.
    """

    __slots__ = (
        "address", "by", "by_kind", "cut", "decision", "direction", "ended", "error", "held", "name", "name_from",
        "names", "number", "owner", "packets", "port", "received", "requests", "said", "screening", "sent", "source",
        "source_port", "started", "transport",
    )  # fmt: skip

    def __init__(self, transport: str, source: bytes, source_port: int, address: bytes, port: int) -> None:
        self.number = 0
        self.transport = transport
        self.source = source
        self.source_port = source_port
        self.address = address
        self.port = port
        self.direction = "out"
        self.name = ""
        self.name_from = ""
        self.names: tuple[str, ...] = ()
        self.said: dict[str, str] = {}
        self.requests: list[str] = []
        self.owner: owners.Owner | None = None
        self.held: owners.Found | None = None
        self.decision: Decision | None = None
        self.by = ""
        self.by_kind = "filter"
        self.cut = False
        self.screening: Screening | None = None
        self.packets: tuple[int, int] | None = None
        self.error = ""
        self.sent = 0
        self.received = 0
        self.started = time.time()
        self.ended: float | None = None

    def note(self, name: str, how: str) -> None:
        """The flow itself has named whom it is for."""
        self.name, self.name_from = name, how
        if len(self.said) < _MOST_SAID:
            self.said[name] = how

    def note_request(self, head: Head) -> None:
        """A request of plain HTTP; the same one is noted once."""
        text = f"{head.method} {head.host} {head.path[:_LONGEST_PATH]}"
        if len(self.requests) < _MOST_SAID and text not in self.requests:
            self.requests.append(text)

    @property
    def host(self) -> str:
        """The name if there is one, else the address."""
        return self.name or (text_of(self.address) if self.address else "")

    @property
    def destination(self) -> str:
        """`host:port` as people write it; a ping has no port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host
