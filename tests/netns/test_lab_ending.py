"""However a Lab ends, nothing of it stays: no process, namespace, link, mount or file."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.processes import descendants, wait_for_end

from towpath.testing import Https, Lab, LabPlan, TcpEcho

PLAN = LabPlan().host("client").host("news", delay=0.001, serves=[Https(), TcpEcho()])
_OWNER = """
import subprocess, sys
from towpath.testing import Https, LabPlan, TcpEcho
lab = LabPlan().host("client").host("news", delay=0.001, serves=[Https(), TcpEcho()]).start()
command = lab["client"].popen(["sh", "-c", "setsid sleep 1000 & echo ready; wait"], stdout=subprocess.PIPE)
command.stdout.readline()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that owns a Lab in which a command runs; all its folders for passing things are in `tmp_path`."""
    places = dict.fromkeys(("TMPDIR", "XDG_RUNTIME_DIR", "HOME"), str(tmp_path))
    with subprocess.Popen(
        [sys.executable, "-B", "-c", _OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=os.environ | places,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def _everything() -> tuple[list[str], str]:
    """The links and mounts of the machine's own namespaces."""
    return sorted(name for _, name in socket.if_nameindex()), Path("/proc/self/mountinfo").read_text()


def _living_in(namespaces: set[str]) -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if namespaces & {os.readlink(entry) for entry in (process / "ns").iterdir()}:
                found.add(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("victim", ["owner", "first process"])
def test_nothing_is_left_when_it_is_killed(owner: subprocess.Popen[str], victim: str, tmp_path: Path) -> None:
    links, mounts = _everything()
    members = descendants(owner.pid)
    own = _namespaces_of(os.getpid())
    made = set().union(*members.values()) - own
    assert len(members) >= 7  # keeper, three nodes, a relay, the shadow and the command under it
    assert {name.partition(":")[0] for name in made} >= {"net", "mnt", "user", "pid"}
    assert _living_in(made) <= members.keys()  # so the namespaces go with them; their numbers are soon another's
    handles = [os.pidfd_open(member) for member in members]
    keeper = min(members)
    os.kill(owner.pid if victim == "owner" else keeper, signal.SIGKILL)
    assert wait_for_end(handles, 60) == 0
    if victim == "owner":
        owner.wait()
    assert _everything() == (links, mounts)
    assert list(tmp_path.iterdir()) == []
    for handle in handles:
        os.close(handle)


def _namespaces_of(process: int) -> set[str]:
    return {os.readlink(entry) for entry in Path(f"/proc/{process}/ns").iterdir()}


def test_close_leaves_nothing() -> None:
    before, children, descriptors = _everything(), descendants(os.getpid()), os.listdir("/proc/self/fd")
    lab = PLAN.start()
    members = descendants(os.getpid()).keys() - children.keys()
    handles = [os.pidfd_open(member) for member in members]
    lab.close()
    assert wait_for_end(handles, 60) == 0
    for handle in handles:
        os.close(handle)
    lab.close()
    assert _everything() == before
    assert os.listdir("/proc/self/fd") == descriptors


def test_commands_end_with_the_lab() -> None:
    with PLAN.start() as lab:
        command = lab["client"].popen(["sleep", "1000"])
    assert command.wait(60) == -signal.SIGKILL


def test_a_lab_outlives_the_thread_that_started_it() -> None:
    started: list[Lab] = []
    thread = threading.Thread(target=lambda: started.append(PLAN.start()))
    thread.start()
    thread.join()
    with started[0] as lab:
        assert lab["client"].run(["true"]).returncode == 0


def test_a_start_that_fails_leaves_nothing() -> None:
    children, descriptors = descendants(os.getpid()), os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="Address already in use"):
        LabPlan().host("news", serves=[TcpEcho(), TcpEcho()]).start()
    assert descendants(os.getpid()).keys() == children.keys()
    assert os.listdir("/proc/self/fd") == descriptors
