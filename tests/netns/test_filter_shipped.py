"""The filters that Towpath ships, in a run: `ask` asks a program or the terminal, `record` writes what it saw."""

from __future__ import annotations

import base64
import json
import os
import pty
import sys
import time
from pathlib import Path

import pytest
from tests.support.running import TOWPATH, Runner

ANSWERING = """\
import json, sys
question = json.load(sys.stdin)
with open({log!r}, "a") as log:
    log.write(json.dumps(question) + "\\n")
choice = next(one for one in question["choices"] if {words!r} in one)
print(json.dumps({{"choice": choice}}))
"""


class Person:
    """Somebody who always gives the first answer with these words; `asked` is what they were asked."""

    def __init__(self, folder: Path, words: str) -> None:
        self._log = folder / "asked.jsonl"
        self.program = folder / "answering.py"
        self.program.write_text(ANSWERING.format(log=str(self._log), words=words))
        self.options = ["--filter", "ask", "--ask-with", f"{sys.executable} {self.program}"]

    @property
    def asked(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []


def test_many_flows_to_one_destination_ask_once(run: Runner, tmp_path: Path) -> None:
    person = Person(tmp_path, "allow for this run")
    command = "for i in 1 2 3 4 5 6; do curl -4 -sS -o /dev/null -w '%{http_code}\\n' http://web.test & done; wait"
    done = run(*person.options, command=command)
    assert done.out.split() == ["200"] * 6
    assert len(person.asked) == 1
    assert "web.test:80" in json.dumps(person.asked[0])
    assert "curl" in json.dumps(person.asked[0])


def test_what_a_person_refuses_is_refused_with_that_reason(run: Runner, tmp_path: Path) -> None:
    person = Person(tmp_path, "drop")
    done = run(*person.options, command="curl -4 -sS http://web.test; curl -4 -sS http://web.test")
    assert done.err.count("Couldn't connect") == 2
    assert {flow["verdict"] for flow in done.flows if flow["port"] == 80} == {"refused"}
    assert all("the filter ask: " in flow["reason"] for flow in done.flows if flow["port"] == 80)


def test_a_saved_answer_counts_in_the_next_run(run: Runner, tmp_path: Path) -> None:
    config = tmp_path / "ask.toml"
    config.write_text('remember = "saved"\nsaved = "answers.jsonl"\n')
    person = Person(tmp_path, "save")
    options = ["--filter", f"ask:{config}", *person.options[2:]]
    for _ in range(2):
        assert "This is web." in run(*options, command="curl -4 -sS http://web.test").out
    assert len(person.asked) == 1
    assert json.loads((tmp_path / "answers.jsonl").read_text())["action"] == "allow"


@pytest.mark.parametrize(
    ("program", "reason"),
    [("/bin/false", "wrote no JSON object like"), ("/bin/echo {}", "not offered"), ("/bin/echo []", "not offered")],
)
def test_a_program_that_gives_no_answer_leaves_the_default(run: Runner, program: str, reason: str) -> None:
    done = run("--filter", "ask", "--ask-with", program, command="curl -4 -sS http://web.test")
    assert done.only(port=80)["verdict"] == "refused"
    assert reason in done.err


def test_a_program_that_is_not_there_is_said_before_anything_starts(run: Runner) -> None:
    done = run("--filter", "ask", "--ask-with", "no-such-program", command="echo started")
    assert (done.code, done.out) == (125, "")
    assert "--ask-with: 'no-such-program': no such program" in done.err


def test_without_a_terminal_nobody_can_be_asked(run: Runner) -> None:
    done = run("--filter", "ask", command="curl -4 -sS http://web.test", start_new_session=True)
    assert "there is no terminal to ask at" in done.err
    assert done.only(port=80)["verdict"] == "refused"


def test_a_person_at_the_terminal_is_asked_there(run: Runner) -> None:
    manager, terminal = pty.openpty()
    command = [TOWPATH, "run", "--filter", "ask", "--", "curl", "-4", "-sS", "http://web.test"]
    lead = ["setsid", "--ctty", "--wait", *command]
    with run.host.popen(lead, stdin=terminal, stdout=terminal, stderr=terminal) as process:
        try:
            os.close(terminal)
            seen = _read_until(manager, b"1)")
            assert b"web.test:80" in seen
            os.write(manager, b"1\n")
            assert b"This is web." in _read_until(manager, b"web.")
            assert process.wait(60) == 0
        finally:
            process.kill()
            os.close(manager)


def _read_until(descriptor: int, words: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 60
    while words not in seen:
        assert time.monotonic() < deadline, seen
        seen += os.read(descriptor, 4096)
    return seen


def test_recorded_flows_hold_their_first_bytes_and_how_they_ended(run: Runner, tmp_path: Path) -> None:
    config = tmp_path / "record.toml"
    config.write_text('output = "flows.jsonl"\nbytes = 64\n')
    assert "This is web." in run("--filter", f"record:{config}", command="curl -4 -sS http://web.test").out
    lines = [json.loads(line) for line in (tmp_path / "flows.jsonl").read_text().splitlines()]
    flow = next(line for line in lines if line["type"] == "flow")
    assert base64.b64decode(flow["outbound"]).startswith(b"GET / HTTP/1.1\r\n")
    assert base64.b64decode(flow["inbound"]).startswith(b"HTTP/1.1 200 OK")
    assert flow["name"] == "web.test"
    assert flow["id"] == 1
    assert flow["received"] > 64
    assert any(line.get("name") == "web.test" and line is not flow for line in lines)
