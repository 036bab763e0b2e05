"""`towpath lab`, as a shell uses it."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.processes import wait_for_end

Towpath = Callable[..., subprocess.CompletedProcess[str]]
_PROGRAM = "import sys; from towpath.cli import main; sys.exit(main())"
_COMMAND = [sys.executable, "-c", _PROGRAM]
_LAB = """\
[hosts.client]
[hosts.news]
serves = [{ kind = "http", names = ["news.test"] }]
"""


@pytest.fixture
def towpath(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Towpath]:
    """Runs `towpath` with a state folder of its own and a folder with the files `one.toml` and `two.toml`."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        Path(f"{name}.toml").write_text(_LAB)

    def run(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*_COMMAND, *words], capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload, no-any-return]

    yield run
    for name in ("one", "two"):
        run("lab", "down", name)


def _state(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "towpath").iterdir())


def test_up_stays_and_down_ends(towpath: Towpath, tmp_path: Path) -> None:
    up = towpath("lab", "up", "one.toml")
    assert (up.returncode, up.stderr) == (0, "")
    assert up.stdout.splitlines()[0] == "lab one is up"
    assert "http:80" in up.stdout
    assert "news.test" in up.stdout
    page = towpath("lab", "exec", "client", "--", "curl", "-sS", "http://news.test/")
    assert "This is news." in page.stdout, page.stderr
    assert towpath("lab", "list").stdout == up.stdout
    assert towpath("lab", "down").returncode == 0
    assert towpath("lab", "list").stdout == ""
    assert _state(tmp_path) == []


def test_json_describes_the_lab(towpath: Towpath) -> None:
    found = json.loads(towpath("lab", "up", "one.toml", "--json").stdout)
    assert found["name"] == "one"
    assert [host["name"] for host in found["hosts"]] == ["client", "news", "dns"]
    assert found["names"]["news.test"] == [found["hosts"][1]["ipv4"], found["hosts"][1]["ipv6"]]
    assert json.loads(towpath("lab", "list", "--json").stdout) == [found]


@pytest.mark.parametrize(
    ("command", "code"),
    [(["true"], 0), (["sh", "-c", "exit 9"], 9), (["no-such-command"], 127), (["/etc/passwd"], 126)],
)
def test_exec_ends_as_the_command_does(towpath: Towpath, command: list[str], code: int) -> None:
    towpath("lab", "up", "one.toml")
    assert towpath("lab", "exec", "client", "--", *command).returncode == code


def test_exec_passes_input_and_output(towpath: Towpath) -> None:
    towpath("lab", "up", "one.toml")
    assert towpath("lab", "exec", "client", "cat", input="words").stdout == "words"


def test_exec_passes_the_terminal(towpath: Towpath) -> None:
    towpath("lab", "up", "one.toml")
    keyboard, terminal = pty.openpty()
    with subprocess.Popen(
        [*_COMMAND, "lab", "exec", "client", "--", "sh", "-c", "tty && echo is-a-terminal"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    ) as process:
        os.close(terminal)
        text = b""
        while b"terminal" not in text and (part := os.read(keyboard, 1000)):
            text += part
        assert process.wait(60) == 0
    os.close(keyboard)
    assert b"is-a-terminal" in text


def test_of_several_labs_one_must_be_named(towpath: Towpath) -> None:
    for name in ("one", "two"):
        assert towpath("lab", "up", f"{name}.toml").returncode == 0
    unclear = towpath("lab", "exec", "client", "--", "true")
    assert unclear.returncode == 125
    assert unclear.stderr.splitlines()[0] == "towpath: several labs are up: one, two"
    assert towpath("lab", "exec", "--lab", "two", "client", "--", "true").returncode == 0
    assert towpath("lab", "down", "one").returncode == 0
    assert towpath("lab", "exec", "client", "--", "true").returncode == 0


def test_a_killed_lab_is_noticed_and_its_socket_removed(towpath: Towpath, tmp_path: Path) -> None:
    process = json.loads(towpath("lab", "up", "one.toml", "--json").stdout)["process"]
    handle = os.pidfd_open(process)
    os.kill(process, signal.SIGKILL)
    assert wait_for_end([handle], 60) == 0
    os.close(handle)
    assert _state(tmp_path) == ["lab-one.sock"]
    assert towpath("lab", "list").stdout == ""
    assert _state(tmp_path) == []
    assert towpath("lab", "up", "one.toml").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_foreground_it_ends_with_a_signal(towpath: Towpath, tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*_COMMAND, "lab", "up", "one.toml", "--foreground"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"lab one is up\n"
        assert towpath("lab", "exec", "client", "--", "true").returncode == 0
        process.send_signal(number)
        assert process.wait(60) == 0
    assert _state(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a = \n", "bad.toml:1:5: invalid value"),
        ("[hosts.x]\ncolour = 3\n", "bad.toml: hosts.x.colour is not known"),
        ('[hosts.x]\non = "mars"\n', "bad: host 'x' is on 'mars', which is no router or switch"),
    ],
)
def test_a_wrong_file_is_one_line_and_perhaps_a_hint(towpath: Towpath, text: str, words: str) -> None:
    Path("bad.toml").write_text(text)
    done = towpath("lab", "up", "bad.toml")
    assert done.returncode == 125
    first, *rest = done.stderr.splitlines()
    assert first == f"towpath: {words}"
    assert all(line.startswith("towpath: hint: ") for line in rest)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["down"], "no lab is up"),
        (["exec", "client", "--", "true"], "no lab is up"),
        (["exec", "--lab", "three", "client", "--", "true"], "no lab called three is up"),
        (["exec", "--lab", "../three", "client", "--", "true"], "lab: '../three' is no name for a lab"),
        (["up", "nowhere.toml"], "nowhere.toml: no such file or directory"),
    ],
)
def test_mistakes_are_told_in_one_line(towpath: Towpath, words: list[str], error: str) -> None:
    done = towpath("lab", *words)
    assert done.returncode == 125
    assert done.stderr.splitlines()[0].startswith(f"towpath: {error}")


