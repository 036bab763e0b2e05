"""Bulk TCP through a run, one stream, beside the user-mode networks that rootless containers use."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.form import Measured
from benchmarks.peers import program, towpath_run
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import NAME, Arena, arena

_ROUNDS = 3
_BEHIND_SLIRP = str(Path(__file__).with_name("programs") / "behind_slirp.py")
_UP, _DOWN = "gigabits_per_second", "gigabits_per_second_reverse"


def run(seconds: float) -> Measured:
    """Half of the time each way."""
    length = max(1, round(seconds / _ROUNDS / 2))
    with arena(iperf=True) as place:
        measured = take_turns(
            "iperf3, one TCP stream to another Lab host, sent and then (reverse) received",
            {
                "direct": _iperf(place, length, list),
                "run": _iperf(place, length, lambda: towpath_run("--allow", f"{NAME}:5201")),
                "run_no_policy": _iperf(place, length, towpath_run),
                "pasta": _iperf(place, length, _pasta, place.server.address4),
                "slirp4netns": _iperf(place, length, _slirp, place.server.address4),
            },
            _ROUNDS,
        )
    measured.compare("vs_limit", "run", "direct", _UP)
    measured.compare("vs_limit_reverse", "run", "direct", _DOWN)
    for peer in ("pasta", "slirp4netns"):
        measured.compare(f"vs_{peer}", "run", peer, _UP)
        measured.compare(f"vs_{peer}_reverse", "run", peer, _DOWN)
    return measured


def _iperf(place: Arena, length: int, before: Callable[[], list[str]], server: str = NAME) -> Party:
    def work() -> Mapping[str, float]:
        command = [*before(), program("iperf3"), "-c", server, "-t", str(length), "-J", "-4"]
        return {_UP: _rate(place, command, length), _DOWN: _rate(place, [*command, "-R"], length)}

    return work


def _rate(place: Arena, command: list[str], length: int) -> float:
    text = place.run(command, length)
    try:
        found = json.loads(text[text.index("{") :])
        return float(found["end"]["sum_received"]["bits_per_second"]) / 1e9
    except (ValueError, KeyError) as error:
        raise Absent(f"iperf3 gave no rate: {text[-200:]}") from error


def _pasta() -> list[str]:
    """pasta(1) in its command mode, with the card and routes of the host it is on."""
    return [program("pasta", "passt"), "--config-net", "--quiet", "--foreground", "--"]


def _slirp() -> list[str]:
    program("slirp4netns")
    return [sys.executable, _BEHIND_SLIRP]
