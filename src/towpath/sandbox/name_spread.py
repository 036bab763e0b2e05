"""How many different names are asked for under a rule with a wildcard: the names themselves can carry data out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towpath.policy.host import ANY, SUFFIX

if TYPE_CHECKING:
    from towpath.policy.rule import Rule

__all__ = ["NameSpread"]

_MANY_NAMES = 200
_MANY_BYTES = 4096
"""Of the labels that a wildcard stands for, in all. Sites with hosts by the dozen stay far below either."""


class NameSpread:
    """Says once for each rule that many names were asked for under it. It refuses nothing.

    >>> from towpath.policy.rule import parse_rule
    >>> spread, rule = NameSpread(), parse_rule("*.example.test:443", "allow", "--allow")
    >>> [bool(spread.note(rule, f"data{number}.example.test")) for number in range(201)].index(True)
    199
    """

    def __init__(self) -> None:
        self._seen: dict[Rule, set[int]] = {}
        self._bytes: dict[Rule, int] = {}
        self._said: set[Rule] = set()

    def note(self, rule: Rule, name: str) -> str | None:
        """The sentence for a name that made them many, and `None` for all others."""
        if rule.host.kind not in (SUFFIX, ANY) or rule in self._said:
            return None
        seen = self._seen.setdefault(rule, set())
        mark = hash(name)
        if mark in seen:
            return None
        seen.add(mark)
        suffix = rule.host.text.removeprefix("*")
        carried = self._bytes[rule] = self._bytes.get(rule, 0) + len(name) - len(suffix)
        if len(seen) < _MANY_NAMES and carried < _MANY_BYTES:
            return None
        self._said.add(rule)
        return (
            f"{len(seen)} different names ({carried} bytes of them chosen by the program) were asked for under "
            f"{rule.shown}: whoever answers for {suffix.lstrip('.') or 'them'} can read data from names; to end it, "
            "allow the names that are needed instead of a wildcard"
        )
