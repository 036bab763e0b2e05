"""A result explains itself, and says until when it holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from towpath.errors import Misuse, PeerViolation
from towpath.testing.pki import Pki, Recipe
from towpath.trust import Anchors, Evidence, Level, Policy, TrustRefused, Verdict, evaluate, spki_pin

HOST = "www.example.com"


def test_the_three_levels_are_separate_verdicts(pki: Pki, anchors: Anchors) -> None:
    cases = {
        "expired": (Verdict.FAIL, Verdict.PASS, Verdict.PASS),
        "wrong-name": (Verdict.PASS, Verdict.FAIL, Verdict.PASS),
        "no-use": (Verdict.PASS, Verdict.PASS, Verdict.FAIL),
    }
    for name, expected in cases.items():
        result = evaluate(pki.broken(name).identity.chain, HOST, Policy.apple, pki.at, anchors)
        assert tuple(result.level(level) for level in Level) == expected, name


def test_without_a_policy_only_the_first_two_levels_decide(pki: Pki, anchors: Anchors) -> None:
    chain = pki.broken("900-days").identity.chain
    assert evaluate(chain, HOST, None, pki.at, anchors).accepted
    assert not evaluate(chain, HOST, Policy.apple, pki.at, anchors).accepted


def test_a_refusal_raises_with_rule_certificate_observed_required_source_and_hint(pki: Pki, anchors: Anchors) -> None:
    result = evaluate(pki.broken("wrong-name").identity.chain, HOST, Policy.apple, pki.at, anchors)
    with pytest.raises(TrustRefused) as caught:
        result.raise_if_refused()
    text = str(caught.value)
    for part in ("server.name", "certificate 0", "shop.example.com", "DNS:www.example.com", "RFC 9525"):
        assert part in text
    assert caught.value.hint is not None
    assert caught.value.result is result


def test_an_accepted_result_passes_through_raise_if_refused(pki: Pki, anchors: Anchors) -> None:
    result = evaluate(pki.good().chain, HOST, Policy.apple, pki.at, anchors)
    assert result.raise_if_refused() is result


def test_it_holds_until_the_second_after_the_first_end_of_validity(pki: Pki, anchors: Anchors) -> None:
    identity = pki.good()
    change = evaluate(identity.chain, HOST, Policy.apple, pki.at, anchors).until()
    assert change is not None
    assert change.at == identity.certificate.not_valid_after_utc + timedelta(seconds=1)
    assert not change.accepted
    assert change.finding is not None
    assert change.finding.id == "x509.validity"


def test_a_certificate_that_is_not_yet_valid_becomes_accepted_at_its_first_second(pki: Pki, anchors: Anchors) -> None:
    identity = pki.broken("not-yet-valid").identity
    change = evaluate(identity.chain, HOST, Policy.apple, pki.at, anchors).until()
    assert change is not None
    assert change.accepted
    assert change.at == identity.certificate.not_valid_before_utc


def test_a_root_that_ends_before_the_leaf_ends_the_verdict() -> None:
    pki = Pki()
    root = pki.new_root("short-lived root", lasts=timedelta(days=40))
    leaf = root.issue(Recipe(names=(HOST,)))
    change = evaluate(leaf.chain, HOST, Policy.apple, pki.at, Anchors.of(root.certificate)).until()
    assert change is not None
    assert change.at == root.certificate.not_valid_after_utc + timedelta(seconds=1)
    assert change.finding is not None
    assert change.finding.index == 1


def test_a_staple_that_must_be_renewed_ends_the_verdict(pki: Pki, anchors: Anchors) -> None:
    identity = pki.good()
    staple = pki.intermediate.staple(identity.certificate)
    result = evaluate(identity.chain, HOST, Policy.apple, pki.at, anchors, evidence=Evidence(staple=staple))
    change = result.until()
    assert change is not None
    assert change.at - pki.at < timedelta(days=7)
    assert change.finding is not None
    assert change.finding.id == "x509.staple"


def test_what_never_becomes_good_has_no_change_in_sight(pki: Pki, anchors: Anchors) -> None:
    assert evaluate(pki.broken("wrong-name").identity.chain, HOST, None, pki.at, anchors).until() is None


def test_it_turns_into_json(pki: Pki, anchors: Anchors) -> None:
    result = evaluate(pki.broken("no-use").identity.chain, HOST, Policy.apple, pki.at, anchors)
    document = json.loads(json.dumps(result.as_dict()))
    assert document["accepted"] is False
    assert [entry["pin"] for entry in document["path"]] == [spki_pin(certificate) for certificate in result.path]
    assert document["levels"] == {"basic X.509": "pass", "TLS server": "pass", "policy": "fail"}
    failed = [finding for finding in document["findings"] if finding["verdict"] == "fail"]
    assert [(finding["id"], finding["certificate"]) for finding in failed] == [("apple.usage", 0)]
    assert set(failed[0]) == {
        "id",
        "title",
        "level",
        "verdict",
        "certificate",
        "observed",
        "required",
        "source",
        "hint",
    }


def test_a_time_without_a_zone_is_a_misuse(pki: Pki, anchors: Anchors) -> None:
    with pytest.raises(Misuse, match="zone"):
        evaluate(pki.good().chain, HOST, None, datetime(2026, 1, 1), anchors)


def test_an_empty_chain_is_a_misuse(pki: Pki, anchors: Anchors) -> None:
    with pytest.raises(Misuse):
        evaluate([], HOST, None, pki.at, anchors)


def test_a_leaf_that_is_no_certificate_is_a_violation(pki: Pki, anchors: Anchors) -> None:
    with pytest.raises(PeerViolation):
        evaluate([b"\x30\x03\x02\x01\x01"], HOST, None, pki.at, anchors)


def test_rubbish_among_the_others_is_named_and_does_no_harm(pki: Pki, anchors: Anchors) -> None:
    leaf, *others = pki.good().chain
    result = evaluate([leaf, b"rubbish", *others], HOST, Policy.apple, pki.at, anchors)
    assert result.accepted
    assert len(result.ignored) == 1
    assert result.ignored[0].startswith("certificate 1:")


def test_a_renewal_of_the_same_lifetime_meets_the_next_published_limit() -> None:
    pki = Pki(datetime(2026, 11, 1, tzinfo=UTC))
    leaf = pki.intermediate.issue(Recipe(names=(HOST,), lasts=timedelta(days=150)))

    def limit(public: bool) -> object:
        anchors = Anchors.of(pki.root.certificate, public=public)
        return evaluate(leaf.chain, HOST, Policy.apple, pki.at, anchors).as_dict()["renewal_refused_from"]

    assert limit(True) == {"at": "2027-03-15T00:00:00+00:00", "days": 100, "source": "BR 6.3.2 (ballot SC-081v3)"}
    assert limit(False) is None
