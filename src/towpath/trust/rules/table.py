"""The rule table: what a rule is, what it is given and how it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from towpath.trust.certificate import Certificate
from towpath.trust.evidence import Evidence
from towpath.trust.path import CandidatePath
from towpath.trust.policy import Family, Policy
from towpath.trust.reference import Reference
from towpath.trust.result import Finding, Level, Requirement, Verdict

__all__ = ["Context", "Fault", "Passed", "Rule", "Skipped", "Table", "Unchecked"]


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule may look at."""

    candidate: CandidatePath
    path: tuple[Certificate, ...]
    """Leaf first; the last is the anchor if `anchored`."""
    anchored: bool
    public: bool
    """The anchor comes with the system."""
    reference: Reference | None
    policy: Policy
    at: datetime
    evidence: Evidence
    pool: Sequence[Certificate] = ()
    """Whatever else the peer sent."""

    @property
    def leaf(self) -> Certificate:
        return self.path[0]

    def issued(self) -> list[tuple[int, Certificate]]:
        """Every certificate that is judged by its issuer's signature: all but the anchor, with its index."""
        count = len(self.path) - 1 if self.anchored and len(self.path) > 1 else len(self.path)
        return list(enumerate(self.path[:count]))

    def issuers(self) -> list[tuple[int, Certificate]]:
        """Every certificate that signed another of the path, anchor included, with its index."""
        return list(enumerate(self.path))[1:]


@dataclass(frozen=True, slots=True)
class Passed:
    """The demand is met."""

    observed: str = ""
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Skipped:
    """The demand does not concern this path."""

    why: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """The demand concerns this path, and what is needed to check it was not given."""

    why: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Fault:
    """The demand is broken by the certificate at `index`."""

    index: int | None
    observed: str
    required: str = ""
    hint: str = ""


Answer = Passed | Skipped | Unchecked | list[Fault]
"""An empty list of faults is a pass."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A demand of one or more families, with the code that checks it."""

    requirement: Requirement
    families: frozenset[Family]
    required: str
    hint: str
    check: Callable[[Context], Answer]

    def findings(self, context: Context) -> list[Finding]:
        """The rule's findings on a path: one, or one for each certificate that breaks it."""
        answer = self.check(context)
        if not answer and isinstance(answer, list):
            return [Finding(self.requirement, Verdict.PASS, None, "", self.required)]
        match answer:
            case Passed(observed, index):
                return [Finding(self.requirement, Verdict.PASS, index, observed, self.required)]
            case Skipped(why):
                return [Finding(self.requirement, Verdict.NOT_APPLICABLE, None, why, self.required)]
            case Unchecked(why, hint):
                return [Finding(self.requirement, Verdict.NOT_CHECKED, None, why, self.required, hint)]
            case faults:
                return [
                    Finding(
                        self.requirement,
                        Verdict.FAIL,
                        fault.index,
                        fault.observed,
                        fault.required or self.required,
                        fault.hint or self.hint,
                    )
                    for fault in faults
                ]


class Table:
    """The rules of one module, in order of declaration."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []

    def rule(
        self, id: str, title: str, *, level: Level, families: set[Family], source: str, required: str, hint: str
    ) -> Callable[[Callable[[Context], Answer]], Callable[[Context], Answer]]:
        """Enters a check into the table."""

        def enter(check: Callable[[Context], Answer]) -> Callable[[Context], Answer]:
            self.rules.append(Rule(Requirement(id, title, level, source), frozenset(families), required, hint, check))
            return check

        return enter
