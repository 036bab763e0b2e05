"""C1 where the network fails: pings of a framer above WebSocket keep an idle connection, and find a dead peer."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.support.timing import TooSlow, best_of_several, within

from towpath.testing import Lab, LabPlan

INTERVAL, PATIENCE = 0.5, 2.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(LabPlan().host("client").host("server")) as made:
        yield made


@contextmanager
def program(lab: Lab, host: str, name: str, where: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.websocket_programs", name, where]
    process = lab[host].popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen[str], *wanted: str) -> float:
    """The next line, which has to begin with these words; gives its time."""
    assert process.stdout is not None
    *words, at = process.stdout.readline().split()
    assert words == list(wanted)
    return float(at)


@best_of_several
def test_c1_a_black_holed_peer_is_found_by_pings_and_a_living_one_is_left_alone(lab: Lab) -> None:
    where = f"{lab['server'].address4}:8080"
    with program(lab, "server", "serve", where) as server:
        line(server, "listening")
        with program(lab, "client", "watch", where) as client:
            begun = line(client, "ready", "word")
            try:
                client.wait(2 * (INTERVAL + PATIENCE))  # idle for longer than a dead peer would be waited for
            except subprocess.TimeoutExpired:
                pass
            else:
                raise TooSlow("its pings were not answered in time")
            with lab["server"].fault("black-hole"):
                broken = time.monotonic()
                ended = line(client, "ended", "TimedOut")
            assert broken - begun > INTERVAL + PATIENCE
            assert ended - broken >= PATIENCE * 0.9
            within((INTERVAL + PATIENCE) * 1.2, ended - broken)
