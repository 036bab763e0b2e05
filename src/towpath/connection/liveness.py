"""When is a peer dead? One policy: after so many seconds in which nothing at all came from it."""

from __future__ import annotations

from dataclasses import dataclass

from towpath.errors import Misuse

__all__ = ["Liveness"]

_MIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Liveness:
    """Declares the peer dead after `dead_after` seconds of silence, idle or sending.

    Without `ping` a living peer's kernel keeps the connection: acknowledgements of data and of TCP keep-alive probes
    are traffic, also from a peer that reads nothing for long. With `ping` only bytes count, and the highest layer that
    can makes the peer's program answer.

    Only what is received is judged, never what could be sent. TCP_USER_TIMEOUT is not used: it would also end
    a connection whose living peer has closed its window, and multipath TCP has none. ::

        Parameters.tls().but(liveness=Liveness(30))
    """

    dead_after: float
    ping: bool = False

    def __post_init__(self) -> None:
        if self.dead_after < _MIN_SECONDS:
            error = Misuse(f"{self.dead_after:g} s is too short to tell a dead peer from a slow one")
            error.hint = f"the kernel's probes are whole seconds apart: {_MIN_SECONDS:g} s is the least"
            raise error

    @property
    def probe_idle(self) -> int:
        """Seconds of silence before the kernel probes, and between probes: several fit into `dead_after`."""
        return max(1, int(self.dead_after / 3))

    @property
    def ping_after(self) -> float:
        """Seconds of silence before a ping, so that the answer has twice as long."""
        return self.dead_after / 3
