"""`record` writes down what passes and holds nothing up."""

from __future__ import annotations

import base64
import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from towpath.errors import ConfigInvalid
from towpath.extensions.record import Record
from towpath.providers import Allow, Owner
from towpath.testing import FilterHarness

CONFIG = {"output": "flows.jsonl"}


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "flows.jsonl").read_text().splitlines()]


def test_each_question_is_a_line(tmp_path: Path) -> None:
    with FilterHarness(Record, CONFIG, folder=tmp_path) as harness:
        assert harness.question("news.test", "AAAA", owner=Owner(7, "curl")) == Allow()
    (line,) = lines(tmp_path)
    assert (line["type"], line["name"], line["question"], line["program"]) == ("question", "news.test", "AAAA", "curl")


def test_each_flow_is_a_line_when_it_has_ended(tmp_path: Path) -> None:
    with FilterHarness(Record, CONFIG, folder=tmp_path) as harness:
        owner = Owner(7, "curl", "/usr/bin/curl", ("curl", "http://news.test"))
        flow = harness.flow("tcp", "192.0.2.7", 80, name="news.test", owner=owner)
        flow.send(b"GET /").receive(b"200")
        assert not lines(tmp_path)
        harness.advance(2)
        flow.close()
    (line,) = lines(tmp_path)
    assert {key: line[key] for key in ("type", "remote", "name", "name_from", "program", "sent", "received")} == {
        "type": "flow",
        "remote": "192.0.2.7:80",
        "name": "news.test",
        "name_from": "dns",
        "program": "curl",
        "sent": 5,
        "received": 3,
    }
    assert (line["verdict"], line["seconds"]) == ("allowed", 2.0)
    assert (base64.b64decode(line["outbound"]), base64.b64decode(line["inbound"])) == (b"GET /", b"200")


@pytest.mark.parametrize(("count", "out"), [(0, b""), (3, b"abc"), (256, b"abcdef")])
def test_so_many_bytes_of_each_direction_are_written_and_all_pass(tmp_path: Path, count: int, out: bytes) -> None:
    with FilterHarness(Record, {**CONFIG, "bytes": count}, folder=tmp_path) as harness:
        flow = harness.flow("tcp", "192.0.2.7", 80)
        assert flow.send(b"abcdef").passed_out == b"abcdef"
        assert flow.receive(b"ghijkl").passed_in == b"ghijkl"
        assert flow.allowed
        flow.close()
    assert base64.b64decode(lines(tmp_path)[0]["outbound"]) == out


def test_a_direction_in_which_nothing_came_is_empty(tmp_path: Path) -> None:
    with FilterHarness(Record, CONFIG, folder=tmp_path) as harness:
        harness.flow("udp", "192.0.2.7", 53).send(b"x").close()
        harness.flow("tcp", "192.0.2.7", 80).close("reset")
    assert [(line["outbound"], line["inbound"]) for line in lines(tmp_path)] == [("eA==", ""), ("", "")]


def test_what_is_there_is_kept_and_a_new_file_is_used_when_the_config_changes(tmp_path: Path) -> None:
    (tmp_path / "flows.jsonl").write_text('{"old": 1}\n')
    with FilterHarness(Record, CONFIG, folder=tmp_path) as harness:
        harness.question("a.test")
        harness.change_config({"output": "other.jsonl"})
        harness.question("b.test")
    assert [line.get("name") for line in lines(tmp_path)] == [None, "a.test"]
    assert json.loads((tmp_path / "other.jsonl").read_text())["name"] == "b.test"


def test_a_file_that_cannot_grow_stops_no_traffic_and_is_said_once(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with FilterHarness(Record, CONFIG, folder=tmp_path) as harness:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
            assert [harness.question("a.test"), harness.question("b.test")] == [Allow(), Allow()]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert harness.logs == [("error", f"flows.jsonl: {os.strerror(27)}")]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "missing required field `output`"),
        ({**CONFIG, "bytes": -1}, "bytes: Expected `int` >= 0"),
        ({**CONFIG, "bytes": 65537}, "bytes: Expected `int` <= 65536"),
    ],
)
def test_a_config_that_cannot_be_used_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigInvalid, match=reason):
        FilterHarness(Record, config)
