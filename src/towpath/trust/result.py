"""What an evaluation says: one finding for each rule, the verdict over them, and until when it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from towpath.errors import TowpathError
from towpath.trust.lifetimes import PUBLIC, Limit, refused_when_reissued
from towpath.trust.pins import spki_pin

if TYPE_CHECKING:
    from towpath.trust.certificate import Certificate

__all__ = ["Change", "Finding", "Level", "Requirement", "TrustRefused", "TrustResult", "Verdict"]


class Verdict(StrEnum):
    """What a rule found."""

    PASS = "pass"
    FAIL = "fail"
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"


class Level(StrEnum):
    """The three questions of a trust evaluation, answered one by one."""

    X509 = "basic X.509"
    SERVER = "TLS server"
    POLICY = "policy"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What stays the same about a rule: its name, what it demands and which document says so."""

    id: str
    title: str
    level: Level
    source: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One rule's verdict, over the path or about the certificate at `index` (0 is the leaf)."""

    requirement: Requirement
    verdict: Verdict
    index: int | None = None
    observed: str = ""
    required: str = ""
    hint: str = ""

    @property
    def id(self) -> str:
        return self.requirement.id

    @property
    def level(self) -> Level:
        return self.requirement.level

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "title": self.requirement.title,
            "level": self.level.value,
            "verdict": self.verdict.value,
            "certificate": self.index,
            "observed": self.observed,
            "required": self.required,
            "source": self.requirement.source,
            "hint": self.hint,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """The first moment at which the verdict becomes another, and the rule that makes it so."""

    at: datetime
    accepted: bool
    finding: Finding | None

    def __str__(self) -> str:
        becomes = "accepted" if self.accepted else "refused"
        by = f" by {self.finding.id}: {self.finding.requirement.title}" if self.finding else ""
        return f"{becomes} from {self.at:%Y-%m-%d %H:%M:%S} UTC{by}"


class TrustRefused(TowpathError):
    """A certificate chain was refused. `result` has every finding; the first failure is in the text and the hint."""

    def __init__(self, result: TrustResult) -> None:
        failure = result.failure
        text = "the certificate chain was refused"
        if failure is not None:
            where = f"certificate {failure.index}: " if failure.index is not None else ""
            text = f"{failure.id}: {where}{failure.observed or failure.requirement.title}"
            if failure.required:
                text += f"; required: {failure.required}"
            text += f" ({failure.requirement.source})"
            self.hint = failure.hint or None
        super().__init__(text)
        self.result = result
        self.failure = failure


@dataclass(frozen=True, slots=True)
class TrustResult:
    """The verdict on a chain, with a finding for every rule that the policy knows.

    ::

        result = evaluate(chain, "www.example.com", Policy.apple, now, Anchors.system())
        result.accepted, result.level(Level.SERVER), [finding.hint for finding in result.failures]
        result.raise_if_refused()
    """

    path: tuple[Certificate, ...]
    anchored: bool
    findings: tuple[Finding, ...]
    at: datetime
    policy: str
    reference: str
    paths_tried: int
    public_anchor: bool
    """The anchor comes with the system; rules for public authorities apply."""
    ignored: tuple[str, ...] = ()
    """Why some of the certificates that were sent could not even be read."""
    _boundaries: Callable[[], tuple[datetime, ...]] = field(default=tuple, repr=False, compare=False)
    _again: Callable[[datetime], TrustResult] | None = field(default=None, repr=False, compare=False)

    @property
    def accepted(self) -> bool:
        return all(finding.verdict is not Verdict.FAIL for finding in self.findings)

    @property
    def failures(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.verdict is Verdict.FAIL)

    @property
    def failure(self) -> Finding | None:
        """The failure to tell a user first: the lowest level, then the order of the rule table."""
        return next(iter(self.failures), None)

    def level(self, level: Level) -> Verdict:
        """The verdict of one level: fail if a rule of it failed; not checked without a rule that could be."""
        verdicts = {finding.verdict for finding in self.findings if finding.level is level}
        for verdict in (Verdict.FAIL, Verdict.PASS, Verdict.NOT_CHECKED):
            if verdict in verdicts:
                return verdict
        return Verdict.NOT_APPLICABLE

    def __getitem__(self, rule: str) -> Finding:
        """The first finding of a rule by its id; raises `KeyError` for a rule that this policy does not have."""
        for finding in self.findings:
            if finding.id == rule:
                return finding
        raise KeyError(rule)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def raise_if_refused(self) -> TrustResult:
        """Raises `TrustRefused` unless `accepted`; gives itself otherwise."""
        if not self.accepted:
            raise TrustRefused(self)
        return self

    def until(self) -> Change | None:
        """The first moment after `at` with another verdict, or `None` when none is in sight.

        The same question is asked again at every moment when something of the evidence begins or ends: a
        certificate, a revocation answer, the standing of a log.
        """
        if self._again is None:
            return None
        for moment in self._boundaries():
            later = self._again(moment)
            if later.accepted != self.accepted:
                return Change(moment, later.accepted, _cause(self, later))
        return None

    def renewal_refused_from(self) -> Limit | None:
        """The first published limit by which a certificate of the same lifetime, issued then, would be refused.

        For an accepted chain of a public authority; `None` when none is in sight.
        """
        if not self.accepted or not self.public_anchor:
            return None
        return refused_when_reissued(PUBLIC, self.path[0].lifetime, self.at)

    def unchanged_before(self) -> datetime | None:
        """The next moment at which anything of the path or the evidence begins or ends; `None` without one.

        Until then the same question has the same answer.
        """
        return next(iter(self._boundaries()), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON. Times are RFC 3339 in UTC."""
        until, renewal = self.until(), self.renewal_refused_from()
        return {
            "accepted": self.accepted,
            "reference": self.reference,
            "policy": self.policy,
            "at": self.at.isoformat(),
            "levels": {level.value: self.level(level).value for level in Level},
            "until": None
            if until is None
            else {
                "at": until.at.isoformat(),
                "accepted": until.accepted,
                "rule": until.finding.id if until.finding else None,
            },
            "renewal_refused_from": None
            if renewal is None
            else {"at": renewal.since.isoformat(), "days": renewal.days, "source": renewal.source},
            "anchored": self.anchored,
            "public_anchor": self.public_anchor,
            "paths_tried": self.paths_tried,
            "ignored": list(self.ignored),
            "path": [
                {
                    "subject": certificate.subject.rfc4514_string(),
                    "issuer": certificate.issuer.rfc4514_string(),
                    "serial": f"{certificate.serial:x}",
                    "not_before": certificate.not_before.isoformat(),
                    "not_after": certificate.not_after.isoformat(),
                    "key": certificate.key_name,
                    "signature_hash": certificate.signature_hash,
                    "sha256": certificate.fingerprint.hex(),
                    "pin": spki_pin(certificate),
                }
                for certificate in self.path
            ],
            "findings": [finding.as_dict() for finding in self.findings],
        }


def _cause(before: TrustResult, after: TrustResult) -> Finding | None:
    if not after.accepted:
        return after.failure
    return before.failure
