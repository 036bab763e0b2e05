"""Paths: every candidate is tried, missing issuers are named, and no mesh takes forever."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import AuthorityInformationAccessOID

from towpath.testing.pki import Authority, Identity, Pki, Recipe, new_key
from towpath.trust import Anchors, CachedFetch, Evidence, Policy, evaluate, load

HOST = "www.example.com"
GOOD = Recipe(names=(HOST,))
URL = "http://ca.example.com/intermediate.der"


def test_the_order_of_the_intermediates_does_not_matter(pki: Pki, anchors: Anchors) -> None:
    middle = pki.intermediate.intermediate(pki.authority_recipe("second intermediate"))
    leaf, *others = middle.issue(GOOD).chain
    assert len(others) == 2
    for order in (others, others[::-1]):
        assert evaluate([leaf, *order], HOST, Policy.apple, pki.at, anchors).accepted


def test_an_expired_cross_signature_does_not_hide_a_good_path(pki: Pki) -> None:
    key = new_key()
    recipe = pki.authority_recipe("cross-signed")
    old_root = pki.new_root("old root", lasts=timedelta(days=20), starts=timedelta(days=-30))
    expired = old_root.intermediate(replace(recipe, starts=timedelta(days=-30), lasts=timedelta(days=20)), key=key)
    good = pki.root.intermediate(recipe, key=key)
    leaf = good.issue(GOOD).chain[0]
    anchors = Anchors.of(old_root.certificate, pki.root.certificate)
    chain = [leaf, load(expired.certificate).der, load(good.certificate).der]
    result = evaluate(chain, HOST, Policy.apple, pki.at, anchors)
    assert result.accepted, result.failures
    assert result.path[1] == load(good.certificate)


def test_the_best_of_several_refused_paths_is_the_one_that_is_told(pki: Pki, anchors: Anchors) -> None:
    key = new_key()
    recipe = pki.authority_recipe("two faults or one")
    one = pki.root.intermediate(replace(recipe, starts=timedelta(days=-30), lasts=timedelta(days=20)), key=key)
    two = pki.root.intermediate(replace(recipe, lasts=timedelta(days=20), signs=False), key=key)
    leaf = one.issue(GOOD).chain[0]
    result = evaluate([leaf, load(two.certificate).der, load(one.certificate).der], HOST, None, pki.at, anchors)
    assert [finding.id for finding in result.failures] == ["x509.validity"]
    assert result.paths_tried == 2


def test_of_two_dead_ends_the_one_with_the_wrong_key_is_told(pki: Pki) -> None:
    key = new_key()
    recipe = pki.authority_recipe("issued twice")
    stranger, impostor = pki.new_root("stranger"), pki.new_root("Towpath test root")
    lost = stranger.intermediate(recipe, key=key)
    forged = impostor.intermediate(recipe, key=key)
    leaf = lost.issue(GOOD).chain[0]
    chain = [leaf, load(lost.certificate).der, load(forged.certificate).der]
    result = evaluate(chain, HOST, None, pki.at, Anchors.of(pki.root.certificate))
    assert result.failure is not None
    assert result.failure.id == "x509.signature"
    assert "Towpath test root" in result.failure.hint


def with_issuer_url(pki: Pki, url: str = URL) -> Identity:
    access = x509.AuthorityInformationAccess(
        [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))]
    )
    return pki.intermediate.issue(replace(GOOD, extra=((access, False),)))


def test_a_missing_issuer_is_named_with_the_place_where_it_can_be_had(pki: Pki, anchors: Anchors) -> None:
    result = evaluate(with_issuer_url(pki).chain[:1], HOST, Policy.apple, pki.at, anchors)
    assert result.failure is not None
    assert result.failure.id == "x509.anchor"
    assert "'Towpath test intermediate'" in result.failure.observed
    assert URL in result.failure.hint


@pytest.mark.parametrize("form", ["der", "pem", "pkcs7"])
def test_a_missing_issuer_is_fetched_only_when_that_is_asked_for(pki: Pki, anchors: Anchors, form: str) -> None:
    certificate = pki.intermediate.certificate
    octets = {
        "der": certificate.public_bytes(Encoding.DER),
        "pem": certificate.public_bytes(Encoding.PEM),
        "pkcs7": pkcs7.serialize_certificates([certificate], Encoding.DER),
    }[form]
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return octets

    leaf = with_issuer_url(pki).chain[:1]
    assert not evaluate(leaf, HOST, Policy.apple, pki.at, anchors).accepted
    assert asked == []
    cached = CachedFetch(fetch)
    for _ in range(2):
        assert evaluate(leaf, HOST, Policy.apple, pki.at, anchors, evidence=Evidence(fetch=cached)).accepted
    assert asked == [URL]


@pytest.mark.parametrize("answer", [b"", b"rubbish", b"\x00" * (2 << 20), None])
def test_a_fetch_that_gives_nothing_useful_changes_nothing(pki: Pki, anchors: Anchors, answer: bytes | None) -> None:
    def fetch(url: str) -> bytes:
        if answer is None:
            raise OSError("unreachable")
        return answer

    result = evaluate(
        with_issuer_url(pki).chain[:1], HOST, Policy.apple, pki.at, anchors, evidence=Evidence(fetch=fetch)
    )
    assert result.failure is not None
    assert result.failure.id == "x509.anchor"


def test_issuers_are_fetched_over_plain_http_alone_and_a_few_at_most(pki: Pki) -> None:
    asked: list[str] = []
    last: Authority = pki.root
    served: dict[str, bytes] = {}
    for number in range(8):
        url = f"http://ca.example.com/{number}"
        access = x509.AuthorityInformationAccess(
            [x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))]
        )
        served[url] = load(last.certificate).der
        recipe = replace(pki.authority_recipe(f"step {number}"), extra=((access, False),))
        last = last.intermediate(recipe)

    def fetch(url: str) -> bytes:
        asked.append(url)
        return served[url]

    evidence = Evidence(fetch=fetch)
    leaf = last.issue(GOOD).chain[0]
    evaluate([leaf, load(last.certificate).der], HOST, None, pki.at, Anchors(), evidence=evidence)
    assert len(asked) == 4
    asked.clear()
    evaluate(
        with_issuer_url(pki, "https://ca.example.com/i").chain[:1], HOST, None, pki.at, Anchors(), evidence=evidence
    )
    assert asked == []


def mesh(pki: Pki, names: int, keys: int) -> tuple[bytes, list[bytes]]:
    """Authorities that all cross-sign each other, and a leaf below one: no path leads out."""
    made: list[bytes] = []
    pairs = [pki.new_root(f"mesh {number}") for number in range(keys)]
    for subject in pairs:
        for issuer in pairs:
            if subject is not issuer and len(made) < names:
                crossed = issuer.intermediate(pki.authority_recipe(load(subject.certificate).label), key=subject.key)
                made.append(load(crossed.certificate).der)
    return pairs[0].issue(GOOD).chain[0], made


def test_a_cross_signed_mesh_of_1000_ends_within_its_budget_with_a_clear_verdict(anchors: Anchors) -> None:
    pki = Pki()
    leaf, others = mesh(pki, 1000, 33)
    assert len(others) == 1000
    began = time.process_time()
    result = evaluate([leaf, *others], HOST, Policy.apple, pki.at, anchors)
    assert time.process_time() - began < 30
    assert result.failure is not None
    assert result.failure.id == "x509.anchor"
    assert "budget" in result.failure.observed


def test_a_path_is_found_through_a_mesh_when_one_member_leads_to_an_anchor(pki: Pki, anchors: Anchors) -> None:
    keys = {name: new_key() for name in ("left", "right", "exit")}

    def cross(issuer: Authority, name: str) -> Authority:
        return issuer.intermediate(pki.authority_recipe(name), key=keys[name])

    exit_, stranger = cross(pki.root, "exit"), pki.new_root("stranger")
    left, right = cross(exit_, "left"), cross(stranger, "right")
    loops = [cross(right, "left"), cross(left, "right"), left, right, exit_]
    leaf = left.issue(GOOD).chain[0]
    result = evaluate([leaf, *(load(each.certificate).der for each in loops)], HOST, Policy.apple, pki.at, anchors)
    assert result.accepted, result.failures
    assert [certificate.label for certificate in result.path[1:]] == ["left", "exit", "Towpath test root"]


def test_the_end_of_a_search_that_was_given_up_is_not_looked_for(anchors: Anchors) -> None:
    pki = Pki()
    leaf, others = mesh(pki, 300, 20)
    result = evaluate([leaf, *others], HOST, Policy.apple, pki.at, anchors)
    assert result.until() is None
