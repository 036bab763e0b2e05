"""`ask` holds what nobody has decided about, asks once, and remembers for as long as it was told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from towpath.errors import ConfigInvalid
from towpath.extensions.ask import Ask
from towpath.providers import Ancestor, Owner
from towpath.testing import FilterHarness, FlowRun

SAVED = {"remember": "saved", "saved": "answers.jsonl", "ttl": 3600}
CURL = Owner(7, "curl", "/usr/bin/curl", ("curl", "-s", "x"), (Ancestor(6, "make"), Ancestor(5, "bash")))


def opened(harness: FilterHarness[Ask], name: str | None = "news.test", port: int = 443) -> FlowRun:
    return harness.flow("tcp", "192.0.2.7", port, name=name, owner=CURL)


def test_a_flow_waits_until_somebody_answers() -> None:
    with FilterHarness(Ask) as harness:
        flow = opened(harness).send(b"hello")
        harness.advance(59)
        assert (flow.paused, flow.passed_out) == (True, b"")
        harness.reply("allow once")
        assert (flow.allowed, flow.passed_out) == (True, b"hello")


def test_the_prompt_says_who_wants_what() -> None:
    with FilterHarness(Ask) as harness:
        opened(harness)
        harness.flow("udp", "2001:db8::7", 53)
        harness.flow("tcp", "192.0.2.9", 5000, direction="inbound")
        first, second, third = harness.prompts
    assert first.text == "curl wants to reach news.test:443 (tcp)"
    assert first.details == {
        "address": "192.0.2.7:443",
        "name learnt from": "dns",
        "process": "7",
        "command": "curl -s x",
        "started by": "make, bash",
    }
    assert (second.text, second.details) == (
        "A program wants to reach [2001:db8::7]:53 (udp)",
        {"address": "[2001:db8::7]:53"},
    )
    assert third.text == "192.0.2.9:5000 wants to reach A program (tcp port 40003)"


def test_flows_to_one_destination_are_asked_about_once_and_resumed_together() -> None:
    with FilterHarness(Ask) as harness:
        flows = [opened(harness) for _ in range(20)]
        other = opened(harness, port=80)
        assert [prompt.key for prompt in harness.prompts] == ["tcp://news.test:443", "tcp://news.test:80"]
        harness.reply("drop once")
        assert {flow.reason for flow in flows} == {"refused when asked"}
        assert other.paused


@pytest.mark.parametrize(
    ("choice", "dropped", "asked_again"),
    [
        ("allow once", False, True),
        ("drop once", True, True),
        ("allow for this run", False, False),
        ("drop for this run", True, False),
    ],
)
def test_an_answer_counts_once_or_for_the_run(choice: str, dropped: bool, asked_again: bool) -> None:
    with FilterHarness(Ask) as harness:
        first = opened(harness)
        harness.reply(choice)
        second = opened(harness)
        assert first.dropped == dropped
        assert len(harness.prompts) == 1 + asked_again
        assert second.paused == asked_again
        assert second.dropped == (dropped and not asked_again)


@pytest.mark.parametrize(("remember", "offered"), [("once", 2), ("run", 4), ("saved", 6)])
def test_no_more_is_offered_than_may_be_remembered(remember: str, offered: int) -> None:
    with FilterHarness(Ask, {"remember": remember, "saved": "x"}) as harness:
        opened(harness)
        assert len(harness.prompts[0].choices) == offered
        harness.reply("allow and save" if offered < 6 else "anything")
        assert harness.prompts[0].choices[0] == "allow once"


@pytest.mark.parametrize(("default", "dropped"), [("drop", True), ("allow", False)])
@pytest.mark.parametrize("how", ["timeout", "nobody"])
def test_the_default_decides_when_nobody_answers(default: str, dropped: bool, how: str) -> None:
    with FilterHarness(Ask, {"default": default, "timeout": 20}) as harness:
        flow = opened(harness)
        harness.advance(19.9)
        assert flow.paused
        if how == "timeout":
            harness.advance(0.2)
        else:
            harness.reply(None, "there is no terminal")
        assert (flow.paused, flow.dropped) == (False, dropped)
        if dropped:
            expected = "nobody answered within 20 s" if how == "timeout" else "there is no terminal"
            assert flow.reason == expected
        opened(harness)
        assert len(harness.prompts) == 2


def test_saved_answers_outlive_the_run_for_as_long_as_they_count(tmp_path: Path) -> None:
    with FilterHarness(Ask, SAVED, folder=tmp_path) as harness:
        opened(harness)
        harness.reply("drop and save")
        start = harness.now()
    (line,) = (tmp_path / "answers.jsonl").read_text().splitlines()
    assert json.loads(line) == {"rule": "tcp://news.test:443", "action": "drop", "until": start + 3600}
    with FilterHarness(Ask, SAVED, folder=tmp_path) as harness:
        assert opened(harness).reason == "an earlier answer refuses it"
        harness.advance(3601)
        assert opened(harness).paused


def test_the_last_of_several_saved_answers_counts_and_a_broken_line_is_said(tmp_path: Path) -> None:
    rows = [{"rule": "tcp://news.test:443", "action": action, "until": 9e9} for action in ("drop", "allow")]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"rule": 7}\nx\n')
    with FilterHarness(Ask, SAVED, folder=tmp_path) as harness:
        assert opened(harness).allowed
        assert [(line.level, line.text[:16]) for line in harness.logs] == [
            ("warning", "answers.jsonl:3:"),
            ("warning", "answers.jsonl:4:"),
        ]


def test_a_flow_that_gave_up_is_not_resumed() -> None:
    with FilterHarness(Ask) as harness:
        gone, stays = opened(harness), opened(harness)
        gone.close("reset")
        harness.reply("allow for this run")
        assert stays.allowed
        lost = harness.flow("udp", "192.0.2.7", 53)
        harness.advance(11)
        assert lost.dropped
        harness.reply("allow for this run")
        assert harness.flow("udp", "192.0.2.7", 53).allowed


def test_the_file_may_be_named_later() -> None:
    with FilterHarness(Ask) as harness:
        harness.change_config(SAVED)
        opened(harness)
        harness.reply("allow and save")
        assert (harness.folder / "answers.jsonl").read_bytes().count(b"\n") == 1


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"remember": "saved"}, 'saved = "answers.jsonl"'),
        ({"remember": "always"}, "remember: Invalid enum value 'always'"),
        ({"timeout": 0}, "timeout: Expected `float` > 0"),
        ({"ttl": -1}, "ttl: Expected `float` > 0"),
        ({"defualt": "drop"}, "unknown key 'defualt'"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        FilterHarness(Ask, config)
    assert reason in caught.value.reason
