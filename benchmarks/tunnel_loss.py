"""A path that loses: one lost datagram must not cost a whole super-packet for long."""

from __future__ import annotations

from contextlib import AbstractContextManager

from benchmarks.form import Measured
from benchmarks.tunnel import at_each
from benchmarks.world import Arena


def run(seconds: float) -> Measured:
    """iperf3 at 0.1, 1 and 5 % of lost datagrams; a figure for each. The headline is at 1 %."""
    work = "iperf3, one TCP stream, while the server's host loses some of what comes"
    return at_each(work, seconds, (0.1, 1.0, 5.0), _losing, 1.0)


def _losing(place: Arena, percent: float) -> AbstractContextManager[None]:
    return place.server.fault("loss", percent=percent)
