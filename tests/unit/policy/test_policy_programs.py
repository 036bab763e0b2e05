"""Rules narrowed to programs: by executable, parent and command line; asked for only where such a rule may match."""

from __future__ import annotations

from pathlib import Path

import pytest

from towpath.errors import ConfigInvalid
from towpath.policy.compare import merged, tried
from towpath.policy.explain import explain
from towpath.policy.policy import Policy
from towpath.policy.program import Program
from towpath.policy.rule import parse_rule

A = "192.0.2.1"
GIT = Program("git", "/usr/bin/git", ("git", "fetch", "origin"), ("bash", "make"))
SSH = Program("ssh", "/usr/bin/ssh", ("ssh", "git.test"), ("git", "bash"))
NODE = Program("node", "/opt/node/bin/node", ("node", "/usr/bin/npm", "install"), ("bash",))


def verdict(policy: Policy, program: Program | None, port: int = 22) -> str:
    return policy.decide_flow("tcp", A, port, ["git.test"], lambda: program).verdict


@pytest.mark.parametrize(
    ("suffix", "matching"),
    [
        ("by git", {GIT}),
        ("by /usr/bin/git", {GIT}),
        ("by /usr/bin/*", {GIT, SSH}),
        ("by *i*", {GIT}),
        ("under git", {SSH}),
        ("under bash", {GIT, SSH, NODE}),
        ("by ssh under git", {SSH}),
        ("running *npm install", {NODE}),
        ("by node running node */npm *", {NODE}),
        ("by nobody", set()),
        ("by /bin/git", set()),
    ],
)
def test_a_rule_holds_for_its_programs(suffix: str, matching: set[Program]) -> None:
    allowing, denying = Policy.load([f"git.test:22 {suffix}"], [], []), Policy.load([], [f"git.test:22 {suffix}"], [])
    assert {program for program in (GIT, SSH, NODE) if verdict(allowing, program) == "allow"} == matching
    assert {program for program in (GIT, SSH, NODE) if verdict(denying, program) == "deny"} == matching


def test_a_program_that_is_not_known_is_not_allowed_and_is_denied() -> None:
    assert verdict(Policy.load(["git.test:22 by git"], [], []), None) == "deny"
    assert verdict(Policy.load(["git.test:22"], ["git.test:22 by git"], []), None) == "deny"


def test_the_program_is_asked_for_only_where_a_rule_for_programs_may_match() -> None:
    policy = Policy.load(["git.test:22 by git", "web.test:443"], [], [])

    def who() -> Program:
        raise AssertionError("asked")

    assert policy.decide_flow("tcp", A, 443, ["web.test"], who).verdict == "look"
    assert policy.decide_flow("tcp", A, 22, ["web.test"], who).verdict == "deny"
    assert policy.decide_flow("tcp", A, 23, ["git.test"], who).verdict == "deny"
    with pytest.raises(AssertionError, match="asked"):
        policy.decide_flow("tcp", A, 22, ["git.test"], who)


def test_names_may_be_asked_for_by_any_program() -> None:
    policy = Policy.load(["git.test:22 by git"], ["web.test by git"], [])
    assert policy.decide_name("git.test").verdict == "allow"
    assert Policy.load([], ["web.test by git"], []).decide_name("web.test").verdict == "allow"


def test_a_denied_name_of_one_program_does_not_hide_that_of_all() -> None:
    policy = Policy.load(["10.0.0.0/8:443", "192.0.2.0/24:443"], ["tls://a.test by git", "tls://b.test"], [])
    assert policy.decide_flow("tcp", A, 443, [], lambda: NODE).verdict == "look"
    assert policy.decide_seen("tcp", A, 443, [], "tls", "b.test", None, lambda: NODE).verdict == "deny"


def test_tables_of_a_file_are_narrowed_and_survive_a_merge(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('[[rule]]\nprogram = "git"\nparent = "make"\ncommand = "git fetch *"\nallow = ["git.test:22"]\n')
    policy = Policy.load([], [], [str(file)])
    assert [rule.text for rule in policy.rules] == ["git.test:22 by git under make running git fetch *"]
    assert (verdict(policy, GIT), verdict(policy, SSH)) == ("allow", "deny")
    again = tmp_path / "merged.toml"
    again.write_text(merged([(str(file), policy)]))
    assert [rule.by for rule in Policy.load([], [], [str(again)]).rules] == [policy.rules[0].by]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('program = ""', "is a string that is not empty"),
        ("program = 1", "is a string that is not empty"),
        ('parent = "two words"', "a name or a path, without spaces"),
        ('program = "git"\ndeny = ["x.test by ssh"]', "its table does so for all its rules"),
    ],
)
def test_a_mistake_in_a_table_is_shown(tmp_path: Path, table: str, says: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f'[[rule]]\n{table}\nallow = ["git.test:22"]\n')
    with pytest.raises(ConfigInvalid, match=says):
        Policy.load([], [], [str(file)])


def test_something_is_missing_behind_by() -> None:
    with pytest.raises(ConfigInvalid, match="something is missing behind running"):
        parse_rule("git.test:22 running ", "allow", "--allow")


def test_an_explanation_says_whom_a_rule_is_for() -> None:
    policy = Policy.load(["git.test:22 by git"], [], [])
    assert explain(policy, "git.test:22", GIT).verdict == "allow"
    refused = explain(policy, "git.test:22", NODE)
    assert "it is for git, not for /opt/node/bin/node" in refused.as_text()
    unknown = explain(policy, "git.test:22")
    assert (unknown.verdict, "(--program)" in unknown.as_text()) == ("deny", True)


def test_a_recorded_flow_is_tried_with_its_program() -> None:
    record = {
        "type": "flow", "direction": "out", "transport": "tcp", "address": A, "port": 22, "name": "git.test",
        "name_from": "dns", "names": ["git.test"], "verdict": "allowed", "program": "git", "executable": None,
        "command": ["git"], "parents": ["make"],
    }  # fmt: skip
    assert not list(tried(Policy.load(["git.test:22 by git under make"], [], []), [record]))
    assert len(list(tried(Policy.load(["git.test:22 by ssh"], [], []), [record]))) == 1
