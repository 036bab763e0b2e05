"""Trust: is this certificate good, for this name, on this date, under this policy; if not, exactly why.

::

    from datetime import UTC, datetime
    from towpath.trust import Anchors, Policy, evaluate

    result = evaluate(chain, "www.example.com", Policy.apple, datetime.now(UTC), Anchors.system())
    for failure in result.failures:
        print(failure.id, failure.observed, failure.required, failure.requirement.source, failure.hint)
    print(result.until())
"""

from __future__ import annotations

from towpath.trust.aia import CachedFetch
from towpath.trust.anchors import Anchors
from towpath.trust.certificate import Certificate, load, load_many
from towpath.trust.certificate_policies import PolicyInputs
from towpath.trust.evaluation import evaluate
from towpath.trust.evidence import Evidence, Fetch
from towpath.trust.pins import Pins, spki_pin
from towpath.trust.policy import Family, Policy, Purpose
from towpath.trust.reference import Reference
from towpath.trust.result import Change, Finding, Level, Requirement, TrustRefused, TrustResult, Verdict
from towpath.trust.revocation import RevocationSet
from towpath.trust.transparency import LogList

__all__ = [
    "Anchors",
    "CachedFetch",
    "Certificate",
    "Change",
    "Evidence",
    "Family",
    "Fetch",
    "Finding",
    "Level",
    "LogList",
    "Pins",
    "Policy",
    "PolicyInputs",
    "Purpose",
    "Reference",
    "Requirement",
    "RevocationSet",
    "TrustRefused",
    "TrustResult",
    "Verdict",
    "evaluate",
    "load",
    "load_many",
    "spki_pin",
]
