"""The rule table, one family of demands a module, in the order in which failures are told."""

from __future__ import annotations

from functools import cache

from towpath.trust.policy import Family
from towpath.trust.rules import apple, chain, conforming, identity, keys, pinning, revocation, transparency, web
from towpath.trust.rules.table import Context, Rule

__all__ = ["ALL", "Context", "Rule", "rules_for"]

ALL: tuple[Rule, ...] = tuple(
    rule
    for module in (chain, revocation, identity, apple, keys, web, conforming, transparency, pinning)
    for rule in module.TABLE.rules
)
"""Every rule there is."""


@cache
def rules_for(families: frozenset[Family]) -> tuple[Rule, ...]:
    """The rules of any of these families."""
    return tuple(rule for rule in ALL if rule.families & families)
