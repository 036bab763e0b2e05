"""Why a destination is refused or allowed: as text, as JSON, and from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from towpath.cli import main
from towpath.errors import ConfigInvalid
from towpath.policy.explain import explain
from towpath.policy.policy import Policy

RULES = Policy.load(["good.test", "*.deep.test:22", "10.0.0.0/8", "udp://dns.test:53", "icmp://*"], ["bad.test"], [])


@pytest.mark.parametrize(
    ("destination", "shown", "verdict", "evidence"),
    [
        ("good.test", "tls://good.test:443", "allow", "sni"),
        ("good.test:80", "http://good.test:80", "allow", "host"),
        ("good.test:22", "tcp://good.test:22", "allow", "name: dns only"),
        ("quic://good.test", "quic://good.test:443", "allow", "quic sni"),
        ("http://good.test:443", "http://good.test:443", "deny", ""),
        ("tcp://good.test:443", "tcp://good.test:443", "deny", ""),
        ("udp://dns.test:53", "udp://dns.test:53", "allow", "name: dns only"),
        ("a.deep.test:22", "tcp://a.deep.test:22", "allow", "name: dns only"),
        ("a.deep.test:23", "tcp://a.deep.test:23", "deny", ""),
        ("bad.test", "tls://bad.test:443", "deny", ""),
        ("other.test", "tls://other.test:443", "deny", ""),
        ("10.1.1.1:22", "tcp://10.1.1.1:22", "allow", "address"),
        ("10.1.1.1", "tls://10.1.1.1:443", "allow", "address"),
        ("[2001:db8::1]:22", "tcp://[2001:db8::1]:22", "deny", ""),
        ("icmp://10.1.1.1", "icmp://10.1.1.1", "allow", ""),
    ],
)
def test_a_destination_is_decided_as_a_run_would(destination: str, shown: str, verdict: str, evidence: str) -> None:
    explanation = explain(RULES, destination)
    assert (explanation.destination, explanation.verdict) == (shown, verdict)
    assert explanation.decision.evidence == evidence


def test_each_rule_is_considered_in_order_until_the_one_that_decides() -> None:
    steps = explain(RULES, "a.deep.test:22").steps
    assert [(step.rule.text, step.outcome) for step in steps] == [
        ("bad.test", "skip"),
        ("good.test", "skip"),
        ("*.deep.test:22", "match"),
    ]
    assert steps[1].why == "its address was resolved for a.deep.test, not for good.test"


def test_a_refusal_by_default_shows_every_rule_and_what_would_allow_it() -> None:
    text = explain(RULES, "a.deep.test:23").as_text()
    assert text.startswith("tcp://a.deep.test:23: refused\n  why:      no rule allows tcp to a.deep.test port 23;")
    for rule in RULES.rules:
        assert rule.shown in text
    assert "the default is deny" in text
    assert text.endswith("to allow: --allow a.deep.test:23")


def test_a_name_that_may_not_be_asked_is_refused_at_the_question() -> None:
    explanation = explain(RULES, "bad.test")
    assert explanation.decision.reason == "--deny bad.test refuses it"
    assert [step.why for step in explanation.steps] == ["refuses the DNS question for it"]


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("*.good.test", "is not one host"),
        ("10.0.0.0/8", "is not one host"),
        ("tcp://good.test", "has no port"),
        ("a b", "no spaces"),
    ],
)
def test_what_is_no_destination_is_said(destination: str, says: str) -> None:
    with pytest.raises(ConfigInvalid, match=says):
        explain(RULES, destination)


def test_explain_exits_by_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "explain", "--allow", "good.test:443", "good.test"]) == 0
    assert "tls://good.test:443: allowed" in capsys.readouterr().out
    assert main(["policy", "explain", "--allow", "good.test:443", "--json", "good.test:22"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["hint"]) == ("deny", "--allow good.test:22")
    assert [rule["text"] for rule in answer["considered"]] == ["good.test:443"]
    assert main(["policy", "explain", "--allow", "a..b", "good.test"]) == 125
    assert "'a..b', column 3" in capsys.readouterr().err


def test_check_prints_each_rule_as_understood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "p.toml"
    path.write_text('deny = ["bad.test"]\n[[rule]]\nallow = ["good.test:443"]\n')
    assert main(["policy", "check", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == str(path)
    assert lines[1].split(maxsplit=2) == ["deny", "bad.test", "everything, bad.test"]
    assert lines[3].split(maxsplit=2) == ["allow", "good.test:443", "tls port 443 and quic port 443, good.test"]
    assert lines[4] == "whatever no rule matches: deny"
    assert main(["policy", "check", "--json", str(path)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [rule["where"] for place in answer["places"] for rule in place["rules"]] == [f"{path}:1:9", f"{path}:3:10"]
    assert (answer["default"], answer["errors"]) == ("deny", [])


def test_check_shows_every_broken_file_and_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text('allow = ["https://x/"]')
    (tmp_path / "b.toml").write_text("deny = 1")
    (tmp_path / "c.toml").write_text('deny = ["c.test"]')
    paths = [str(tmp_path / name) for name in ("a.toml", "b.toml", "c.toml")]
    assert main(["policy", "check", *paths]) == 1
    captured = capsys.readouterr()
    assert "c.test" in captured.out
    assert f"{paths[0]}:1:10: 'https://x/', column 1:" in captured.err
    assert "hint: tls://x for TLS only" in captured.err
    assert f"{paths[1]}:1:1: deny is a list" in captured.err
    assert main(["policy", "check", "--json", *paths]) == 1
    assert [error["where"] for error in json.loads(capsys.readouterr().out)["errors"]] == [
        f"{paths[0]}:1:10",
        f"{paths[1]}:1:1",
    ]


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["policy", "--help"])
    assert "towpath policy explain" in capsys.readouterr().out
