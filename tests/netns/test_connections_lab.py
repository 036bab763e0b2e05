"""Connections where the network fails: dead peers, no path, a path that comes back."""

from __future__ import annotations

import errno
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.support.timing import best_of_several, within

from towpath.testing import Dns, Lab, LabPlan, TcpEcho

SECONDS = 3.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    plan = LabPlan().host("client").host("server", serves=[TcpEcho(port=7, names=("echo.test",))])
    plan = plan.host("dns", serves=[Dns()])
    with Lab(plan) as made:
        yield made


def program(lab: Lab, name: str, *words: str, endpoint: str = "") -> subprocess.Popen[str]:
    where = endpoint or f"{lab['server'].address4}:7"
    command = [sys.executable, "-m", "tests.support.connection_programs", name, where, *words]
    return lab["client"].popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str], *wanted: str) -> float:
    """Reads up to the line that begins with these words; gives its time."""
    assert process.stdout is not None
    for text in process.stdout:
        *words, at = text.split()
        if words[: len(wanted)] == list(wanted):
            return float(at)
    raise AssertionError(f"{' '.join(wanted)} was never said")


def end(process: subprocess.Popen[str]) -> None:
    process.communicate(timeout=120)
    assert process.returncode == 0


@pytest.mark.parametrize("multipath", ["plain", "multipath"])
@pytest.mark.parametrize("sends", ["idle", "sending"])
@best_of_several
def test_c2_a_black_holed_peer_is_declared_dead_in_time(lab: Lab, sends: str, multipath: str) -> None:
    process = program(lab, "until_dead", str(SECONDS), sends, multipath)
    line(process, "ready")
    time.sleep(1.2)  # the connection has to live for a while first: that is what is tested
    with lab["server"].fault("black-hole"):
        broken = time.monotonic()
        dead = line(process, "dead", str(errno.ETIMEDOUT))
        # The last sign of life may be as old as the pause between two probes, or two sends.
        assert dead - broken >= SECONDS - 1.5
        end(process)
    within(SECONDS * 1.2, dead - broken)


def test_c2_a_living_peer_is_never_declared_dead(lab: Lab) -> None:
    process = program(lab, "until_dead", "2", "idle", "plain")
    line(process, "ready")
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2 * 2.4)
    process.kill()
    process.communicate()


def test_a_connection_waits_for_a_path_and_goes_on_by_itself(lab: Lab) -> None:
    with lab["client"].fault("link-down"):
        process = program(lab, "once")
        line(process, "state", "preparing")
        line(process, "state", "waiting", "ConnectionFailed")
    line(process, "state", "preparing")
    line(process, "state", "ready")
    end(process)


def test_a_name_is_resolved_and_each_answer_stands_in_the_report(lab: Lab) -> None:
    process = program(lab, "once", endpoint="echo.test:7")
    line(process, "state", "ready")
    line(process, "resolved", "dns")
    end(process)


def test_a_name_that_does_not_exist_fails_and_is_not_waited_for(lab: Lab) -> None:
    process = program(lab, "once", endpoint="nowhere.test:7")
    line(process, "state", "failed", "ConnectionFailed")
    line(process, "failed", "NameUnknown")
    end(process)


def test_without_a_network_a_name_is_waited_for(lab: Lab) -> None:
    with lab["client"].fault("link-down"):
        process = program(lab, "once", endpoint="echo.test:7")
        line(process, "state", "waiting", "ConnectionFailed")
    line(process, "state", "ready")
    end(process)


def test_c5_an_interface_that_is_not_there_is_waited_for(lab: Lab) -> None:
    process = program(lab, "once", "later0")
    line(process, "state", "waiting")
    process.kill()
    process.communicate()


@best_of_several
def test_c2_a_lost_path_is_told_within_a_second_and_the_connection_outlives_it(lab: Lab) -> None:
    process = program(lab, "once")
    line(process, "state", "ready")
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    line(process, "answer", "word")
    with lab["client"].fault("link-down"):
        broken = time.monotonic()
        told = line(process, "viable", "False") - broken
    line(process, "viable", "True")
    process.stdin.write("\n")
    process.stdin.flush()
    line(process, "answer", "word")
    end(process)
    within(1, told)
