"""A proxy behind a rule that does not look at bytes: what it is asked for is told, since the policy cannot hold it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from towpath.sandbox.flows import Flow

__all__ = ["ProxyNote"]

_CONNECT = b"CONNECT "
_LONGEST = 1024


class ProxyNote:
    """A gate that lets everything pass, and tells of a CONNECT (RFC 9110 section 9.3.6) in the first bytes."""

    hears = False
    waiting = False

    def __init__(self, flow: Flow, tell: Callable[[str], None]) -> None:
        self._flow = flow
        self._tell = tell
        self._heard = b""
        self.open = False

    def admit(self, data: bytes) -> bytes:
        heard = self._heard + data[:_LONGEST]
        if not (heard.startswith(_CONNECT) or _CONNECT.startswith(heard)):
            self.open = True
        elif b"\r" in heard or len(heard) > _LONGEST:
            self.open = True
            target = heard[len(_CONNECT) :].split(b"\r")[0].split(b" ")[0].decode("latin-1")
            self._tell(
                f"{self._flow.destination} is asked to CONNECT to {target!r}: it is a proxy, and what it reaches is "
                "not for this policy to say; rules with http:// or tls:// would refuse it"
            )
        else:
            self._heard = heard
        return data

    def end(self) -> None:
        self.open = True

    def answered(self, data: bytes) -> None:
        """Answers say nothing of whom was asked."""

    def release(self) -> bytes:
        return b""
