"""New connections per second while a filter decides about each: on a router, and on the host that opens them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.filtering import conntrack_only, nothing, open_snitch, our_filter
from benchmarks.form import Measured
from benchmarks.peers import program
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import NAME, ROUTER, Arena, arena

_ROUNDS = 3
_LATENCY = str(Path(__file__).with_name("programs") / "connect_latency.py")
_RATE, _P50, _P99 = "connections_per_second", "connect_and_get_p50_us", "connect_and_get_p99_us"
_SAMPLES = 1000
_FEW = 200

_InTheWay = Callable[[Arena, str, str], AbstractContextManager[None]]


def run(seconds: float) -> Measured:
    """Three quarters of a turn for the rate; then connections one by one for the latency."""
    length = max(1, round(seconds / _ROUNDS))
    with arena(web=True, routed=True) as place:
        measured = take_turns(
            "GET of 6 bytes, a new connection each: wrk -t1 -c32 with Connection: close, nginx behind a router of the "
            "Lab; on the router, or (output) on the client, stands what the party is named after",
            {
                "routed_only": _party(place, length, nothing, ROUTER, "forward"),
                "conntrack_only": _party(place, length, conntrack_only, ROUTER, "forward"),
                "filter": _party(place, length, our_filter, ROUTER, "forward"),
                "filter_output": _party(place, length, our_filter, "client", "output"),
                "opensnitch": _party(place, length, open_snitch, "client", "output", _FEW),
            },
            _ROUNDS,
        )
    measured.compare("vs_limit", "filter", "conntrack_only", _RATE)
    measured.compare("vs_limit_latency_p50", "filter", "conntrack_only", _P50, less_is_better=True)
    measured.compare("vs_limit_latency_p99", "filter", "conntrack_only", _P99, less_is_better=True)
    measured.compare("vs_opensnitch", "filter_output", "opensnitch", _RATE)
    for figure in (_P50, _P99):
        ours, theirs = measured.figure("filter", figure), measured.figure("conntrack_only", figure)
        if ours and theirs:
            measured.results["filter"][f"added_{figure}"] = round(ours - theirs, 1)
    return measured


def _party(place: Arena, length: int, in_the_way: _InTheWay, node: str, hook: str, samples: int = _SAMPLES) -> Party:
    def work() -> Mapping[str, float]:
        with in_the_way(place, node, hook):
            command = [program("wrk"), "-t1", "-c32", f"-d{length}s", "-H", "Connection: close", f"http://{NAME}/"]
            text = place.run(command, length)
            rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
            if rate is None or "Non-2xx" in text:
                raise Absent(f"wrk had no good answers: {text.strip()[-200:]}")
            p50, p99 = place.run([sys.executable, _LATENCY, NAME, "80", str(samples)], length).split()
            return {_RATE: float(rate[1]), _P50: float(p50), _P99: float(p99)}

    return work
