"""Runs a corpus of certificate paths in x509-limbo's JSON form: ``python -m towpath.trust.conformance FILE``.

Each case runs under the profile of its family, with its own kind, depth, time and revocation lists. The families of
the corpus expect different rules, which is why the profiles have names.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from towpath.errors import PeerViolation, TowpathError
from towpath.trust.anchors import Anchors
from towpath.trust.certificate import load
from towpath.trust.evaluation import evaluate
from towpath.trust.evidence import Evidence
from towpath.trust.policy import Policy
from towpath.trust.reference import Reference
from towpath.trust.suffixes import DEBIAN_LIST, PublicSuffixes

__all__ = ["DISAGREEMENTS", "Outcome", "profile", "run", "run_case"]

_COMMON_NAME = (
    "its common name example.com is no alternative name, which BR 7.1.4.3 forbids and which the corpus itself expects "
    "to be refused in webpki::cn::not-in-san; the case is about something else and was made with a default subject"
)
DISAGREEMENTS: dict[str, str] = {
    "webpki::nc::nc-permits-dns-san-pattern": _COMMON_NAME,
    "webpki::san::exact-localhost-ip-san": _COMMON_NAME,
    "webpki::san::leftmost-wildcard-san": _COMMON_NAME,
}
"""Case to the reason why another outcome than the expected is right here."""

_WEB_FAMILIES = {"webpki", "online"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case."""

    id: str
    expected: bool
    accepted: bool
    detail: str

    @property
    def agrees(self) -> bool:
        return self.expected == self.accepted


def profile(case: dict[str, Any], suffixes: PublicSuffixes | None) -> Policy:
    """The policy of a case's family, with its kind and depth."""
    family = str(case["id"]).partition("::")[0]
    policy = replace(Policy.web, public_suffix=suffixes) if family in _WEB_FAMILIES else Policy.rfc5280
    if case["validation_kind"] == "CLIENT":
        policy = policy.for_clients()
    depth = case.get("max_chain_depth")
    return policy if depth is None else replace(policy, max_intermediates=min(depth, 32))


def run_case(case: dict[str, Any], suffixes: PublicSuffixes | None = None) -> Outcome:
    """Runs one case."""
    accepted, detail = _run(case, suffixes)
    return Outcome(case["id"], case["expected_result"] == "SUCCESS", accepted, detail)


def _run(case: dict[str, Any], suffixes: PublicSuffixes | None) -> tuple[bool, str]:
    moment = case.get("validation_time")
    at = datetime.fromisoformat(moment) if moment else datetime.now(UTC)
    chain = [pem.encode() for pem in (case["peer_certificate"], *case["untrusted_intermediates"])]
    anchors = []
    for pem in case["trusted_certs"]:
        try:
            anchors.append(load(pem.encode()))
        except PeerViolation:
            continue
    evidence = Evidence(crls=tuple(crl.encode() for crl in case.get("crls") or ()))
    name = case.get("expected_peer_name")
    references = [name] if name else list(case.get("expected_peer_names") or ()) or [None]
    try:
        for reference in references:
            wanted = Reference.parse(reference["value"]) if reference else None
            result = evaluate(chain, wanted, profile(case, suffixes), at, Anchors(private=anchors), evidence=evidence)
            if result.failure is not None:
                return False, f"{result.failure.id}: {result.failure.observed}"
    except TowpathError as error:
        return False, str(error)
    return True, ""


def run(corpus: Path, suffixes: PublicSuffixes | None) -> Iterator[Outcome]:
    """Every case of a corpus, packed with gzip or not."""
    opened = gzip.open(corpus, "rb") if corpus.suffix == ".gz" else corpus.open("rb")
    with opened as stream:
        document = json.load(stream)
    for case in document["testcases"]:
        yield run_case(case, suffixes)


def main(arguments: list[str] | None = None) -> int:
    """Prints each disagreement with its reason, then the count; 0 when every disagreement has a reason."""
    parser = argparse.ArgumentParser(description="Run a corpus of certificate paths.")
    parser.add_argument("corpus", type=Path, help="cases in x509-limbo's JSON form, also .gz")
    parser.add_argument("--suffixes", type=Path, default=DEBIAN_LIST, help="public suffix list (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="show how each refused case was refused")
    options = parser.parse_args(arguments)
    suffixes = PublicSuffixes.read(options.suffixes) if options.suffixes.exists() else None
    agreed = explained = total = 0
    for outcome in run(options.corpus, suffixes):
        total += 1
        agreed += outcome.agrees
        reason = DISAGREEMENTS.get(outcome.id, "")
        if not outcome.agrees:
            explained += bool(reason)
            said = "accepted" if outcome.accepted else f"refused, {outcome.detail}"
            sys.stdout.write(f"{outcome.id}: {said}\n    {reason or 'NO REASON WRITTEN'}\n")
        elif options.verbose:
            sys.stdout.write(f"{outcome.id}: {outcome.detail or 'accepted'}\n")
    note = "" if suffixes is not None else f" (no public suffix list at {options.suffixes})"
    sys.stdout.write(f"{agreed} of {total} as expected, {explained} explained{note}\n")
    return 0 if agreed + explained == total else 1


if __name__ == "__main__":
    sys.exit(main())
