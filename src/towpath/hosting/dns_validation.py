"""Validating what servers answer: the keys on the way are asked of the same server (see `towpath.names.dnssec`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.hosting.dns_links import Server

if TYPE_CHECKING:
    from towpath.dns_proxy.cache import Entry
    from towpath.names.dnssec.validator import Asking, Outcome, Validator

__all__ = ["Validation"]

AskServer = Callable[[Server, str, int, Callable[["Entry | None", str], None]], None]
"""Asks a server for a name and a type, with DO and CD set; what comes of it is not kept."""


class Validation:
    """Judges answers under the trust anchors of their servers' settings, and keeps the zones that it came through."""

    def __init__(self, ask: AskServer) -> None:
        self._ask = ask
        self._validators: dict[tuple[str, ...], Validator] = {}

    def forget(self) -> None:
        self._validators.clear()

    def judge(self, anchors: tuple[str, ...], server: Server, answer: bytes, judged: Callable[[Outcome], None]) -> None:
        """Calls `judged` once, perhaps before this returns. Raises `PeerViolation` for what does not parse."""
        from towpath.names.dnssec.anchors import parse_anchors
        from towpath.names.dnssec.validator import Validator

        validator = self._validators.get(anchors)
        if validator is None:
            validator = self._validators[anchors] = Validator(parse_anchors(anchors, "trust_anchors"))
        self._go_on(validator.validate(answer, time.time()), server, None, judged)

    def _go_on(
        self, asking: Asking, server: Server, found: bytes | str | None, judged: Callable[[Outcome], None]
    ) -> None:
        try:
            wanted = next(asking) if found is None else asking.send(found)
        except StopIteration as ended:
            judged(ended.value)
            return

        def answered(entry: Entry | None, trouble: str) -> None:
            self._go_on(asking, server, trouble if entry is None else b"\0\0" + entry.body, judged)

        self._ask(server, wanted.name, wanted.kind, answered)
