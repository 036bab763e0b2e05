"""Filters that die, hang or raise: the failure policy holds, a new worker takes over, decided flows never know."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.filters import Author, said
from tests.support.running import Runner, python
from tests.support.timing import best_of_several, within

KEPT = """
import socket, sys, time, urllib.request
WEB = "http://" + socket.gethostbyname("web.test")
kept = socket.create_connection(("echo.test", 7))
def echo(word):
    kept.sendall(word)
    return kept.recv(100) == word
assert echo(b"before")
def fetch():
    try:
        return urllib.request.urlopen(WEB, timeout=120).status
    except OSError as error:
        return type(getattr(error, "reason", error)).__name__
begun = time.monotonic()
first = fetch()
print("first", first, round(time.monotonic() - begun, 1), flush=True)
print("kept", echo(b"during"))
print("then", fetch())
print("kept", echo(b"after"))
"""
"""Opens one flow that is decided, then one over which the filter fails, then another."""

FAILURES = {
    "killed": "ctypes.CDLL(None).abort()",
    "ended": "os._exit(3)",
    "deadlock": "threading.Lock().acquire() and (lock := threading.Lock()).acquire() and lock.acquire()",
    "slow": "time.sleep(10)",
    "exception": "raise ValueError('boom')",
    "memory": "bytearray(1 << 40)",
    "nothing": "return None",
    "recursion": "f = lambda: f(); f()",
}


def failing_once(author: Author, tmp_path: Path, failure: str) -> str:
    """A filter that fails over the first flow to port 80 that it sees, told by a file of its own writing."""
    config = tmp_path / "mine.toml"
    config.write_text('marks = "marks"\n')
    (tmp_path / "marks").write_text("")
    file = author(
        f"""
        def start(self):
            self.marks = self.context.output(self.config.marks)

        def handle_new_flow(self, flow):
            if flow.remote.port == 80 and not os.pread(self.marks, 1, 0):
                os.write(self.marks, b"x")
                {failure}
            return Allow()
    """,
        head="""
        # /// script
        # [tool.towpath.extension]
        # id = "mine"
        # capabilities = ["content-filter-provider", "output"]
        # ///
        import ctypes
        import msgspec


        class Settings(msgspec.Struct):
            marks: str
    """,
        base="ContentFilterProvider[Settings]",
    )
    return f"{file}:{config}"


@pytest.mark.parametrize("policy", ["block", "pass"])
@pytest.mark.parametrize("failure", FAILURES)
@best_of_several
def test_a_filter_that_fails_over_a_flow_is_replaced_or_overruled_within_five_seconds(
    run: Runner, author: Author, tmp_path: Path, failure: str, policy: str
) -> None:
    mine = failing_once(author, tmp_path, FAILURES[failure])
    done = run("--filter", mine, "--on-failure", policy, command=python(KEPT), timeout=120)
    lines = dict(line.split(None, 1) for line in done.out.splitlines())
    outcome, seconds = lines["first"].split()
    if failure in ("killed", "ended"):
        assert outcome == "200"  # the new worker was asked again
    else:
        assert outcome == ("200" if policy == "pass" else "ConnectionRefusedError")
    within(15, float(seconds))  # five are given to it
    assert lines["then"] == "200"
    assert done.out.count("kept True") == 2
    assert "mine: " in done.err
    if policy == "pass" and failure not in ("killed", "ended"):
        assert any("the filter mine failed, and --on-failure is pass" in str(flow["reason"]) for flow in done.flows)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@best_of_several
def test_a_worker_that_is_killed_or_stopped_under_load_costs_no_decided_flow(
    run: Runner, author: Author, number: int
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Allow()
    """)
    load = """
import socket, threading, time, urllib.request
kept = socket.create_connection(("echo.test", 7))
outcomes, slowest, done = {}, 0, time.monotonic() + 9
def fetch():
    global slowest
    while time.monotonic() < done:
        begun = time.monotonic()
        try:
            outcome = urllib.request.urlopen("http://web.test/", timeout=120).status
        except OSError as error:
            outcome = str(error)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        slowest = max(slowest, time.monotonic() - begun)
threads = [threading.Thread(target=fetch) for _ in range(4)]
for thread in threads: thread.start()
print("loaded", flush=True)
late = 0
while time.monotonic() < done:
    begun = time.monotonic()
    kept.sendall(b"tick")
    assert kept.recv(10) == b"tick"
    late = max(late, time.monotonic() - begun)
    time.sleep(0.02)
for thread in threads: thread.join()
print(outcomes.get(200, 0), len(outcomes), round(slowest, 1), round(late, 1))
print(outcomes)
"""
    with run.popen(
        "--filter", mine, "--on-failure", "pass", command=python(load), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "loaded\n"
        workers = _children(_zygote(process.pid))
        assert len(workers) == 1
        os.kill(int(workers[0]), number)
        out, err = process.communicate(timeout=120)
    successes, kinds, slowest, late = out.splitlines()[0].split()
    assert int(successes) > 20
    assert kinds == "1", out  # every fetch succeeded
    within(15, float(slowest))
    within(4, float(late))  # kept traffic does not wait for the five seconds of the worker
    assert "a new worker takes over" in err


def _children(process: str) -> list[str]:
    return subprocess.run(["pgrep", "-P", process], capture_output=True, text=True).stdout.split()


def _zygote(started: int) -> str:
    """The process that workers come from, of the run that was started as this process or as its child."""
    parents = ",".join([str(started), *_children(str(started))])
    found = subprocess.run(["pgrep", "-x", "towpath-zygote", "-P", parents], capture_output=True, text=True)
    return found.stdout.strip()


def test_five_crashes_within_a_minute_end_in_the_policy_with_a_clear_message(run: Runner, author: Author) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            os._exit(1)
    """)
    command = "for i in 1 2 3 4; do curl -4 -sS -m 60 -o /dev/null -w '%{http_code} ' http://web.test/ 2>&1; done"
    for policy, code in (("block", "000"), ("pass", "200")):
        done = run("--filter", mine, "--on-failure", policy, command=command, timeout=120)
        assert done.out.count(code) == 4
        assert "it failed 5 times within a minute and is not started again" in done.err
        assert f"(--on-failure {policy})" in done.err


def test_a_filter_that_never_stops_does_not_keep_the_run_from_ending(run: Runner, author: Author) -> None:
    mine = author("""
        def stop(self, reason):
            time.sleep(60)
    """)
    begun = time.monotonic()
    assert run("--filter", mine, command=["true"]).code == 0
    assert time.monotonic() - begun < 30  # half of what it sleeps


def test_a_filter_that_takes_too_long_to_start_is_named(run: Runner, author: Author) -> None:
    mine = author("""
        def start(self):
            time.sleep(60)
    """)
    done = run("--filter", mine, command=["true"], timeout=120)
    assert done.code == 125
    assert "starting the filter mine took longer than 10 s" in done.err


@pytest.mark.parametrize(("policy", "code"), [("block", "000"), ("pass", "200")])
def test_when_nothing_can_make_workers_any_more_the_policy_holds_and_says_so(
    run: Runner, author: Author, policy: str, code: str
) -> None:
    mine = author("""
        def start(self):
            say(started=True)

        def handle_new_flow(self, flow):
            return Allow()
    """)
    command = "read x; curl -4 -sS -m 60 -o /dev/null -w '%{http_code}' http://web.test/"
    with run.popen(
        "--filter", mine, "--on-failure", policy, command=command,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert said(process.stderr.readline()) == [{"started": True}]
        os.kill(int(_zygote(process.pid)), signal.SIGKILL)
        out, err = process.communicate("\n", timeout=120)
    assert out == code
    assert "the process that workers come from was killed" in err
    assert f"(--on-failure {policy})" in err


def test_when_the_manager_is_killed_nothing_of_the_filter_is_left(run: Runner, author: Author) -> None:
    mine = author("""
        def start(self):
            say(started=True)
    """)
    with run.popen("--filter", mine, command=["sleep", "60"], stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert said(process.stderr.readline()) == [{"started": True}]
        zygote = _zygote(process.pid)
        (worker,) = _children(zygote)
        process.kill()
        deadline = time.monotonic() + 60
        while any(Path(f"/proc/{pid}").exists() for pid in (zygote, worker)):
            assert time.monotonic() < deadline
