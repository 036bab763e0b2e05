"""Memory that 100,000 cached answers take: of the engine of names, and of others."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.dns import ENGINE_PORT, PORTS, dnsperf, rate_of, resolvers
from benchmarks.form import Measured
from benchmarks.rounds import Absent

_NAMES = 100_000
_PARTIES = {"towpath": ENGINE_PORT, "unbound": PORTS["unbound"]}


def run(seconds: float) -> Measured:
    """Asks for each name until all are there; how long it may take is not measured."""
    measured = Measured(f"{_NAMES} names asked for, which are kept with one address each; growth of the process")
    with resolvers() as place:
        file = place.folder / "names"
        file.write_text("".join(f"m{at}.bench.test A\n" for at in range(_NAMES)))
        for name, port in _PARTIES.items():
            if name in place.missing:
                measured.missing.append((name, place.missing[name]))
                continue
            pid = place.processes[name].pid
            before = _memory(pid)
            command = [*dnsperf(file, 60, "127.0.0.1", port, "-n", "2"), "-q", "50", "-t", "20"]
            done = place.client.run(command, timeout=120)
            try:
                rate_of(done.stdout)
            except Absent as reason:
                measured.missing.append((name, str(reason)))
                continue
            grown = _memory(pid) - before
            measured.results[name] = {"megabytes": round(grown / 1e6, 1), "bytes_per_name": round(grown / _NAMES)}
    measured.compare("vs_unbound", "towpath", "unbound", "megabytes", less_is_better=True)
    return measured


def _memory(pid: int) -> int:
    """Bytes that a process and those below it have for themselves (proc_pid_smaps(5), Pss)."""
    found = 0
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                found += int(line.split()[1]) * 1024
        for task in os.listdir(f"/proc/{one}/task"):
            waiting += map(int, Path(f"/proc/{one}/task/{task}/children").read_text().split())
    return found
