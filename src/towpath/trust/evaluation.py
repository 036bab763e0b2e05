"""The evaluation: candidate paths, the rule table over each, the first accepted or the best of the refused."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from cryptography import x509

from towpath.errors import Misuse, PeerViolation
from towpath.trust.aia import IssuerFetcher
from towpath.trust.anchors import Anchors
from towpath.trust.certificate import Certificate, load
from towpath.trust.crl import RevocationList
from towpath.trust.evidence import NOTHING, Evidence
from towpath.trust.path import CandidatePath, PathFinder
from towpath.trust.policy import Policy
from towpath.trust.reference import Reference
from towpath.trust.result import Finding, Level, TrustResult, Verdict
from towpath.trust.rules import Context, Rule, rules_for
from towpath.trust.stapling import load_staple

__all__ = ["evaluate"]

MAX_CHAIN = 2_000
MAX_BOUNDARIES = 64
"""Moments that `until()` asks about: each is an evaluation of its own."""
_LEVELS = list(Level)


def evaluate(
    chain: Sequence[bytes | x509.Certificate | Certificate],
    reference: Reference | str | None,
    policy: Policy | None,
    at: datetime,
    anchors: Anchors,
    *,
    evidence: Evidence = NOTHING,
) -> TrustResult:
    """Judges a chain: is it good, for this name, at this time, under this policy; if not, why.

    `chain` is what the peer sent, leaf first; the order of the rest does not matter. `reference` is the name that was
    meant, or `None` to skip the name. `policy` `None` asks for the first two levels alone (`Policy.basic`). `at` needs
    a zone; fractions of a second are dropped (RFC 5280 §4.1.2.5 has whole seconds). Nothing is read from the
    environment, and no network is used unless `evidence.fetch` is given.

    A leaf that is no certificate raises `PeerViolation`; one among the others is left out and named in `ignored`. ::

        evaluate([leaf, intermediate], "www.example.com", Policy.apple, datetime.now(UTC), Anchors.system())
    """
    if not chain:
        raise Misuse("an empty chain cannot be judged")
    if at.tzinfo is None:
        raise Misuse("the time of an evaluation needs a zone, such as datetime.UTC")
    if len(chain) > MAX_CHAIN:
        raise PeerViolation("certificate", f"a chain of {len(chain)}, more than {MAX_CHAIN}")
    leaf = load(chain[0])
    pool, ignored = _pool(chain[1:])
    wanted = Reference.parse(reference) if reference is not None else None
    fetcher = IssuerFetcher(evidence.fetch) if evidence.fetch is not None else None
    return _judge(leaf, pool, ignored, wanted, policy or Policy.basic, at, anchors, evidence, fetcher, {})


def _pool(others: Sequence[bytes | x509.Certificate | Certificate]) -> tuple[list[Certificate], tuple[str, ...]]:
    pool: list[Certificate] = []
    ignored: list[str] = []
    for position, other in enumerate(others, 1):
        try:
            pool.append(load(other))
        except PeerViolation as error:
            ignored.append(f"certificate {position}: {error}")
    return pool, tuple(ignored)


def _judge(
    leaf: Certificate,
    pool: list[Certificate],
    ignored: tuple[str, ...],
    reference: Reference | None,
    policy: Policy,
    at: datetime,
    anchors: Anchors,
    evidence: Evidence,
    fetcher: IssuerFetcher | None,
    links: dict[tuple[bytes, bytes], str],
) -> TrustResult:
    at = at.replace(microsecond=0)
    finder = PathFinder(anchors, pool, at, policy.max_intermediates, fetcher, links=links)
    rules = rules_for(policy.families)
    best: tuple[tuple[int, ...], CandidatePath, list[Finding], bool] | None = None
    tried = 0
    for candidate in finder.paths(leaf):
        tried += 1
        public = candidate.anchored and anchors.is_public(candidate.certificates[-1])
        context = Context(
            candidate, candidate.certificates, candidate.anchored, public, reference, policy, at, evidence, pool
        )
        findings = _run(rules, context)
        rank = _rank(candidate, findings)
        if best is None or rank < best[0]:
            best = rank, candidate, findings, public
        if not any(rank):
            break
    if best is None:
        raise AssertionError("a leaf alone is a candidate")
    rank, candidate, findings, public = best
    if any(rank) and finder.budget.spent:
        findings = [_exhausted(finding, finder.budget.spent) for finding in findings]
    return TrustResult(
        path=candidate.certificates,
        anchored=candidate.anchored,
        findings=tuple(findings),
        at=at,
        policy=policy.name,
        reference=str(reference) if reference is not None else "",
        paths_tried=tried,
        public_anchor=public,
        ignored=ignored,
        _boundaries=lambda: () if finder.budget.spent else _boundaries(at, candidate.certificates, pool, evidence),
        _again=lambda moment: _judge(leaf, pool, ignored, reference, policy, moment, anchors, evidence, fetcher, links),
    )


def _run(rules: tuple[Rule, ...], context: Context) -> list[Finding]:
    return [finding for rule in rules for finding in rule.findings(context)]


def _rank(candidate: CandidatePath, findings: list[Finding]) -> tuple[int, ...]:
    """All zero is accepted; else the path that fails least, the lowest level first, is the one to explain."""
    failed = [0] * len(_LEVELS)
    for finding in findings:
        if finding.verdict is Verdict.FAIL:
            failed[_LEVELS.index(finding.level)] += 1
    return (int(not candidate.anchored), *failed)


def _exhausted(finding: Finding, spent: str) -> Finding:
    if finding.id != "x509.anchor":
        return finding
    return Finding(
        finding.requirement,
        Verdict.FAIL,
        finding.index,
        f"gave up: the budget of {spent} for building paths is spent",
        finding.required,
        "the server must send its own chain only: the leaf and the intermediates that lead to one root",
    )


def _boundaries(
    at: datetime, path: Sequence[Certificate], pool: Sequence[Certificate], evidence: Evidence
) -> tuple[datetime, ...]:
    second = timedelta(seconds=1)
    # Beyond a sane number of certificates only those of the path are asked: a peer must not buy evaluations with them.
    certificates = [*path, *pool] if len(pool) <= MAX_BOUNDARIES // 4 else path
    moments = {certificate.not_before for certificate in certificates}
    for certificate in certificates:
        if certificate.not_after.year < 9999:
            moments.add(certificate.not_after + second)
    if evidence.logs is not None:
        moments.update(evidence.logs.changes())
    moments.update(moment + second for moment in _renewals(evidence))
    return tuple(sorted(moment for moment in moments if moment > at)[:MAX_BOUNDARIES])


def _renewals(evidence: Evidence) -> list[datetime]:
    moments: list[datetime] = []
    for data in evidence.crls:
        try:
            moments.append(RevocationList(data).next_update or datetime.max)
        except PeerViolation:
            continue
    if evidence.staple is not None:
        try:
            due = [single.next_update_utc for single in load_staple(evidence.staple).responses]
        except (PeerViolation, ValueError):
            due = []
        moments.extend(moment for moment in due if moment is not None)
    return [moment for moment in moments if moment.year < 9999]
