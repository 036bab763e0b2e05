"""Switching a host's filter off and on, and installing over one: everything ends, and nobody loses the network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.filters import Author
from tests.support.host_filters import HostFilterProcess, on_node, until
from tests.support.running import python
from tests.support.timing import best_of_several, within

from towpath.testing import Lab
from towpath.testing.plan import LabPlan, TcpEcho, UdpEcho

CYCLES = int(os.environ.get("TOWPATH_FILTER_CYCLES", "60"))
"""How often the filter is switched off and on: 1000 are the full count."""
SWAPS = int(os.environ.get("TOWPATH_FILTER_SWAPS", "20"))
"""How often new code is taken over: 500 are the full count."""

_CYCLES_PROGRAM = str(Path(__file__).parent.parent / "support" / "host_filter_cycles.py")

TRAFFIC = """
import json, signal, socket, sys, time
stopping = False
def stop(*_):
    global stopping
    stopping = True
signal.signal(signal.SIGTERM, stop)
print("begun", flush=True)
tried = failed = 0
last = time.monotonic()
outage = 0.0
while not stopping:
    tried += 1
    try:
        with socket.create_connection((sys.argv[1], 7), timeout=120) as s:
            s.sendall(b"x")
            assert s.recv(1) == b"x"
        now = time.monotonic()
        outage, last = max(outage, now - last), now
    except OSError:
        failed += 1
    time.sleep(0.002)
print(json.dumps({"tried": tried, "failed": failed, "outage": max(outage, time.monotonic() - last)}), flush=True)
"""


class Traffic:
    """New connections one after the other; `facts` are known at the end: the longest outage in seconds."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.facts: dict[str, float] = {}

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self.facts = json.loads(self._process.communicate()[0].splitlines()[-1])


