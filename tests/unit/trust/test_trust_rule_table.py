"""Every rule refuses what it is there to refuse, says so first, and says what would fix it."""

from __future__ import annotations

import pytest

from towpath.testing.pki import Pki
from towpath.testing.pki_broken import BROKEN
from towpath.trust import Anchors, Evidence, Policy, Verdict, evaluate
from towpath.trust.rules import ALL

HOST = "www.example.com"
TESTED_ELSEWHERE = {
    "x509.revoked-here": "test_trust_revocation",
    "x509.staple": "test_trust_revocation",
    "apple.transparency": "test_trust_transparency",
    "policy.pins": "test_trust_anchors_and_pins",
    "web.wildcards": "test_trust_names",
    "web.revocation-pointer": "test_trust_lifetimes",
}


@pytest.mark.parametrize("policy", ["basic", "rfc5280", "web", "apple"])
def test_the_good_certificate_is_accepted_by_every_policy(pki: Pki, anchors: Anchors, policy: str) -> None:
    result = evaluate(pki.good().chain, HOST, Policy.named(policy), pki.at, anchors)
    assert result.accepted, result.failures
    assert [certificate.label for certificate in result.path][1:] == ["Towpath test intermediate", "Towpath test root"]


@pytest.mark.parametrize("name", list(BROKEN))
def test_a_broken_certificate_fails_its_rule_first_with_a_hint(pki: Pki, name: str) -> None:
    broken = pki.broken(name)
    result = evaluate(
        broken.identity.chain,
        broken.reference,
        Policy.named(broken.policy),
        pki.at,
        Anchors.of(broken.anchor or pki.root.certificate),
        evidence=Evidence(crls=(broken.crl,) if broken.crl else ()),
    )
    failure = result.failure
    assert failure is not None
    assert failure.id == broken.rule
    assert failure.observed
    assert failure.required
    assert failure.hint
    assert failure.requirement.source


def test_no_rule_is_without_a_broken_certificate() -> None:
    pki = Pki()
    covered = {pki.broken(name).rule for name in BROKEN}
    assert {rule.requirement.id for rule in ALL} - covered == set(TESTED_ELSEWHERE)


def test_rule_ids_are_unique() -> None:
    ids = [rule.requirement.id for rule in ALL]
    assert len(ids) == len(set(ids))


# Reference 6.6: what the usual validators accept and the strict default of connections must refuse.
STRICT_COLUMN = {
    "good": True,
    "no-use": False,
    "client-use": False,
    "any-use": False,
    "intermediate-for-clients": False,
    "900-days": False,
    "common-name-only": False,
    "rsa-1024": False,
    "outside-name-constraints": False,
    "authority-as-leaf": False,
    "missing-intermediate": False,
}


@pytest.mark.parametrize(("name", "accepted"), STRICT_COLUMN.items())
def test_the_strict_default_decides_as_the_strict_column_says(
    pki: Pki, anchors: Anchors, name: str, accepted: bool
) -> None:
    identity = pki.good(HOST) if name == "good" else pki.broken(name).identity
    assert evaluate(identity.chain, HOST, Policy.apple, pki.at, anchors).accepted is accepted


def test_every_rule_of_the_policy_is_reported_once_when_nothing_fails(pki: Pki, anchors: Anchors) -> None:
    result = evaluate(pki.good().chain, HOST, Policy.apple, pki.at, anchors)
    expected = [rule.requirement.id for rule in ALL if rule.families & Policy.apple.families]
    assert [finding.id for finding in result] == expected


def test_what_was_not_given_is_not_checked_rather_than_passed(pki: Pki, anchors: Anchors) -> None:
    result = evaluate(pki.good().chain, HOST, Policy.apple, pki.at, anchors)
    assert result["x509.revocation-lists"].verdict is Verdict.NOT_CHECKED
    public = Anchors.of(pki.root.certificate, public=True)
    result = evaluate(pki.good().chain, HOST, Policy.apple, pki.at, public)
    assert result["apple.transparency"].verdict is Verdict.NOT_CHECKED
