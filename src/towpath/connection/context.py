"""How one message is to be sent, beside its content."""

from __future__ import annotations

from dataclasses import dataclass, field

from towpath.errors import Misuse

__all__ = ["DEFAULT_CONTEXT", "FINAL", "MessageContext"]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class MessageContext:
    """One logical message; several sends with the same context continue it until one of them is complete.

    `final`: once it is complete, this side sends no more (TCP FIN, TLS close_notify). `priority` is from 0 to 1, the
    higher goes first among messages that wait. `expires_after` are seconds from the send, after which content that
    still waits is dropped (`TimedOut`). `antecedent` must have been sent before. `idempotent` says that it does no harm
    if it arrives twice: then it may be sent before the connection is ready, on several attempts of a race, and with
    a QUIC handshake's first packet (`Quic.early_data`). ::

        urgent = MessageContext(priority=1.0, expires_after=0.5)
        await connection.send(b"now", context=urgent)
        await connection.send(b"goodbye", context=FINAL)
    """

    name: str = ""
    final: bool = False
    priority: float = 0.5
    expires_after: float | None = None
    antecedent: MessageContext | None = field(default=None, repr=False)
    idempotent: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.priority <= 1:
            raise Misuse(f"a priority is from 0 to 1: {self.priority:g} was given")
        if self.expires_after is not None and self.expires_after <= 0:
            raise Misuse("a message expires after more than 0 seconds")


DEFAULT_CONTEXT = MessageContext("default")
"""A message like any other."""

FINAL = MessageContext("final", final=True)
"""The last message of this side."""
