"""Pins of the policy: they tighten, and never make an unknown anchor trusted."""

from __future__ import annotations

from towpath.trust.policy import Family
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Skipped, Table

TABLE = Table()


@TABLE.rule(
    "policy.pins",
    "the path shows a pinned key",
    level=Level.POLICY,
    families={Family.CORE},
    source="the policy's pins (RFC 7469 §2.4 form)",
    required="a key or certificate that is pinned, in each category that has pins",
    hint="if the server changed its key on purpose, pin the new one as well; otherwise someone sits in between",
)
def pins(context: Context) -> Answer:
    if not context.policy.pins:
        return Skipped("nothing is pinned")
    fault = context.policy.pins.fault(context.path)
    return [Fault(0, fault)] if fault else []
