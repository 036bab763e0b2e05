"""Candidate paths from a leaf to an anchor, best first, within a budget (RFC 4158 in spirit).

A path is yielded as soon as names and signatures fit; whether it is *good* is for the rules. Every candidate is
tried before a chain is refused, so an expired cross-signature does not hide a good one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from towpath.trust.anchors import Anchors
from towpath.trust.certificate import Certificate, NameKey
from towpath.trust.signatures import issued_fault

__all__ = ["Budget", "CandidatePath", "MissingIssuer", "PathFinder"]

MAX_DEAD_ENDS = 3
"""How many paths that lead nowhere are judged: anyone can send those, and each may cost as much as a good one."""

MissingIssuer = Callable[[Certificate], Iterable[Certificate]]
"""Asked for the issuers of a certificate that nothing at hand issued."""


@dataclass(slots=True)
class Budget:
    """Work left. A 1,000-certificate mesh ends with a verdict when one of them is spent."""

    signatures: int = 400
    steps: int = 4_000
    paths: int = 100
    spent: str = ""

    def take(self, what: str) -> bool:
        """Takes one of `what`; false, and `spent` says which, once there is none."""
        left = getattr(self, what)
        if left <= 0:
            self.spent = what
            return False
        setattr(self, what, left - 1)
        return True


@dataclass(frozen=True, slots=True)
class CandidatePath:
    """Leaf first. `anchored`: the last is an anchor. Otherwise `obstacle` says why it goes no further."""

    certificates: tuple[Certificate, ...]
    anchored: bool
    obstacle: str = ""
    signature_fault: str = ""
    """A certificate of the right name was at hand, but its key did not sign the last of the path."""
    too_deep: bool = False
    """More intermediates than the policy follows."""


@dataclass(slots=True)
class PathFinder:
    """Builds the candidate paths of one evaluation."""

    anchors: Anchors
    pool: Sequence[Certificate]
    at: datetime
    max_intermediates: int
    missing: MissingIssuer | None = None
    budget: Budget = field(default_factory=Budget)
    links: dict[tuple[bytes, bytes], str] = field(default_factory=dict)
    """Which key made which signature, as far as it is known: fingerprint and key hash to the fault, empty for none."""
    _by_subject: dict[NameKey, list[Certificate]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        for certificate in self.pool:
            self._by_subject[certificate.subject_key].append(certificate)

    def paths(self, leaf: Certificate) -> Iterator[CandidatePath]:
        """Every candidate, anchored ones as they are found, dead ends after them, until the budget is spent."""
        dead_ends: list[CandidatePath] = []
        for candidate in self._extend((leaf,)):
            if candidate.anchored:
                yield candidate
            elif len(dead_ends) < 32:
                dead_ends.append(candidate)
            if not self.budget.take("paths") or self.budget.spent:
                break
        # The one that got furthest explains most; a signature that fails explains more than an issuer that lacks.
        dead_ends.sort(key=lambda path: (bool(path.signature_fault), len(path.certificates)), reverse=True)
        yield from dead_ends[:MAX_DEAD_ENDS]

    def _extend(self, path: tuple[Certificate, ...]) -> Iterator[CandidatePath]:
        last = path[-1]
        if last in self.anchors:
            yield CandidatePath(path, anchored=True)
            return
        if not self.budget.take("steps"):
            yield CandidatePath(path, anchored=False, obstacle="the search was given up")
            return
        if sum(not certificate.self_issued for certificate in path[1:]) > self.max_intermediates or len(path) > 40:
            yield CandidatePath(path, anchored=False, too_deep=True)
            return
        if path[1:] and last.self_issued and self._link(last, last) == "":
            yield CandidatePath(path, anchored=False, obstacle="it is self-signed and not among the anchors")
            return
        went_on = False
        fault = ""
        for issuer in self._issuers(last):
            if _repeats(path, issuer):
                continue
            link = self._link(last, issuer)
            if link is None:
                yield CandidatePath(path, anchored=False, obstacle="the search was given up")
                return
            if link:
                fault = fault or f"{link} (with the key of {issuer.label!r}, valid from {issuer.not_before:%Y-%m-%d})"
                continue
            went_on = True
            yield from self._extend((*path, issuer))
        if not went_on:
            yield CandidatePath(path, anchored=False, obstacle=self._obstacle(last), signature_fault=fault)

    def _obstacle(self, last: Certificate) -> str:
        if last.self_issued:
            return "it is self-signed and not among the anchors"
        return f"its issuer {last.issuer_label!r} is neither among the certificates sent nor among the anchors"

    def _issuers(self, child: Certificate) -> list[Certificate]:
        found = dict.fromkeys(self.anchors.with_subject(child.issuer_key), 0)
        found.update((issuer, 1) for issuer in self._by_subject.get(child.issuer_key, ()) if issuer not in found)
        if not found and self.missing is not None and not child.self_issued:
            fetched = [issuer for issuer in self.missing(child) if issuer.subject_key == child.issuer_key]
            found.update((issuer, 1) for issuer in fetched)
        return sorted(found, key=lambda issuer: (self._unlikely(child, issuer), found[issuer]))

    def _unlikely(self, child: Certificate, issuer: Certificate) -> int:
        wanted = child.authority_key_id
        other_key = wanted is not None and issuer.subject_key_id is not None and issuer.subject_key_id != wanted
        out_of_date = not issuer.not_before <= self.at <= issuer.not_after
        return 2 * other_key + (out_of_date or not issuer.is_ca)

    def _link(self, child: Certificate, issuer: Certificate) -> str | None:
        key = child.fingerprint, issuer.spki_hash
        known = self.links.get(key)
        if known is None:
            if not self.budget.take("signatures"):
                return None
            check = self.anchors.issued_fault if issuer in self.anchors else issued_fault
            known = self.links[key] = check(child, issuer)
        return known


def _repeats(path: tuple[Certificate, ...], issuer: Certificate) -> bool:
    """The same certificate again, or the same name with the same key: nothing new can come of it (RFC 4158 §5.2)."""
    return any(known.der == issuer.der for known in path) or any(
        known.spki == issuer.spki and known.subject_der == issuer.subject_der for known in path[1:]
    )
