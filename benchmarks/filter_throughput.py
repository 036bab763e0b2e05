"""Bulk TCP over a router with a filter on it: once the flow is allowed, the kernel alone carries it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from benchmarks.filtering import conntrack_only, nothing, our_filter
from benchmarks.form import Measured
from benchmarks.peers import program
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import NAME, ROUTER, Arena, arena

_ROUNDS = 5
_FIGURE = "gigabits_per_second"


def run(seconds: float) -> Measured:
    """iperf3 through a filter that allows, beside the same host with connection tracking only."""
    length = max(1, round(seconds / _ROUNDS))
    with arena(iperf=True, routed=True) as place:
        measured = take_turns(
            "iperf3, one TCP stream over a router of the Lab on which stands what the party is named after",
            {
                "routed_only": _party(place, length, nothing),
                "conntrack_only": _party(place, length, conntrack_only),
                "filter": _party(place, length, our_filter),
            },
            _ROUNDS,
        )
    measured.compare("vs_limit", "filter", "conntrack_only", _FIGURE)
    return measured


def _party(place: Arena, length: int, in_the_way: Callable[[Arena, str, str], AbstractContextManager[None]]) -> Party:
    def work() -> Mapping[str, float]:
        with in_the_way(place, ROUTER, "forward"):
            text = place.run([program("iperf3"), "-c", NAME, "-t", str(length), "-J", "-4"], length)
        try:
            return {_FIGURE: float(json.loads(text)["end"]["sum_received"]["bits_per_second"]) / 1e9}
        except (ValueError, KeyError) as error:
            raise Absent(f"iperf3 gave no rate: {text[-200:]}") from error

    return work
