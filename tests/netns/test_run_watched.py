"""A run that is watched: over a real socket, with real flows, from the command line and with Textual's pilot."""

from __future__ import annotations

import json
import os
import pty
import select
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.running import TOWPATH, Runner, python
from tests.support.tunnel_lab import eventually

from towpath.testing import Lab

PROJECT = Path(__file__).resolve().parents[2]
WAITING = "read line; "
CURL = "curl -sS --max-time 60 -o /dev/null -w '%{http_code}\\n'"


@contextmanager
def started(run: Runner, *options: str, command: str) -> Iterator[subprocess.Popen[str]]:
    """A run whose command waits for a line before each thing it does; its first line has been written."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with run.popen(*options, command=f"echo started; {command}", **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process


def go_on(process: subprocess.Popen[str]) -> str:
    """Lets the command do the next thing, and gives the line that it writes."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    return process.stdout.readline()


def listed(world: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(world["client"].run([TOWPATH, "top", "--list", "--json"]).stdout)
    return found


def only_run(world: Lab) -> int:
    """The process id, as the client numbers it, of the one run there. Another test's may not have ended yet."""
    (entry,) = eventually(lambda: found if len(found := listed(world)) == 1 else None)
    return int(entry["pid"])


class Viewer:
    """`towpath top PID --json`, which also asks for rules as the drawn one does."""

    PROGRAM = """
import json, sys, threading
from towpath.live.link import attach
link = attach(int(sys.argv[1]))
link.socket.settimeout(None)
link.send("follow")
print(json.dumps(link.hello), flush=True)
def ask():
    for line in sys.stdin:
        what, _, rule = line.rstrip().partition(" ")
        link.send(what, rule=rule)
threading.Thread(target=ask, daemon=True).start()
for message in link.messages():
    print(json.dumps(message), flush=True)
"""

    def __init__(self, world: Lab, pid: int) -> None:
        command = [sys.executable, "-c", self.PROGRAM, str(pid)]
        pipe = subprocess.PIPE
        self.process: subprocess.Popen[str] = world["client"].popen(command, stdin=pipe, stdout=pipe, text=True)
        self.seen: list[dict[str, Any]] = []
        self.hello = self.until(type="hello")

    def until(self, **wanted: object) -> dict[str, Any]:
        """Reads on to the next message with these fields."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            message: dict[str, Any] = json.loads(line)
            self.seen.append(message)
            if all(message.get(key) == value for key, value in wanted.items()):
                return message
        raise AssertionError(f"the stream ended without {wanted}: {self.seen}")

    def ask(self, what: str, rule: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {rule}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def watching(world: Lab) -> Iterator[Viewer]:
    viewer = Viewer(world, only_run(world))
    try:
        yield viewer
    finally:
        viewer.close()


def test_runs_are_listed_and_gone_when_they_end_or_are_killed(run: Runner, world: Lab) -> None:
    eventually(lambda: listed(world) == [])
    with started(run, "--allow", "web.test:80", command=WAITING) as process:
        (entry,) = listed(world)
        assert (entry["command"][0], entry["default"]) == ("sh", "deny")
        assert entry["rules"] == ["--allow web.test:80"]
        process.kill()
        process.wait()
        assert listed(world) == []


def test_flows_come_as_they_are_opened_decided_and_closed(run: Runner, world: Lab) -> None:
    command = f"{WAITING}{CURL} https://web.test; {WAITING}{CURL} https://tracker.test; {WAITING}exit 3"
    with started(run, "--allow", "web.test:443", command=command) as process, watching(world) as viewer:
        viewer.until(type="traffic")
        assert go_on(process) == "200\n"
        assert viewer.until(type="flow", verdict="looking")["program"] == "curl"
        assert viewer.until(type="flow", verdict="allowed")["name_from"] == "sni"
        closed = viewer.until(type="flow", verdict="allowed")
        assert closed["ended"]
        assert closed["received"] > 100
        assert [name for _, name in closed["ancestors"]] == ["sh"]
        assert go_on(process) == "000\n"
        assert viewer.until(type="dns", verdict="refused")["hint"] == "--allow tracker.test"
        process.communicate("go\n")
        assert viewer.until(type="end")["code"] == 3


def test_a_rule_that_is_added_holds_from_then_on(run: Runner, world: Lab) -> None:
    command = f"while read line; do {CURL} https://tracker.test; done"
    with started(run, "--allow", "web.test:443", command=command) as process, watching(world) as viewer:
        assert go_on(process) == "000\n"
        viewer.ask("allow", "tracker.test:443")
        assert viewer.until(type="answer")["text"] == "allow tracker.test:443"
        assert go_on(process) == "200\n"
        assert viewer.until(type="flow", name_from="sni", verdict="allowed")["where"] == "the live view"
        viewer.ask("deny", "tracker.test")
        assert viewer.until(type="answer")["text"].startswith("deny tracker.test")
        assert go_on(process) == "000\n"


def test_what_is_under_way_ends_when_it_is_denied(run: Runner, world: Lab) -> None:
    command = f"{WAITING}curl -sS -o /dev/null http://web.test/slow?seconds=60 2>/dev/null; echo ended $?"
    with started(run, command=command) as process, watching(world) as viewer:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        flow = viewer.until(type="flow", verdict="allowed")
        while not any(number == flow["id"] for number, *_ in viewer.until(type="traffic")["flows"]):
            pass
        viewer.ask("deny", f"{flow['name']}:80")
        assert "1 flows ended" in viewer.until(type="answer")["text"]
        assert process.stdout.readline() in ("ended 56\n", "ended 52\n")


def test_a_run_without_a_policy_stays_open_when_something_is_allowed(run: Runner, world: Lab) -> None:
    command = f"while read line; do {CURL} https://web.test; done"
    with started(run, command=command) as process, watching(world) as viewer:
        viewer.ask("allow", "tracker.test:443")
        viewer.until(type="answer")
        assert go_on(process) == "200\n"


@pytest.mark.parametrize("line", ["", "allow", "allow x y", "explode", "allow https://x", "\x00", "allow bücher.test"])
def test_what_cannot_be_understood_is_answered_and_changes_nothing(run: Runner, world: Lab, line: str) -> None:
    command = f"while read line; do {CURL} https://tracker.test; done"
    with started(run, "--allow", "web.test:443", command=command) as process, watching(world) as viewer:
        what, _, rule = line.partition(" ")
        viewer.ask(what or "x", rule)
        assert "error" in viewer.until(type="answer")
        assert go_on(process) == "000\n"


def test_the_interrupt_of_a_viewer_reaches_the_command(run: Runner, world: Lab) -> None:
    command = "trap 'echo interrupted; exit 5' INT; while :; do sleep 0.05; done"
    with started(run, command=command) as process, watching(world) as viewer:
        viewer.ask("interrupt")
        assert process.stdout is not None
        assert process.stdout.readline() == "interrupted\n"
        assert viewer.until(type="end")["code"] == 5


PILOT = f"""
import asyncio, sys
sys.path.insert(0, {str(PROJECT)!r})
from towpath.live.app import LiveApp
from towpath.live.link import attach
from textual.widgets import DataTable

async def main():
    app = LiveApp(attach(int(sys.argv[1])))
    async with app.run_test(size=(150, 40)) as pilot:
        async def until(true):
            async with asyncio.timeout(60):
                while not true():
                    await pilot.pause(0.02)
        print("ready", flush=True)
        await until(lambda: any(row.verdict == "refused" for row in app.board.rows.values()))
        app.refresh_board()
        await pilot.press("a", "enter")
        await until(lambda: app.board.last_answer)
        print(app.board.last_answer, flush=True)
        await until(lambda: any(row.verdict == "allowed" and row.closed for row in app.board.rows.values()))
        await pilot.press("q")

asyncio.run(main())
"""


def test_the_drawn_view_allows_with_a_key_what_was_refused(run: Runner, world: Lab) -> None:
    command = f"while read line; do {CURL} https://web.test; done"
    with started(run, "--allow", "tracker.test:443", command=command) as process:
        pilot: subprocess.Popen[str] = world["client"].popen(
            [sys.executable, "-c", PILOT, str(only_run(world))], stdout=subprocess.PIPE, text=True
        )
        with pilot:
            assert pilot.stdout is not None
            assert pilot.stdout.readline() == "ready\n"
            assert go_on(process) == "000\n"
            assert pilot.stdout.readline() == "allow web.test\n"
            assert go_on(process) == "200\n"
            assert pilot.wait(60) == 0


def test_watch_draws_on_the_terminal_that_the_command_does_not_have(world: Lab, tmp_path: Path) -> None:
    out, go = tmp_path / "out", tmp_path / "go"
    curl = "curl -sS -o /dev/null -w %{http_code} http://web.test"
    command = f"{TOWPATH} run --watch --allow web.test:80 -- sh -c '{curl}; while [ ! -e {go} ]; do sleep 0.1; done'"
    ours, theirs = pty.openpty()
    session = "import os, sys, fcntl, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp('sh', "
    session += f"['sh', '-c', {command + f' >{out} 2>&1; echo code $?'!r}])"
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    environment.pop("TMUX", None)
    with world["client"].popen(python(session), stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        drawn = b""
        while b"\ncode " not in drawn:
            assert select.select([ours], [], [], 60)[0], drawn
            try:
                drawn += os.read(ours, 65536)
            except OSError:
                break
            if b"web.test:80" in drawn.partition(b"\x1b[?1049h")[2]:
                go.touch()
        process.wait(60)
    os.close(ours)
    text = drawn.decode("utf-8", "replace")
    assert "\x1b[?1049h" in text, "nothing was drawn"
    assert "| web.test:80 | tcp | allowed |" in text, text[-1500:]
    assert text.rstrip().endswith("code 0")
    assert out.read_text() == "200"


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed (make peers)")
def test_watch_draws_in_a_pane_of_tmux_beside_the_command(world: Lab, tmp_path: Path) -> None:
    client, go = world["client"], tmp_path / "go"
    tmux = ["tmux", "-f", "/dev/null", "-S", str(tmp_path / "tmux")]
    work = f"curl -sS -o /dev/null http://web.test; while [ ! -e {go} ]; do sleep 0.1; done"
    command = shlex.join([TOWPATH, "run", "--watch", "--allow", "web.test:80", "--", "sh", "-c", work])
    with client.popen([*tmux, "new-session", "-d", "-x", "150", "-y", "60", command]) as started:
        assert started.wait(60) == 0
    try:

        def shown() -> str:
            return str(client.run([*tmux, "capture-pane", "-p", "-t", ":.1"]).stdout)

        eventually(lambda: all(words in shown() for words in ("web.test:80", "curl[", "1 allowed")))
    finally:
        go.touch()
        client.run([*tmux, "kill-server"])


def test_watch_without_a_terminal_says_where_it_can_be_watched(run: Runner) -> None:
    done = run("--watch", command="echo done")
    assert (done.code, done.out) == (0, "done\n")
    assert "in another one: towpath top " in done.err


def test_a_viewer_that_reads_nothing_holds_nobody_up(run: Runner, world: Lab) -> None:
    silent = (
        "import sys, time; from towpath.live.link import attach; link = attach(int(sys.argv[1])); link.send('follow')"
    )
    command = f"{WAITING}for i in $(seq 100); do curl -sS -o /dev/null http://web.test/; done; echo all"
    with started(run, "--allow", "web.test:80", command=command) as process:
        viewer = world["client"].popen(
            [sys.executable, "-c", f"{silent}; print('attached', flush=True); time.sleep(600)", str(only_run(world))],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with viewer:
            assert viewer.stdout is not None
            assert viewer.stdout.readline() == "attached\n"
            viewer.send_signal(signal.SIGSTOP)
            assert go_on(process) == "all\n"
            process.communicate("go\n", timeout=120)
            viewer.kill()
