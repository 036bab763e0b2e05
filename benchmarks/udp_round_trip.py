"""A datagram to an echo service and back, through a run: one at a time, then as fast as they go."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.form import Measured
from benchmarks.peers import towpath_run
from benchmarks.rounds import Party, take_turns
from benchmarks.world import NAME, Arena, arena

_ROUNDS = 3
_PORT = 9000
_CLIENT = str(Path(__file__).with_name("programs") / "udp_client.py")
_FIGURE = "datagrams_per_second"


def run(seconds: float) -> Measured:
    """Half of the time for single datagrams, half for many in flight."""
    length = seconds / _ROUNDS
    with arena() as place:
        measured = take_turns(
            "32 bytes to a UDP echo service on another Lab host and back: one at a time for the microseconds, "
            "32 in flight for the rate",
            {
                "direct": _echo(place, length, []),
                "run": _echo(place, length, towpath_run("--allow", f"udp://{NAME}:{_PORT}")),
                "run_no_policy": _echo(place, length, towpath_run()),
            },
            _ROUNDS,
        )
    measured.compare("vs_limit", "run", "direct", _FIGURE)
    measured.compare("vs_limit_p50", "run", "direct", "p50_microseconds", less_is_better=True)
    measured.compare("vs_limit_p99", "run", "direct", "p99_microseconds", less_is_better=True)
    return measured


def _echo(place: Arena, length: float, before: list[str]) -> Party:
    def work() -> Mapping[str, float]:
        text = place.run([*before, sys.executable, _CLIENT, NAME, str(_PORT), str(length)], length)
        found: dict[str, float] = json.loads(text)
        return found

    return work
