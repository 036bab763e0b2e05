"""What an idle run costs in memory: each page shared with others counts in part (proc(5), Pss)."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from benchmarks.form import Measured
from benchmarks.peers import towpath_run
from benchmarks.rounds import Absent, take_turns
from benchmarks.world import NAME, Arena, arena

_ROUNDS = 3
_LIMIT = 40.0
_FIGURE = "megabytes"
_COMMAND = ["sh", "-c", f"curl -s -o /dev/null http://{NAME}/; echo idle; read word"]
"""It uses the network once, so that all that serves flows is there; then it waits."""


def run(seconds: float) -> Measured:
    """`seconds` plays no part: a run is looked at once it is idle."""
    del seconds
    with arena(web=True) as place:
        parties = {
            "run": lambda: _idle(place, "--allow", f"{NAME}:80"),
            "run_no_policy": lambda: _idle(place),
        }
        measured = take_turns("Pss of every process of ours in a run whose command waits", parties, _ROUNDS)
    measured.results["goal"] = {_FIGURE: _LIMIT}
    measured.compare("vs_limit", "run", "goal", _FIGURE, less_is_better=True)
    return measured


def _idle(place: Arena, *options: str) -> Mapping[str, float]:
    command = [*towpath_run(*options), *_COMMAND]
    with place.client.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdin is not None
        if started.stdout.readline() != "idle\n":
            raise Absent("the run did not start")
        sizes = [_pss(process) for process in _ours(started.pid)]
        started.stdin.close()
    return {_FIGURE: sum(sizes), "processes": len(sizes)}


def _ours(process: int) -> Iterator[int]:
    """The process and those under it, as far as they are Python: the command is not ours."""
    if not Path(f"/proc/{process}/comm").read_text().startswith(("towpath", "python")):
        return
    yield process
    for child in Path(f"/proc/{process}/task/{process}/children").read_text().split():
        yield from _ours(int(child))


def _pss(process: int) -> float:
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except PermissionError as error:
        raise Absent("only root may read the memory of a process that is not dumpable") from error
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0
