"""A tunnel under load for as many seconds as `TOWPATH_SOAK` says (1800 is meant): memory and descriptors stay flat.

`TOWPATH_SOAK_PAUSE`, seconds between turns of 3 MB each way, makes it a load beside which others can work. Figures are
written each minute (pytest -s).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.netns.test_host_tunnel import PLAN, bulk, tunnel, wire_tunnel_files, wireguard_files
from tests.support.processes import descendants

from towpath.testing import Lab

SECONDS = float(os.environ.get("TOWPATH_SOAK", "0"))
PAUSE = float(os.environ.get("TOWPATH_SOAK_PAUSE", "0"))
_EACH = 60.0


def _kilobytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    return 0


def _figures(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Memory in KB and open descriptors of all processes of a tunnel."""
    family = [process.pid, *descendants(process.pid)]
    return sum(map(_kilobytes, family)), sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in family)


@pytest.mark.skipif(not SECONDS, reason="TOWPATH_SOAK says for how many seconds to load a tunnel; it is not set")
@pytest.mark.timeout(SECONDS + 200)
@pytest.mark.parametrize("protocol", ["wireguard", "wire-tunnel"])
def test_memory_and_descriptors_stay_flat_under_load(tmp_path: Path, protocol: str) -> None:
    with Lab(PLAN) as lab:
        server, client = lab["server"], lab["one"]
        if protocol == "wireguard":
            there, here, _ours, _theirs = wireguard_files(tmp_path, server)
            targets, address = (str(there), str(here)), "10.80.0.1"
        else:
            target, (other,) = wire_tunnel_files(tmp_path, server, 1)
            targets, address = (target, other), "10.90.0.1"
        with tunnel(server, targets[0], "t0") as serving, tunnel(client, targets[1], "t0") as held:
            end = time.monotonic() + SECONDS
            for _ in range(3):
                assert bulk(client, address)
            before = [_figures(process) for process in (serving, held)]
            turns, shown = 0, time.monotonic()
            while time.monotonic() < end:
                assert bulk(client, address)
                turns += 1
                if time.monotonic() - shown >= _EACH:
                    shown = time.monotonic()
                    now = [_figures(process) for process in (serving, held)]
                    sys.stdout.write(f"{protocol}, turn {turns}: (KB, descriptors) of both ends {now}\n")
                time.sleep(PAUSE)
            after = [_figures(process) for process in (serving, held)]
            for (memory, descriptors), (memory_now, descriptors_now) in zip(before, after, strict=True):
                assert memory_now < memory * 1.1 + 4096, f"{memory} KB, and {memory_now} KB after {turns} turns"
                assert abs(descriptors_now - descriptors) <= 2
