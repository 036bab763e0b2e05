"""Names asked for under a wildcard: how many are many, and that it is said once."""

from __future__ import annotations

import pytest

from towpath.policy.rule import parse_rule
from towpath.sandbox.name_spread import NameSpread


def said_at(rule: str, names: list[str]) -> list[int]:
    """How many names had been asked for each time it spoke."""
    spread, read = NameSpread(), parse_rule(rule, "allow", "--allow")
    return [number for number, name in enumerate(names, 1) if spread.note(read, name)]


@pytest.mark.parametrize(
    ("rule", "names", "said"),
    [
        ("*.cdn.test", [f"edge{number}.cdn.test" for number in range(199)], []),
        ("*.cdn.test", [f"edge{number}.cdn.test" for number in range(1000)], [200]),
        ("*.cdn.test", ["same.cdn.test"] * 1000, []),
        ("*.cdn.test", [f"{number:063x}.{'b' * 63}.cdn.test" for number in range(100)], [33]),
        ("*", [f"host{number}.test" for number in range(300)], [200]),
        ("one.test", ["one.test"] * 300, []),
    ],
    ids=["dozens of hosts", "hundreds", "one again and again", "few but long", "everything allowed", "no wildcard"],
)
def test_many_names_under_a_wildcard_are_said_once(rule: str, names: list[str], said: list[int]) -> None:
    assert said_at(rule, names) == said


def test_what_is_said_names_the_rule_and_what_would_end_it() -> None:
    spread, rule = NameSpread(), parse_rule("*.example.test:443", "allow", "--allow")
    words = next(filter(None, (spread.note(rule, f"{number}.example.test") for number in range(300))))
    assert words.startswith(
        "200 different names (490 bytes of them chosen by the program) were asked for under --allow"
    )
    assert "whoever answers for example.test" in words
    assert "instead of a wildcard" in words