def test_a_lab_that_is_up_is_not_started_twice(towpath: Towpath) -> None:
    towpath("lab", "up", "one.toml")
    again = towpath("lab", "up", "one.toml")
    assert again.returncode == 125
    assert "is up already" in again.stderr
    assert towpath("lab", "exec", "client", "--", "true").returncode == 0


def test_a_state_folder_of_others_is_not_used(towpath: Towpath, tmp_path: Path) -> None:
    (tmp_path / "towpath").mkdir(exist_ok=True)
    (tmp_path / "towpath").chmod(0o777)
    done = towpath("lab", "list")
    assert done.returncode == 125
    assert "is not a folder of this user alone" in done.stderr
    (tmp_path / "towpath").chmod(0o700)


_BIND = """
import os, socket, sys
made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
os.makedirs(os.path.dirname(sys.argv[1]), mode=0o700, exist_ok=True)
made.bind(sys.argv[1])
made.listen()
print("bound", flush=True)
while True:
    client, _ = made.accept()
    data = client.recv(1000)
    if data:
        client.send(sys.argv[2].encode())
"""


def test_what_another_namespace_put_there_is_no_lab(towpath: Towpath, tmp_path: Path) -> None:
    words = ["unshare", "--user", "--pid", "--fork", "--kill-child", sys.executable, "-c", _BIND]
    where = tmp_path / "towpath" / "lab-fake.sock"
    with subprocess.Popen([*words, str(where), "{}"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        listed = towpath("lab", "list")
        assert (listed.returncode, listed.stdout) == (0, "")
        entered = towpath("lab", "exec", "--lab", "fake", "client", "--", "true")
        process.kill()
    assert entered.returncode == 125
    assert entered.stderr.startswith(
        f"towpath: what listens at {where} is not of this user and these namespaces: it is not trusted\n"
    )


@pytest.mark.parametrize(
    "answer",
    [
        "{",
        "[]",
        '{"environment": {"A": 1}}',
        '{"name": "x", "process": 1, "hosts": [{}], "names": {}, "ca_file": null}',
    ],
)
def test_an_answer_that_is_none_is_an_error_and_no_traceback(towpath: Towpath, tmp_path: Path, answer: str) -> None:
    where = tmp_path / "towpath" / "lab-odd.sock"
    with subprocess.Popen(
        [sys.executable, "-c", _BIND, str(where), answer], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        listed = towpath("lab", "list")
        entered = towpath("lab", "exec", "--lab", "odd", "client", "--", "true")
        process.kill()
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "", "")
    assert (entered.returncode, entered.stderr) == (
        125,
        f"towpath: what listens at {where} does not answer as a lab does\n",
    )


def test_what_a_lab_tells_steers_no_terminal(towpath: Towpath, tmp_path: Path) -> None:
    host = {"name": "a\x1b[31m", "ipv4": "192.0.2.1", "ipv6": None, "names": ["\x9b2J"], "services": ["x\r"]}
    told = {"name": "odd\x07", "process": 1, "hosts": [host], "names": {}, "ca_file": None}
    where = tmp_path / "towpath" / "lab-odd.sock"
    words = [sys.executable, "-c", _BIND, str(where), json.dumps(told)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        listed = towpath("lab", "list").stdout
        process.kill()
    assert "192.0.2.1" in listed
    assert listed.replace("\n", "").isprintable()
