"""What a run adds to the time of the command in it: from the first process to the last, `true` inside."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping
from tempfile import TemporaryDirectory

from benchmarks.form import Measured
from benchmarks.peers import npm_environment, program, sandbox_runtime, towpath_run
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import NAME, words_of

_LONGEST = 0.4
"""Seconds that the slowest party takes, about."""
_FEWEST, _MOST = 3, 40
_TIME, _OVER = "milliseconds", "overhead_milliseconds"


def run(seconds: float) -> Measured:
    """One start of each party in turn."""
    rounds = min(_MOST, max(_FEWEST, round(seconds / _LONGEST)))
    with TemporaryDirectory(prefix="towpath-bench-") as folder:
        measured = take_turns(
            "`true` started and waited for; the overhead is the time above that of the bare command in the same round",
            _above_bare(
                {
                    "towpath_run": lambda: towpath_run("--allow", f"{NAME}:80"),
                    "towpath_run_no_policy": towpath_run,
                    "sandbox_runtime": lambda: sandbox_runtime(folder, NAME),
                    "firejail": lambda: [program("firejail"), "--quiet", "--noprofile", "--net=none"],
                    "bwrap": lambda: [program("bwrap", "bubblewrap"), "--dev-bind", "/", "/", "--unshare-net"],
                    "unshare": lambda: [program("unshare", "util-linux"), "-Urn"],
                },
                folder,
            ),
            rounds,
        )
    for peer in ("sandbox_runtime", "firejail", "bwrap", "unshare"):
        measured.compare(f"vs_{peer}", "towpath_run", peer, _OVER, less_is_better=True)
    return measured


def _above_bare(starts: Mapping[str, Callable[[], list[str]]], folder: str) -> dict[str, Party]:
    """The parties, the bare command first: what it takes in a round is what the others are compared with.

    `folder` is an empty one to be in: sandbox-runtime reads through the folder it is started in.
    """
    bare = 0.0
    environment = npm_environment()

    def work_bare() -> Mapping[str, float]:
        nonlocal bare
        bare = _milliseconds(["true"], environment, folder)
        return {_TIME: bare}

    def started_by(start: Callable[[], list[str]]) -> Party:
        def work() -> Mapping[str, float]:
            taken = _milliseconds([*start(), "true"], environment, folder)
            return {_TIME: taken, _OVER: taken - bare}

        return work

    return {"bare": work_bare, **{name: started_by(start) for name, start in starts.items()}}


def _milliseconds(command: list[str], environment: Mapping[str, str], folder: str) -> float:
    begun = time.perf_counter()
    done = subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, cwd=folder
    )
    taken = (time.perf_counter() - begun) * 1000
    if done.returncode:
        raise Absent(f"{command[0]} failed: {words_of(done)}")
    return taken
