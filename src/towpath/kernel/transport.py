"""What an operating system knows about one transport connection: plain values."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StreamFigures"]


@dataclass(frozen=True, slots=True)
class StreamFigures:
    """The state of one TCP connection at one moment. Times are seconds; `None` where this kernel does not say.

    `silence` is how long ago the peer's last packet came, be it data or an acknowledgement.
    """

    silence: float
    last_data_age: float
    last_ack_age: float
    round_trip: float
    round_trip_variance: float
    min_round_trip: float | None
    unacknowledged: int
    """Packets."""
    retransmits: int
    """Packets that were sent again since the connection was made."""
    bytes_sent: int | None
    bytes_received: int | None
    bytes_acknowledged: int | None
    bytes_retransmitted: int | None
    packets_sent: int | None
    packets_received: int | None
    out_of_order: int | None
    """Packets that came before their turn."""
