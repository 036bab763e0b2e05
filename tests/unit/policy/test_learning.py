"""From what was seen to the smallest policy, and back: tried on the same report it changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.cli import main
from towpath.policy.compare import difference, merged, tried
from towpath.policy.learn import Learner
from towpath.policy.policy import Policy


def record(**facts: Any) -> dict[str, Any]:
    """A line of a report."""
    plain = {
        "type": "flow", "id": 1, "program": "curl", "pid": 3, "executable": "/usr/bin/curl", "command": ["curl"],
        "direction": "out", "transport": "tcp", "address": "192.0.2.7", "port": 443, "name": None, "name_from": None,
        "names": [], "verdict": "allowed", "rule": None, "where": None, "reason": "", "hint": None, "sent": 1,
        "received": 1, "seconds": 0.5, "error": None, "question": None,
    }  # fmt: skip
    return plain | facts


@pytest.mark.parametrize(
    ("facts", "rule"),
    [
        ({"name": "a.test", "name_from": "sni", "names": ["a.test"]}, "tls://a.test:443"),
        ({"name": "a.test", "name_from": "sni", "names": ["a.test"], "port": 8443}, "tls://a.test:8443"),
        ({"name": "a.test", "name_from": "host", "names": ["a.test"], "port": 80}, "a.test:80"),
        ({"name": "a.test", "name_from": "host", "names": ["a.test"], "port": 8080}, "http://a.test:8080"),
        ({"name": "a.test", "name_from": "dns", "names": ["a.test"], "port": 22}, "a.test:22"),
        ({"name": "a.test", "name_from": "dns", "names": ["a.test"]}, "tcp://a.test:443"),
        (
            {"name": "a.test", "name_from": "quic sni", "names": ["a.test"], "transport": "udp"},
            "quic://a.test:443",
        ),
        (
            {"name": "a.test", "name_from": "dns", "names": ["a.test"], "transport": "udp", "port": 123},
            "udp://a.test:123",
        ),
        (
            {"name": "a.test", "name_from": "dns", "names": ["a.test"], "transport": "icmp", "port": None},
            "icmp://a.test",
        ),
        ({"name": "b.test", "name_from": "sni", "names": ["a.test"]}, "tls://192.0.2.7:443"),
        ({"port": 22}, "192.0.2.7:22"),
        ({"port": 22, "address": "2001:db8::7"}, "[2001:db8::7]:22"),
        ({"type": "dns", "name": "a.test", "name_from": "question", "address": None, "port": None}, "udp://a.test:53"),
    ],
)
def test_a_rule_is_as_narrow_as_what_was_seen(facts: dict[str, Any], rule: str) -> None:
    learner = Learner()
    learner.record(record(**facts))
    assert learner.rules() == [rule]


@pytest.mark.parametrize(
    "facts",
    [
        {"verdict": "refused"},
        {"direction": "in"},
        {"type": "dns", "name": "7.2.0.192.in-addr.arpa", "address": None, "port": None},
    ],
)
def test_what_was_refused_or_came_in_or_only_names_an_address_teaches_nothing(facts: dict[str, Any]) -> None:
    learner = Learner()
    learner.record(record(**facts))
    assert learner.rules() == []


def test_each_line_says_who_used_it_and_how_often() -> None:
    learner = Learner()
    for program in ("curl", "curl", "evil\n]"):
        learner.record(record(name="a.test", name_from="sni", names=["a.test"], program=program))
    text = learner.text("a run\nof mine")
    assert text == ('# Learnt from a run?of mine\nallow = [\n    "tls://a.test:443",  # curl 2, evil?] 1\n]\n')


def test_names_are_widened_only_when_asked_and_only_below_a_common_parent() -> None:
    learner = Learner()
    names = ["a.cdn.test", "b.cdn.test", "c.cdn.test", "one.test", "two.test", "three.test"]
    for name in names:
        learner.record(record(name=name, name_from="sni", names=[name]))
    assert len(learner.rules()) == 6
    assert learner.rules(wildcards=True) == [
        "tls://*.cdn.test:443", "tls://one.test:443", "tls://three.test:443", "tls://two.test:443",
    ]  # fmt: skip


NAMES = st.sampled_from(["a.test", "b.test", "www.c.test", "xn--nxasmq6b.test"])
RECORDS = st.builds(
    lambda kind, name, port, address: record(
        transport=kind[0], name=name if kind[1] else None, name_from=kind[1], names=[name] if kind[1] else [],
        port=port if kind[0] != "icmp" else None, address=address,
    ),
    st.sampled_from(
        [("tcp", "sni"), ("tcp", "host"), ("tcp", "dns"), ("tcp", None), ("udp", "quic sni"), ("udp", "dns"),
         ("udp", None), ("icmp", "dns"), ("icmp", None)]
    ),
    NAMES,
    st.sampled_from([22, 53, 80, 443, 8080, 65535]),
    st.sampled_from(["192.0.2.7", "203.0.113.9", "2001:db8::7"]),
)  # fmt: skip


@given(st.lists(RECORDS, min_size=1, max_size=12), st.booleans())
def test_a_learnt_policy_changes_nothing_in_what_it_was_learnt_from(records: list[dict[str, Any]], wide: bool) -> None:
    learner = Learner()
    for one in records:
        learner.record(one)
    policy = Policy.load(learner.rules(wildcards=wide), [], [])
    assert list(tried(policy, records)) == []


def test_a_policy_is_tried_on_a_recorded_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, policy = tmp_path / "flows.jsonl", tmp_path / "policy.toml"
    lines = [
        record(name="a.test", name_from="sni", names=["a.test"]),
        record(name="b.test", name_from="sni", names=["b.test"]),
        record(type="dns", name="c.test", address=None, port=None, verdict="refused"),
    ]
    report.write_text("\n".join(map(json.dumps, lines)) + "\n" + '{"type": "summary"}\n')
    policy.write_text('allow = ["a.test:443", "c.test:443"]\n')
    assert main(["policy", "test", str(policy), str(report)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("allowed -> refused: curl -> b.test:443 tcp: ")
    assert said[1].startswith("refused -> allowed: curl -> c.test dns: ")
    policy.write_text('allow = ["a.test:443", "b.test:443"]\n')
    assert main(["policy", "test", str(policy), str(report)]) == 0
    assert main(["policy", "learn", str(report)]) == 0
    assert '"tls://a.test:443"' in capsys.readouterr().out


def test_a_line_that_is_no_record_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "flows.jsonl"
    report.write_text('{"type": "summary"}\n[1]\n')
    assert main(["policy", "learn", str(report)]) == 125
    assert "flows.jsonl:2: not a line of a report" in capsys.readouterr().err


def test_merging_keeps_every_rule_once_and_the_first_match(tmp_path: Path) -> None:
    files = []
    for name, text in (
        ("one", 'allow = ["a.test:443"]\ndeny = ["*.ads.test"]\n'),
        ("two", 'allow = ["a.test:443", "b.test:22"]\n[[rule]]\nallow = []\n'),
    ):
        file = tmp_path / f"{name}.toml"
        file.write_text(text)
        files.append(str(file))
    whole = tmp_path / "whole.toml"
    whole.write_text(merged([(path, Policy.load([], [], [path])) for path in files]))
    policy = Policy.load([], [], [str(whole)])
    assert [rule.text for rule in policy.rules] == ["*.ads.test", "a.test:443", "b.test:22"]
    gone, added = difference(Policy.load([], [], files), policy)
    assert (gone, added) == ([], [])


def test_difference_names_what_only_one_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = tmp_path / "before.toml", tmp_path / "after.toml"
    before.write_text('allow = ["a.test:443", "b.test:22"]\n')
    after.write_text('allow = ["a.test:443"]\ndeny = ["c.test"]\n')
    assert main(["policy", "diff", str(before), str(after)]) == 1
    assert capsys.readouterr().out == "- allow b.test:22\n+ deny  c.test\n"
    assert main(["policy", "diff", str(before), str(before)]) == 0


def test_an_included_file_is_asked_after_the_one_that_includes_it(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text('deny = ["a.test"]\nallow = ["b.test:443"]\n')
    top = tmp_path / "top.toml"
    top.write_text('include = ["base.toml"]\nallow = ["a.test:443"]\n')
    policy = Policy.load([], [], [str(top)])
    assert [rule.text for rule in policy.rules] == ["a.test:443", "a.test", "b.test:443"]
    assert policy.rules[1].where.startswith(str(tmp_path / "base.toml"))


@pytest.mark.parametrize(
    ("text", "where", "reason"),
    [
        ('include = ["nothing.toml"]\n', "top.toml:1:12", "nothing.toml cannot be read"),
        ('include = "base.toml"\n', "top.toml:1:", "include is a list of paths"),
        ('include = ["loop.toml"]\n', "loop.toml:1:12", "includes this file"),
    ],
)
def test_what_cannot_be_included_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, where: str, reason: str
) -> None:
    (tmp_path / "loop.toml").write_text('include = ["top.toml"]\n')
    (tmp_path / "top.toml").write_text(text)
    assert main(["policy", "check", str(tmp_path / "top.toml")]) == 1
    said = capsys.readouterr().err
    assert where in said
    assert reason in said


def test_a_line_of_a_report_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "flows.jsonl"
    facts = {"name": "a.test", "name_from": "sni", "names": ["a.test"], "reason": "because", "id": 7}
    report.write_text(json.dumps(record(**facts)) + "\n" + json.dumps(record(id=8)) + "\n")
    assert main(["explain-flow", str(report), "7"]) == 0
    said = capsys.readouterr().out
    assert "curl (process 3, /usr/bin/curl)" in said
    assert "tcp to a.test at 192.0.2.7 port 443" in said
    assert "the ClientHello asked for that name" in said
    assert "allowed: because" in said
    assert main(["explain-flow", str(report)]) == 0
    assert "no DNS answer of the run gave this address" in capsys.readouterr().out
    assert main(["explain-flow", str(report), "9"]) == 125


_HOSTILE = "x\x1b[2J\nVerdict  refused: \u202e\x9b\ud800"


@pytest.mark.parametrize("field", [name for name in record() if name not in ("type", "id")])
@pytest.mark.parametrize("kind", ["flow", "dns"])
def test_no_field_of_a_report_draws_on_the_terminal_or_forges_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], field: str, kind: str
) -> None:
    """The report may have been written by anybody, and hold anything that is JSON."""
    report, facts = tmp_path / "flows.jsonl", {"name": "a.test", "rule": "a.test", "hint": "none", "error": "reset"}
    for value in (_HOSTILE, [_HOSTILE], {_HOSTILE: _HOSTILE}, 7):
        report.write_text(json.dumps(record(**facts | {"type": kind, field: value})) + "\n")
        assert main(["explain-flow", str(report)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert all(line.isprintable() for line in lines), lines
        assert sum(line.startswith("Verdict") for line in lines) == 1, lines


def test_a_policy_that_is_tried_shows_programs_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, policy = tmp_path / "flows.jsonl", tmp_path / "none.toml"
    report.write_text(json.dumps(record(program=_HOSTILE)) + "\n")
    policy.write_text('allow = ["other.test:443"]\n')
    assert main(["policy", "test", str(policy), str(report)]) == 1
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert said.rstrip("\n").isprintable()


def test_requests_are_learnt_and_tried_one_by_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["GET a.test /x", "POST a.test /y/*", "GET b.test /z"]
    facts = {"name": "a.test", "name_from": "host", "names": ["a.test"], "port": 80, "requests": asked[:1]}
    learner = Learner(requests=True)
    learner.record(record(**facts))
    assert learner.rules() == ["GET http://a.test/x"]
    policy = Policy.load(["GET http://a.test/x"], [], [])
    assert not list(tried(policy, [record(**facts)]))
    (changed,) = tried(policy, [record(**facts | {"requests": asked[:2]})])
    assert "it is for GET, not for POST" in changed.decision.reason
    wide = Learner(requests=True)
    wide.record(record(**facts | {"requests": asked[1:2]}))
    assert wide.rules() == ["a.test:80"]  # no rule can name that path
    report = tmp_path / "flows.jsonl"
    report.write_text(json.dumps(record(**facts)) + "\n")
    assert main(["policy", "learn", "--requests", str(report)]) == 0
    assert '"GET http://a.test/x"' in capsys.readouterr().out
    assert main(["explain-flow", str(report)]) == 0
    assert "Asked    GET a.test /x" in capsys.readouterr().out