@contextmanager
def traffic(lab: Lab) -> Iterator[Traffic]:
    with lab["client"].popen(
        [*python(TRAFFIC), lab["web"].address4], stdout=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        running = Traffic(process)
        yield running
        running.end()


@pytest.fixture(scope="module")
def routed() -> Iterator[Lab]:
    plan = (
        LabPlan().router("office").host("client", on="office").host("web", serves=[TcpEcho(port=7), UdpEcho(port=9000)])
    )
    with Lab(plan) as lab:
        yield lab


ALLOWING = """
    def handle_new_flow(self, flow):
        return Allow()
"""
DROPPING = """
    def handle_new_flow(self, flow):
        return Drop("no")
"""
HANGING = """
    def stop(self, reason):
        say(stopped=int(reason))
        threading.Event().wait()

    def handle_new_flow(self, flow):
        return Drop("no")
"""


def reaches(lab: Lab, patience: float = 60) -> bool:
    command = python("import socket, sys; socket.create_connection((sys.argv[1], 7), timeout=float(sys.argv[2]))")
    return lab["client"].run([*command, lab["web"].address4, str(patience)]).returncode == 0


@pytest.mark.timeout(600)
@best_of_several
def test_every_switch_from_any_thread_or_loop_ends_once_and_leaves_nothing(routed: Lab, author: Author) -> None:
    each = -(-CYCLES // 4)
    with traffic(routed) as running:
        program = [sys.executable, "-u", _CYCLES_PROGRAM, str(each), author(ALLOWING)]
        with on_node(routed, "office", program) as cycles:
            out, err = cycles.communicate()
    assert out, err
    facts = json.loads(out)
    longest = facts.pop("longest")
    assert facts == {
        "asked": each * 8, "completed": each * 8, "twice": 0, "descriptors": 0, "processes": 2, "left": 0,
    }  # fmt: skip
    with on_node(routed, "office", ["nft", "list", "ruleset"]) as listing:
        assert listing.communicate()[0] == ""
    assert running.facts["failed"] == 0
    within(5, longest)
    within(5, running.facts["outage"])


@best_of_several
def test_a_provider_that_never_stops_is_killed_and_traffic_passes_at_once(routed: Lab, author: Author) -> None:
    with HostFilterProcess(routed, "office", [author(HANGING)]) as host_filter:
        assert not reaches(routed)
        begun = len(host_filter.pids())
        ordered = time.monotonic()
        number = host_filter.order("disable")
        until(lambda: reaches(routed), "traffic passes")
        passed = time.monotonic() - ordered
        assert host_filter.tables() == ""
        found = host_filter.outcome(number)
        assert found["error"] is None
        assert found["seconds"] > 4  # it is given five
        assert host_filter.said == [{"stopped": 5}]
        until(lambda: len(host_filter.pids()) == begun - 1, "its worker is gone")
        host_filter.do("enable")
        assert not reaches(routed)
    within(found["seconds"] - 1, passed)


@pytest.mark.parametrize(("port", "questions"), [(7, 1), (9000, 2)])
def test_a_flow_that_waits_for_its_verdict_passes_when_the_filter_goes(
    routed: Lab, author: Author, port: int, questions: int
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            say(asked=1)
            return Pause() if flow.remote.port == 7 else Peek(outbound=100)

        def handle_outbound_data(self, flow, offset, data):
            say(asked=2)
            return Pause()
    """)
    program = """
import socket, sys
kind = socket.SOCK_DGRAM if sys.argv[2] == "9000" else socket.SOCK_STREAM
s = socket.socket(socket.AF_INET, kind)
s.settimeout(60)
s.connect((sys.argv[1], int(sys.argv[2])))
s.sendall(b"hello")
print("heard", s.recv(10))
"""
    with HostFilterProcess(routed, "office", [mine]) as host_filter:
        command = [*python(program), routed["web"].address4, str(port)]
        with routed["client"].popen(command, stdout=subprocess.PIPE, text=True) as waiting:
            until(lambda: len(host_filter.said) == questions, "it was asked")
            host_filter.do("disable")
            assert waiting.communicate()[0] == "heard b'hello'\n"


def test_a_flow_decided_before_a_switch_stays_decided_and_new_ones_are_asked(routed: Lab, author: Author) -> None:
    with HostFilterProcess(routed, "office", [author(ALLOWING)]) as host_filter:
        with traffic(routed) as running:
            for _ in range(3):
                host_filter.do("disable")
                host_filter.do("enable")
        assert running.facts["failed"] == 0
        author(DROPPING)
        host_filter.do("disable")
        host_filter.do("enable")
        assert not reaches(routed)


@pytest.mark.parametrize("moment", ["atexit", "in another thread"])
def test_the_end_of_the_interpreter_switches_off(routed: Lab, author: Author, moment: str) -> None:
    program = """
import sys, threading
from towpath.hosting.bundle import find_bundle
from towpath.hosting.host_filter import HostFilter
host_filter = HostFilter([find_bundle(sys.argv[1])], "pass")
host_filter.start().result()
if sys.argv[2] == "atexit":
    import atexit
    atexit.register(lambda: print("ended", host_filter.disable().result(60), flush=True))
else:
    def at_the_end():
        threading.main_thread().join()
        print("ended", host_filter.disable().result(60))
    threading.Thread(target=at_the_end).start()
"""
    command = [sys.executable, "-c", program, author(ALLOWING), moment]
    with on_node(routed, "office", command) as process:
        out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == ("ended None\n", "", 0)
    with on_node(routed, "office", ["nft", "list", "ruleset"]) as listing:
        assert listing.communicate()[0] == ""


def test_a_filter_is_made_before_threads_are(author: Author) -> None:
    program = """
import sys, threading
from towpath.errors import Misuse
from towpath.hosting.bundle import find_bundle
from towpath.hosting.host_filter import HostFilter
done = threading.Event()
thread = threading.Thread(target=done.wait)
thread.start()
try:
    HostFilter([find_bundle(sys.argv[1])], "pass")
except Misuse as error:
    print(error)
done.set()
"""
    done = subprocess.run(
        [sys.executable, "-c", program, author(ALLOWING)], capture_output=True, text=True, timeout=120, check=True
    )
    assert "before this process starts threads" in done.stdout


@pytest.mark.timeout(900)
@best_of_several
def test_installing_over_a_running_filter_interrupts_nobody(routed: Lab, author: Author) -> None:
    with HostFilterProcess(routed, "office", [author(ALLOWING)], "block") as host_filter:
        with traffic(routed) as running:
            for one in range(SWAPS):
                file = author(f"{ALLOWING}\n    def start(self):\n        say(version={one})\n")
                host_filter.do("reload", file=file)
        assert running.facts["failed"] == 0
        assert [one["version"] for one in host_filter.said] == list(range(SWAPS))
        assert len(host_filter.pids()) <= 5  # shadow, itself, zygote, worker, perhaps the one that is leaving
    within(5, running.facts["outage"])


def test_code_that_does_not_start_leaves_the_old_one_serving(routed: Lab, author: Author) -> None:
    mine = author(DROPPING)
    with HostFilterProcess(routed, "office", [mine], "pass") as host_filter:
        author("""
            def start(self):
                raise ValueError("not today")
        """)
        found = host_filter.outcome(host_filter.order("reload", file=mine))
        assert "not today" in found["error"]
        assert not reaches(routed)
