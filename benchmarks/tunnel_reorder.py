"""A path on which some packets are overtaken by others: what waits for them, and what takes them for lost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.form import Measured
from benchmarks.peers import program
from benchmarks.rounds import Absent
from benchmarks.tunnel import at_each
from benchmarks.tunnel_wire import without_offloads
from benchmarks.world import Arena, words_of

_LATE = 0.001
_QUEUE = 7
_PROGRAM = str(Path(__file__).with_name("programs") / "late_packets.py")
_RULE = (
    "for device in $(ip -o link show type veth | cut -d: -f2 | cut -d@ -f1); do {} -w -{} INPUT -i $device "
    f"-m statistic --mode random --probability {{}} -j NFQUEUE --queue-num {_QUEUE} --queue-bypass; done"
)


def run(seconds: float) -> Measured:
    """iperf3 while 1 and 5 % of the packets come 1 ms late, single packets on the wire. The headline is at 1 %."""
    work = "iperf3, one TCP stream, while some packets of 1500 bytes reach the server 1 ms late"
    return at_each(work, seconds, (1.0, 5.0), _late, 1.0)


@contextmanager
def _late(place: Arena, percent: float) -> Iterator[None]:
    with without_offloads(place), _overtaken(place, percent):
        yield


@contextmanager
def _overtaken(place: Arena, percent: float) -> Iterator[None]:
    """Some of what comes by the server's cards passes a queue that holds it back."""
    command = [sys.executable, _PROGRAM, str(_QUEUE), str(_LATE)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True}
    with place.server.popen(command, administrator=True, **pipes) as process:
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise Absent("the queue could not be opened")
            rule = _RULE.format(program("iptables"), "A", percent / 100)
            done = place.server.run(["sh", "-ec", rule], administrator=True)
            if done.returncode:
                raise Absent(f"iptables failed: {words_of(done)}")
            yield
        finally:
            process.kill()
