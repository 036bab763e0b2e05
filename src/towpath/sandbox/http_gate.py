"""Every plain-HTTP request of a connection, judged by its host, method and path (RFC 9110, RFC 9112)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.sandbox.stream import Refused
from towpath.wire.http_request import Head, RequestReader

if TYPE_CHECKING:
    from towpath.policy.policy import Decision

__all__ = ["HttpGate", "farewell"]

_SWITCHED = b"HTTP/1.1 101 "


def farewell(reason: str, hint: str | None) -> bytes:
    """A 403 that says it is policy: a tool that is told so does not try to get round it."""
    text = f"Refused by the network policy of this run (towpath): {reason}\n"
    if hint:
        text += f"What would allow it: towpath run {hint}\n"
    body = text.encode()
    return (
        b"HTTP/1.1 403 Forbidden by policy\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Connection: close\r\nX-Towpath: refused\r\nContent-Length: %d\r\n\r\n" % len(body)
    ) + body


class HttpGate:
    """A `towpath.sandbox.stream.Gate`. `ask(head)` decides; `refused(decision, violation)` is told of a refusal."""

    def __init__(
        self, ask: Callable[[Head], Decision], refused: Callable[[Decision | None, PeerViolation | None], bytes]
    ) -> None:
        self._ask = ask
        self._refused = refused
        self._reader = RequestReader()
        self._requests = 0
        self._held: bytes = b""
        self.hears = True
        self.waiting = False
        self.open = False

    def admit(self, data: bytes) -> bytes:
        """The bytes that may pass. A chunk with a refused request passes nothing, not even what came before it."""
        passed = []
        try:
            for item in self._reader.receive(data):
                if isinstance(item, Head):
                    self._judge(item)
                    passed.append(item.raw)
                else:
                    passed.append(item)
        except PeerViolation as violation:
            raise Refused(self._refused(None, violation)) from violation
        return b"".join(passed)

    def _judge(self, head: Head) -> None:
        decision = self._ask(head)
        if decision.verdict != "allow":
            raise Refused(self._refused(decision, None))
        self._requests += 1
        if head.upgrade:
            if self._requests > 1:
                # An earlier answer may still be under way, and could be taken for the consent to switch.
                raise PeerViolation("http-upgrade", "an upgrade on a connection that carried other requests")
            self.waiting = True

    def end(self) -> None:
        try:
            self._reader.end()
        except PeerViolation as violation:
            raise Refused(self._refused(None, violation)) from violation

    def release(self) -> bytes:
        """Nothing: a request is passed on or refused when it has come."""
        return b""

    def answered(self, data: bytes) -> None:
        """Only the server's consent ends the judging: what follows is no longer HTTP."""
        if not self.waiting:
            return
        self._held += data[: len(_SWITCHED)]
        if len(self._held) < len(_SWITCHED) and _SWITCHED.startswith(self._held) and data:
            return
        self.waiting = False
        self.open = self._held.startswith(_SWITCHED)
