"""New code for a filter while it serves: the old one answers until the new one has started, and no flow is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from tests.support.filters import Author, said
from tests.support.running import Runner, python
from tests.support.timing import best_of_several, within

VERSION = """
    def start(self):
        say(version={0})

    def handle_new_flow(self, flow):
        return Drop("version {0}") if flow.remote.port == 8080 and {0} % 2 else Allow()
"""

TRAFFIC = """
import http.client, socket, sys, threading, time
stop, failed, longest, done = threading.Event(), [], [0.0], [0, 0, 0]
def measured(kind, work):
    while not stop.is_set():
        begun = time.monotonic()
        try:
            work()
        except Exception as error:
            failed.append((kind, repr(error)))
        longest[0] = max(longest[0], time.monotonic() - begun)
        done[kind] += 1
        time.sleep(0.002)
kept = http.client.HTTPConnection("web.test", timeout=120)
def keep_alive():
    kept.request("GET", "/")
    assert kept.getresponse().read()
def new_connection():
    with socket.create_connection(("echo.test", 7), 60) as s:
        s.sendall(b"x")
        assert s.recv(1) == b"x"
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(60)
        s.connect((socket.gethostbyname("time.test"), 9000))
        s.send(b"x")
        assert s.recv(1) == b"x"
threads = [threading.Thread(target=measured, args=(kind, work)) for kind, work in
           enumerate((keep_alive, new_connection, datagram))]
for thread in threads: thread.start()
print("ready", flush=True)
sys.stdin.readline()
stop.set()
for thread in threads: thread.join()
print(done, failed[:5], longest[0])
"""


def _until(lines: list[str], count: int, text: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while sum(text in line for line in lines) < count:
        assert time.monotonic() < deadline, lines[-5:]
        time.sleep(0.005)  # the event is a line that another thread reads


@pytest.mark.parametrize("swaps", [int(os.environ.get("TOWPATH_SWAPS", "60"))])
@best_of_several
def test_swapping_code_under_traffic_fails_and_delays_nothing(run: Runner, author: Author, swaps: int) -> None:
    mine = author(VERSION.format(0))
    lines: list[str] = []
    with run.popen(
        "--filter", mine, "--reload", command=python(TRAFFIC),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        errors = process.stderr
        reader = threading.Thread(target=lambda: lines.extend(iter(errors.readline, "")), daemon=True)
        reader.start()
        assert process.stdout.readline() == "ready\n"
        for version in range(1, swaps + 1):
            author(VERSION.format(version))
            _until(lines, version + 1, "said {")
        process.stdin.write("\n")
        process.stdin.flush()
        done = process.stdout.readline()
        process.wait(60)
        reader.join(60)
    assert [one["version"] for one in said("".join(lines))] == list(range(swaps + 1))
    counts, _, rest = done.partition("]")
    failed, longest = rest.split()
    assert failed == "[]", done
    assert all(int(count) > 20 for count in counts.strip("[").split(","))
    assert not [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
    within(4, float(longest))  # a question that were lost would wait for five


def test_new_code_decides_from_the_next_flow_on_and_old_flows_stay(run: Runner, author: Author) -> None:
    mine = author(VERSION.format(0))
    program = """
import socket, sys
kept = socket.create_connection(("web.test", 8080))
print("kept", flush=True)
sys.stdin.readline()
for family in (socket.AF_INET,):
    try:
        s = socket.socket(family)
        s.connect((socket.gethostbyname("web.test"), 8080))
        print("open")
    except OSError as error:
        print(type(error).__name__)
kept.sendall(b"GET / HTTP/1.1\\r\\nHost: web.test\\r\\n\\r\\n")
print(kept.recv(15))
"""
    with run.popen(
        "--filter", mine, "--reload", command=python(program),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "kept\n"
        assert said(process.stderr.readline()) == [{"version": 0}]
        author(VERSION.format(1))
        assert said(process.stderr.readline()) == [{"version": 1}]
        assert "mine: the new code has taken over" in process.stderr.readline()
        out, err = process.communicate("\n", timeout=120)
    assert out.splitlines() == ["ConnectionRefusedError", "b'HTTP/1.1 200 OK'"]
    assert "the filter mine: version 1" in err


def test_code_that_cannot_be_used_leaves_the_old_in_force(run: Runner, author: Author, tmp_path: Path) -> None:
    mine = author(VERSION.format(1))
    with run.popen(
        "--filter", mine, "--reload", command="read x; curl -4 -sS http://web.test:8080/; true",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert said(process.stderr.readline()) == [{"version": 1}]
        (tmp_path / "mine.py").write_text("import nothing_such\n")
        line = process.stderr.readline()
        assert "the new code was not taken over, the old stays" in line
        assert "mine.py:1" in line
        _, err = process.communicate("\n", timeout=120)
    assert "the filter mine: version 1" in err


def test_a_hang_up_that_somebody_sends_loads_the_code_again(run: Runner, author: Author) -> None:
    mine = author("""
        def start(self):
            say(started=True)

        def stop(self, reason):
            say(reason=int(reason))
    """)
    with run.popen(
        "--filter", mine, "--reload", command=["sleep", "30"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        assert said(process.stderr.readline()) == [{"started": True}]
        manager = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout
        os.kill(int(manager), signal.SIGHUP)
        assert said(process.stderr.readline()) == [{"started": True}]
        assert "mine: the new code has taken over" in process.stderr.readline()
        assert said(process.stderr.readline()) == [{"reason": 16}]
        assert process.poll() is None


def test_a_changed_config_reaches_the_same_instance(run: Runner, author: Author, tmp_path: Path) -> None:
    mine = author(
        """
        def start(self):
            self.count = 0

        def rules_changed(self):
            self.count += 1
            say(word=self.config.word, count=self.count)
    """,
        head="""
        import msgspec


        class Settings(msgspec.Struct):
            word: str
    """,
        base="ContentFilterProvider[Settings]",
    )
    config = tmp_path / "mine.toml"
    config.write_text('word = "one"\n')
    with run.popen(
        "--filter", f"{mine}:{config}", "--reload", command="echo up; sleep 30",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        config.write_text('word = "two"\n')
        assert said(process.stderr.readline()) == [{"word": "two", "count": 1}]
        config.write_text("word = 3\n")
        assert "the old configuration stays" in process.stderr.readline()
        config.write_text('word = "four"\n')
        assert said(process.stderr.readline()) == [{"word": "four", "count": 2}]
