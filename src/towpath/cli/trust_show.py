"""How `towpath trust` shows a verdict: the chain as a tree, each level, each failure with what would fix it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime

from towpath.trust import lifetimes
from towpath.trust.certificate import Certificate
from towpath.trust.policy import Policy
from towpath.trust.result import Finding, Level, TrustResult, Verdict
from towpath.trust.rules import rules_for

__all__ = ["Paint", "clean", "lines", "rules"]

_MARKS = {Verdict.PASS: "pass", Verdict.FAIL: "FAIL", Verdict.NOT_CHECKED: "not checked", Verdict.NOT_APPLICABLE: "-"}


class Paint:
    """Colours, only on a terminal and unless ``NO_COLOR`` is set."""

    def __init__(self) -> None:
        self._on = sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"

    def _wrap(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._on else text

    def good(self, text: str) -> str:
        return self._wrap("32", text)

    def bad(self, text: str) -> str:
        return self._wrap("1;31", text)

    def dim(self, text: str) -> str:
        return self._wrap("2", text)

    def verdict(self, verdict: Verdict, text: str) -> str:
        if verdict is Verdict.FAIL:
            return self.bad(text)
        return self.good(text) if verdict is Verdict.PASS else self.dim(text)


def clean(text: str) -> str:
    """Text of a certificate without control characters: a name must not steer a terminal."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def lines(title: str, result: TrustResult, paint: Paint, *, every_rule: bool = False) -> Iterable[str]:
    """The report, line by line."""
    word = paint.good("accepted") if result.accepted else paint.bad("refused")
    who = f" as {result.reference}" if result.reference and result.reference not in title else ""
    yield clean(f"{title}{who}: ") + word + f" under {result.policy}, at {_time(result.at)}"
    for index, certificate in enumerate(result.path):
        yield _certificate(index, certificate, result, paint)
    if not result.anchored:
        yield "  " * len(result.path) + "└─ " + paint.bad("no anchor")
    yield "   ".join(
        f"{level.value}: " + paint.verdict(result.level(level), _MARKS[result.level(level)]) for level in Level
    )
    for finding in result.failures:
        yield from _failure(finding, paint)
    unchecked = [finding for finding in result if finding.verdict is Verdict.NOT_CHECKED]
    if every_rule:
        yield from (_rule(finding, paint) for finding in result if finding.verdict is not Verdict.FAIL)
    elif unchecked:
        yield paint.dim("not checked: " + "; ".join(f"{found.id} ({found.observed})" for found in unchecked))
    yield from (paint.dim(clean(f"left out: {reason}")) for reason in result.ignored)
    yield from _outlook(result)


def rules(policy: Policy, *, as_json: bool) -> int:
    """Lists the rules that a policy holds a chain to."""
    found = [(rule.requirement, rule.required) for rule in rules_for(policy.families)]
    if as_json:
        print(json.dumps([{**asdict(requirement), "required": required} for requirement, required in found]))
        return 0
    for level in Level:
        print(f"{level.value}:")
        for requirement, required in found:
            if requirement.level is level:
                print(f"  {requirement.id}: {requirement.title} ({requirement.source})")
                print(f"      {required}")
    return 0


def _certificate(index: int, certificate: Certificate, result: TrustResult, paint: Paint) -> str:
    branch = "" if index == 0 else "  " * index + "└─ "
    failed = any(finding.index == index for finding in result.failures)
    name = clean(certificate.label)
    days = lifetimes.days(certificate.lifetime)
    facts = (
        f"{certificate.key_name}, {certificate.signature_hash}, "
        f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d} ({days} d)"
    )
    if result.anchored and index == len(result.path) - 1:
        facts += ", anchor " + ("of the system" if result.public_anchor else "of your own")
    return f"{branch}{index} {paint.bad(name) if failed else name}  {paint.dim(facts)}"


def _failure(finding: Finding, paint: Paint) -> Iterable[str]:
    where = f" certificate {finding.index}:" if finding.index is not None else ""
    yield paint.bad("FAIL") + clean(f" {finding.id}:{where} {finding.observed or finding.requirement.title}")
    yield clean(f"     required: {finding.required} ({finding.requirement.source})")
    if finding.hint:
        yield clean(f"     hint: {finding.hint}")


def _rule(finding: Finding, paint: Paint) -> str:
    detail = f": {finding.observed}" if finding.observed else ""
    text = clean(f"{_MARKS[finding.verdict]:>11} {finding.id} ({finding.requirement.title}){detail}")
    return paint.verdict(finding.verdict, text)


def _outlook(result: TrustResult) -> Iterable[str]:
    change = result.until()
    if change is not None:
        becomes = "accepted" if change.accepted else "refused"
        reason = f" ({change.finding.id}: {change.finding.observed})" if change.finding else ""
        yield clean(f"{becomes} from {_time(change.at)}{reason}")
    limit = result.renewal_refused_from()
    if limit is not None:
        yield (
            f"renewed with the same lifetime it would be refused from {limit.since:%Y-%m-%d}: "
            f"at most {limit.days} days ({limit.source})"
        )


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
