"""What a policy costs a build: small and large HTTPS downloads from an allowed host, with the start of the sandbox."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.form import Measured
from benchmarks.peers import npm_environment, sandbox_runtime, sandlock, towpath_run
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import NAME, Arena, arena

_SMALL, _LARGE, _LARGE_BYTES = 200, 20, 8 << 20
_LONGEST = 3.0
"""Seconds that a party takes, about."""
_FEWEST, _MOST = 2, 10
_CLIENT = str(Path(__file__).with_name("programs") / "https_downloads.py")


def run(seconds: float) -> Measured:
    """The whole from start to end, and the two halves of the work as the command sees them."""
    rounds = min(_MOST, max(_FEWEST, round(seconds / _LONGEST)))
    with arena(web=True) as place:
        files = Path(place.folder, "files")
        files.mkdir()
        (files / "large").write_bytes(bytes(_LARGE_BYTES))
        measured = take_turns(
            f"a Python client: {_SMALL} HTTPS downloads of 6 bytes and {_LARGE} of 8 MB, one after the other, a new "
            "connection each, from nginx on another Lab host, one host allowed; total_seconds is with the start and "
            "the end of the sandbox",
            {
                "no_sandbox": _party(place, lambda: []),
                "towpath_run": _party(place, lambda: towpath_run("--allow", f"{NAME}:443")),
                "sandlock": _party(place, lambda: sandlock(f"{NAME}:443")),
                "sandbox_runtime": _party(place, lambda: sandbox_runtime(place.folder, NAME)),
            },
            rounds,
        )
    for peer in ("sandbox_runtime", "sandlock", "no_sandbox"):
        measured.compare(f"vs_{peer}", "towpath_run", peer, "total_seconds", less_is_better=True)
    for half in ("small", "large"):
        measured.compare(f"vs_no_sandbox_{half}", "towpath_run", "no_sandbox", f"{half}_seconds", less_is_better=True)
    return measured


def _party(place: Arena, start: Callable[[], list[str]]) -> Party:
    def work() -> Mapping[str, float]:
        begun = time.perf_counter()
        client = [sys.executable, _CLIENT, NAME, str(_SMALL), str(_LARGE), f"{place.folder}/cert.pem"]
        text = place.run([*start(), *client], 60, npm_environment())
        total = time.perf_counter() - begun
        figures = next((line.split()[1:] for line in text.splitlines() if line.startswith("figures ")), None)
        if figures is None:
            raise Absent(f"the downloads were not all made: {text.strip()[-200:]}")
        small, large = map(float, figures)
        return {"total_seconds": total, "small_seconds": small, "large_seconds": large}

    return work
