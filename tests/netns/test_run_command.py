"""A command in a run is the same command: its streams, code, signals, folder, files and environment."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from pathlib import Path

import pytest
from tests.support.running import TOWPATH, Runner, python


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["false"], 1),
        (["sh", "-c", "exit 42"], 42),
        (["no-such-command"], 127),
        (["/no/such/file"], 127),
        (["/etc/passwd"], 126),
        (["/tmp"], 126),
    ],
)
def test_the_exit_code_is_what_a_shell_would_give(run: Runner, command: list[str], code: int) -> None:
    assert run(command=command).code == code


def test_a_command_that_cannot_be_executed_is_named_in_one_line(run: Runner) -> None:
    assert run(command=["no-such-command"]).err == "towpath: no-such-command: command not found\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGUSR1])
def test_killed_by_a_signal_towpath_ends_by_it(run: Runner, number: signal.Signals) -> None:
    assert run(command=f"kill -{int(number)} $$").code == -number


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--allow", "https://x/"], "--allow"),
        (["--policy", "/no/such.toml"], "/no/such.toml"),
        (["--keep-fd", "77"], "descriptor 77 is not open"),
        (["--allow-unix", "/no/such/socket"], "/no/such/socket does not exist"),
        (["--publish", "eighty"], "[HOSTPORT:]PORT"),
        (["--env", "NOVALUE"], "NAME=VALUE"),
        (["--report-file", "/no/such/folder/report"], "No such file"),
        (["--allow-local", "70000"], "not a port"),
    ],
)
def test_an_unusable_option_is_125_and_nothing_is_started(run: Runner, options: list[str], message: str) -> None:
    done = run.host.run([TOWPATH, "run", *options, "--", "touch", "/tmp/towpath-must-not-exist"])
    assert done.returncode == 125
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path("/tmp/towpath-must-not-exist").exists()


def test_streams_pass_through_and_output_ends_when_the_command_closes_it(run: Runner) -> None:
    done = run(command="cat; echo to-stderr >&2", input="one\ntwo\n")
    assert done.out == "one\ntwo\n"
    assert done.err == "to-stderr\n"
    with run.popen(command="exec >&-; read forever", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read() == "", "nobody but the command holds its output open"
        process.stdin.close()


def test_folder_environment_and_files_are_the_callers(run: Runner, tmp_path: Path) -> None:
    done = run("--env", "ADDED=yes", command='pwd; echo "$HOME $ADDED"; touch made', cwd=tmp_path, env={"HOME": "/h"})
    assert done.out == f"{tmp_path}\n/h yes\n"
    assert (tmp_path / "made").stat().st_uid == os.getuid()


def test_the_environment_tells_the_policy(run: Runner) -> None:
    done = run("--allow", "web.test:80", "--deny", "tracker.test", command='echo "$TOWPATH_POLICY"')
    assert done.out == "deny tracker.test; allow web.test:80; default deny\n"
    assert run(command='echo "$TOWPATH_POLICY"').out == "default allow\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_to_towpath_reaches_the_command(run: Runner, number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 7' {int(number)}; echo ready; while :; do sleep 0.05; done"
    with run.popen(command=script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "got\n"
        assert process.wait(60) == 7


def test_processes_left_behind_end_with_the_command(run: Runner) -> None:
    marker = f"sleep 9{os.getpid()}"
    assert run(command=f"setsid {marker} & sleep 0.05").code == 0
    assert marker not in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


class Terminal:
    """A shell on a terminal of its own. It needs no network, so it runs beside the Lab: session and all."""

    def __init__(self, script: str = "") -> None:
        self.master, slave = pty.openpty()
        take = "import fcntl,os,sys,termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execvp(sys.argv[1], sys.argv[1:])"
        shell = script.split() or ["bash", "--norc", "--noprofile", "-i"]
        self.process = subprocess.Popen(
            [*python(take), *shell],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(slave)
        self.seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.master)
        self.process.kill()
        self.process.wait()

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def wait_for(self, text: str, timeout: float = 60) -> None:
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], timeout)
            assert ready, f"{text!r} did not come: {self.seen!r}"
            self.seen += os.read(self.master, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]


def _await_child(terminal: Terminal, command: str) -> None:
    """Waits until a process of the terminal's session runs `command`: ^Z typed before that is the shell's to ignore."""
    while True:
        session = ["ps", "-o", "args=", "--sid", str(terminal.process.pid)]
        if command in subprocess.run(session, capture_output=True, text=True).stdout.splitlines():
            return


def test_control_c_ends_the_command_and_the_shell_goes_on() -> None:
    with Terminal() as terminal:
        terminal.type("PS1='pro''mpt> '\n")
        terminal.wait_for("prompt> ")
        terminal.type(f"{TOWPATH} run -- sh -c 'echo begun; exec sleep 60'\n")
        terminal.wait_for("\nbegun")
        terminal.type("\x03")
        terminal.wait_for("prompt> ")
        terminal.type("echo code=$?\n")
        terminal.wait_for("code=130")
        terminal.type("exit\n")
        assert terminal.process.wait(60) == 0


def test_control_z_stops_it_and_fg_continues_it() -> None:
    with Terminal() as terminal:
        terminal.type("PS1='pro''mpt> '\n")
        terminal.wait_for("prompt> ")
        terminal.type(f"{TOWPATH} run -- sh -c 'echo begun; read line; echo line=$line'\n")
        terminal.wait_for("\nbegun")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("prompt> ")
        terminal.type("fg\n")
        terminal.wait_for("towpath run")
        terminal.type("hello\n")
        terminal.wait_for("line=hello")
        terminal.wait_for("prompt> ")
        terminal.type("exit\n")
        assert terminal.process.wait(60) == 0


def test_a_shell_inside_has_job_control() -> None:
    with Terminal(f"{TOWPATH} run -- bash --norc --noprofile -i") as terminal:
        terminal.type("PS1='in''ner> '\n")
        terminal.wait_for("inner> ")
        terminal.type("sleep 60\n")
        terminal.wait_for("sleep 60")
        _await_child(terminal, "sleep 60")
        terminal.type("\x1a")
        terminal.wait_for("Stopped")
        terminal.wait_for("inner> ")
        terminal.type("kill -KILL %1\nexit 9\nexit 9\n")
        assert terminal.process.wait(60) == 9, terminal.seen


def test_a_command_stopped_alone_stops_towpath_too() -> None:
    command = [TOWPATH, "run", "--", "sh", "-c", "echo ready; kill -STOP $$; echo on"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            _, status = os.waitpid(process.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            os.killpg(process.pid, signal.SIGCONT)
            assert process.stdout.readline() == "on\n"
        finally:
            process.kill()
