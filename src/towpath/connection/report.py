"""What happened while a connection was made, and while it carried data. All durations are seconds of one clock."""

from __future__ import annotations

from dataclasses import dataclass

from towpath.kernel.transport import StreamFigures
from towpath.protocols.stack import Handshake

__all__ = ["AttemptReport", "EstablishmentReport", "ResolutionReport", "TransferReport"]


@dataclass(frozen=True, slots=True)
class ResolutionReport:
    """One name that was resolved: by what (``dns``, ``hosts``, ``getaddrinfo``), and over which protocol if known."""

    name: str
    source: str
    seconds: float
    endpoints: tuple[str, ...] = ()
    protocol: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class AttemptReport:
    """One address that was tried, `offset` seconds after the race began.

    `outcome` is ``won``, ``lost`` (another was sooner) or ``failed``, with the `error` in words.
    """

    endpoint: str
    offset: float
    seconds: float
    outcome: str
    error: str | None = None


@dataclass(frozen=True, slots=True)
class EstablishmentReport:
    """How a connection came to be, or why it did not.

    `seconds` is from the start of the successful try to ready, `None` before that. `started_after` is how long waiting
    and `earlier_tries` took before.
    """

    resolutions: tuple[ResolutionReport, ...] = ()
    attempts: tuple[AttemptReport, ...] = ()
    handshakes: tuple[Handshake, ...] = ()
    """Each protocol above the transport that had to agree with the peer; `about` is what it says of the connection."""
    round_trip: float | None = None
    """Of the transport, as the kernel measured it while connecting."""
    seconds: float | None = None
    started_after: float | None = None
    earlier_tries: int = 0
    multipath: bool = False


@dataclass(frozen=True, slots=True)
class TransferReport:
    """What went through since the measurement began: at ready, or when `Connection.measure` was called.

    Bytes are the transport's content. `kernel` is the state at the end, `None` where the transport is not TCP; its
    counters are since the connection was made. `unacknowledged` is how many sent bytes the peer has not confirmed:
    that a send was done has never meant that they arrived.
    """

    seconds: float
    bytes_sent: int
    bytes_received: int
    messages_sent: int
    messages_received: int
    unacknowledged: int | None = None
    kernel: StreamFigures | None = None
