"""Very many flows, names and rules in one run: all are served, the report is right, and nothing is left of them.

The counts are bounded here; `TOWPATH_FLOWS` and `TOWPATH_TOGETHER` ask for more.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.processes import manager_of
from tests.support.running import TOWPATH, python
from tests.support.scale_programs import CLIENT, SERVER

from towpath.testing import Lab
from towpath.testing.plan import Dns, LabPlan

FLOWS = int(os.environ.get("TOWPATH_FLOWS", "5000"))
TOGETHER = int(os.environ.get("TOWPATH_TOGETHER", "2000"))
NAMES = 1000
RULES = 10_000
PORT = 7000


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    """A Lab in which one host has a thousand names, with as many descriptors as the user may have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    plan = LabPlan().host("client").host("web", ipv4="198.51.100.20").host("dns", serves=[Dns()])
    plan = plan.record("echo.test", "A", "198.51.100.20")
    for number in range(NAMES):
        plan = plan.record(f"n{number}.many.test", "A", "198.51.100.20")
    try:
        with Lab(plan) as lab:
            server = lab["web"].popen(python(SERVER) + [str(PORT)], stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            yield lab
            server.kill()
            server.communicate()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Run:
    """A run under way; its manager is looked at from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert self._line() == "ready"
        self._manager = Path("/proc", str(manager_of(process.pid)))

    def _line(self) -> str:
        assert self._process.stdout is not None
        return str(self._process.stdout.readline()).strip()

    def do(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._line()

    def descriptors(self) -> list[str]:
        found = []
        for entry in (self._manager / "fd").iterdir():
            try:
                found.append(os.readlink(entry))
            except FileNotFoundError:
                continue
        return found

    def settled(self, most: int) -> int:
        """How many descriptors it has, once there are no more than `most`: closing goes on after a flow's last word."""
        while len(self.descriptors()) > most:
            time.sleep(0.05)  # the event is in another process; the test's own limit ends it
        return len(self.descriptors())

    def memory(self) -> int:
        """Its own memory in bytes."""
        for line in (self._manager / "smaps_rollup").read_text().splitlines():
            if line.startswith("Private_Dirty:"):
                return int(line.split()[1]) << 10
        raise KeyError("Private_Dirty")


@contextmanager
def running(lab: Lab, folder: Path, *options: str) -> Iterator[tuple[Run, Path]]:
    report = folder / "report.jsonl"
    command = [TOWPATH, "run", "--report-file", str(report), *options, "--", *python(CLIENT)]
    pipe = subprocess.PIPE
    process = lab["client"].popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
    try:
        yield Run(process), report
        process.communicate(timeout=120)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def records(report: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in report.read_text().splitlines()]


@pytest.mark.timeout(600)
def test_flows_without_end_leave_memory_and_descriptors_where_they_were(world: Lab, tmp_path: Path) -> None:
    with running(world, tmp_path, "--allow", f"tcp://echo.test:{PORT}") as (run, report):
        assert run.do(f"sequence('echo.test', {PORT}, 500)") == "500"
        before = len(run.descriptors())
        memory = run.memory()
        assert run.do(f"sequence('echo.test', {PORT}, {FLOWS})") == str(FLOWS)
        assert run.settled(before) <= before
        assert run.memory() < memory + (8 << 20)
    *flows, summary = records(report)
    assert (summary["allowed"], summary["refused"], summary["failed"]) == (FLOWS + 500, 0, 0)
    assert len(flows) == FLOWS + 500
    assert {(flow["verdict"], flow["sent"], flow["received"]) for flow in flows} == {("allowed", 1, 1)}


@pytest.mark.timeout(600)
def test_as_many_flows_at_once_as_there_are_descriptors_for(world: Lab, tmp_path: Path) -> None:
    """A flow takes two of the manager's: the program's side and the server's."""
    most = min(TOGETHER, (resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 200) // 2)
    with running(world, tmp_path, "--allow", f"tcp://echo.test:{PORT}") as (run, report):
        assert run.do(f"sequence('echo.test', {PORT}, 10)") == "10"
        before = len(run.descriptors())
        assert run.do(f"together('echo.test', {PORT}, {most})") == str(most)
        assert len(run.descriptors()) >= 2 * most
        assert run.do("release()") == "released"
        assert run.settled(before) <= before
        assert run.do(f"sequence('echo.test', {PORT}, 10)") == "10"
    assert records(report)[-1]["allowed"] == most + 20


def test_past_the_last_descriptor_flows_fail_and_the_run_goes_on(world: Lab, tmp_path: Path) -> None:
    prefix = ["prlimit", "--nofile=300:300"]
    report = tmp_path / "report.jsonl"
    command = [*prefix, TOWPATH, "run", "--report-file", str(report), "--allow", f"tcp://echo.test:{PORT}", "--"]
    pipe = subprocess.PIPE
    with world["client"].popen([*command, *python(CLIENT)], stdin=pipe, stdout=pipe, text=True) as process:
        run = Run(process)
        held = int(run.do(f"together('echo.test', {PORT}, 1000)"))
        assert 100 < held < 150
        assert run.do("release()") == "released"
        assert run.do(f"sequence('echo.test', {PORT}, 50)") == "50"
        process.communicate(timeout=120)
        assert process.returncode == 0


@pytest.mark.timeout(600)
def test_a_thousand_names_are_learnt_and_told_apart(world: Lab, tmp_path: Path) -> None:
    with running(world, tmp_path, "--allow", f"tcp://*.many.test:{PORT}") as (run, report):
        assert run.do(f"names('n%d.many.test', {PORT}, {NAMES})") == str(NAMES)
    *flows, summary = records(report)
    assert summary["allowed"] == NAMES
    assert len({name for flow in flows for name in flow["names"]}) == NAMES  # type: ignore[attr-defined]


@pytest.mark.timeout(600)
def test_a_policy_of_ten_thousand_rules_decides(world: Lab, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    lines = [f'    "tcp://host{number}.test:{PORT}",' for number in range(RULES)]
    lines[RULES // 2] = f'    "tcp://echo.test:{PORT}",'
    policy.write_text("allow = [\n" + "\n".join(lines) + "\n]\n")
    with running(world, tmp_path, "--policy", str(policy)) as (run, report):
        assert run.do(f"sequence('echo.test', {PORT}, 200)") == "200"
    flows = records(report)[:-1]
    assert {(flow["rule"], flow["where"]) for flow in flows} == {
        (f"tcp://echo.test:{PORT}", f"{policy}:{RULES // 2 + 2}:5")
    }


def test_pipes_are_held_only_while_bytes_are_in_them(world: Lab, tmp_path: Path) -> None:
    with running(world, tmp_path, "--allow", f"tcp://echo.test:{PORT}") as (run, _):
        assert run.do(f"bulk('echo.test', {PORT}, 100, 1 << 18)") == "100"
        pipes = [name for name in run.descriptors() if name.startswith("pipe:")]
        assert len(pipes) < 20
