"""Staples, must-staple, revocation lists and the local set."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from towpath.errors import PeerViolation
from towpath.testing.pki import Identity, Pki, Recipe
from towpath.testing.pki_broken import patched
from towpath.trust import Anchors, Evidence, Policy, RevocationSet, TrustResult, Verdict, evaluate, load
from towpath.trust.crl import ALL_REASONS
from towpath.trust.lists import fetch_lists

HOST = "www.example.com"


def judge(pki: Pki, identity: Identity, evidence: Evidence) -> TrustResult:
    return evaluate(identity.chain, HOST, Policy.apple, pki.at, Anchors.of(pki.root.certificate), evidence=evidence)


@pytest.fixture(scope="module")
def leaf(pki: Pki) -> Identity:
    return pki.good(HOST)


def test_a_good_staple_passes(pki: Pki, leaf: Identity) -> None:
    staple = pki.intermediate.staple(leaf.certificate)
    assert judge(pki, leaf, Evidence(staple=staple))["x509.staple"].verdict is Verdict.PASS


def test_a_staple_signed_by_a_delegate_of_the_issuer_passes(pki: Pki, leaf: Identity) -> None:
    delegate = pki.intermediate.issue(Recipe(common_name="responder", usages=(ExtendedKeyUsageOID.OCSP_SIGNING,)))
    staple = pki.intermediate.staple(leaf.certificate, signer=delegate)
    assert judge(pki, leaf, Evidence(staple=staple))["x509.staple"].verdict is Verdict.PASS


def unusable_staples(pki: Pki, leaf: Identity) -> dict[str, tuple[bytes, str]]:
    issuer = pki.intermediate
    server = pki.intermediate.issue(Recipe(common_name="no responder"))
    usages = (ExtendedKeyUsageOID.OCSP_SIGNING,)
    late = pki.intermediate.issue(Recipe(common_name="late", usages=usages, starts=timedelta(days=-99)))
    stranger = pki.root.issue(Recipe(common_name="of another issuer", usages=usages))
    other = pki.good("other.example.com")
    return {
        "revoked": (issuer.staple(leaf.certificate, revoked=True), "revoked at"),
        "revoked long ago": (issuer.staple(leaf.certificate, revoked=True, age=timedelta(days=30)), "revoked at"),
        "stale": (issuer.staple(leaf.certificate, age=timedelta(days=8)), "was to be renewed"),
        "from the future": (issuer.staple(leaf.certificate, age=timedelta(hours=-1)), "later than the time"),
        "about another": (issuer.staple(other.certificate), "about another certificate"),
        "of another authority": (pki.root.staple(leaf.certificate), "signature verifies neither"),
        "delegate without the usage": (issuer.staple(leaf.certificate, signer=server), "lacks the OCSP signing usage"),
        "delegate out of date": (issuer.staple(leaf.certificate, signer=late), "out of date"),
        "delegate of another": (issuer.staple(leaf.certificate, signer=stranger), "not certified by the issuer"),
        "rubbish": (b"\x30\x03\x0a\x01\x00rubbish", "ocsp"),
        "try later": (b"\x30\x03\x0a\x01\x03", "try_later"),
        "empty": (b"", "ocsp"),
        "too large": (b"\x30" * 70_000, "octets"),
    }


@pytest.mark.parametrize("case", list(unusable_staples(Pki(), Pki().good())))
def test_a_staple_that_does_not_call_the_leaf_good_is_a_refusal(pki: Pki, leaf: Identity, case: str) -> None:
    staple, said = unusable_staples(pki, leaf)[case]
    finding = judge(pki, leaf, Evidence(staple=staple))["x509.staple"]
    assert finding.verdict is Verdict.FAIL
    assert said in finding.observed
    assert finding.hint


def test_must_staple_without_a_staple_fails_hard_and_with_one_passes(pki: Pki) -> None:
    identity = pki.broken("must-staple").identity
    assert judge(pki, identity, Evidence())["x509.must-staple"].verdict is Verdict.FAIL
    staple = pki.intermediate.staple(identity.certificate)
    assert judge(pki, identity, Evidence(staple=staple)).accepted


def test_a_list_that_does_not_name_the_certificate_passes(pki: Pki, leaf: Identity) -> None:
    result = judge(pki, leaf, Evidence(crls=(pki.intermediate.crl(1, 2, 3),)))
    assert result["x509.revocation-lists"].verdict is Verdict.PASS


def test_a_revoked_intermediate_is_found_in_its_issuers_list(pki: Pki, leaf: Identity) -> None:
    crl = pki.root.crl(pki.intermediate.certificate.serial_number)
    finding = judge(pki, leaf, Evidence(crls=(crl,)))["x509.revocation-lists"]
    assert finding.verdict is Verdict.FAIL
    assert finding.index == 1


def test_the_same_serial_number_of_another_issuer_means_nothing(pki: Pki, leaf: Identity) -> None:
    crl = pki.root.crl(leaf.certificate.serial_number)
    assert judge(pki, leaf, Evidence(crls=(crl,))).accepted


def test_a_list_of_a_stranger_leaves_the_rule_unchecked(pki: Pki, leaf: Identity) -> None:
    crl = pki.new_root("a stranger").crl(leaf.certificate.serial_number)
    assert judge(pki, leaf, Evidence(crls=(crl,)))["x509.revocation-lists"].verdict is Verdict.NOT_CHECKED


def test_a_forged_list_is_unusable(pki: Pki, leaf: Identity) -> None:
    forger = pki.root.intermediate(pki.authority_recipe("Towpath test intermediate"))
    finding = judge(pki, leaf, Evidence(crls=(forger.crl(),)))["x509.revocation-lists"]
    assert finding.verdict is Verdict.FAIL
    assert "another key" in finding.observed


def test_a_list_that_is_overdue_is_unusable_and_a_timely_one_beside_it_is_enough(pki: Pki, leaf: Identity) -> None:
    later = pki.at + timedelta(days=8)
    overdue = pki.intermediate.crl()
    anchors = Anchors.of(pki.root.certificate)
    alone = evaluate(leaf.chain, HOST, None, later, anchors, evidence=Evidence(crls=(overdue,)))
    assert "renewed" in alone["x509.revocation-lists"].observed
    timely = pki.intermediate.crl(days=30)
    both = evaluate(leaf.chain, HOST, None, later, anchors, evidence=Evidence(crls=(overdue, timely)))
    assert both.accepted


def test_a_revocation_counts_whatever_another_list_of_the_same_issuer_says(pki: Pki, leaf: Identity) -> None:
    says_no, says_yes = pki.intermediate.crl(leaf.certificate.serial_number), pki.intermediate.crl()
    for crls in ((says_no, says_yes), (says_yes, says_no)):
        assert "revoked at" in judge(pki, leaf, Evidence(crls=crls))["x509.revocation-lists"].observed


def test_a_list_without_a_number_or_with_a_critical_one_is_unusable(pki: Pki, leaf: Identity) -> None:
    for crl, said in (
        (pki.intermediate.crl(number=None), "no CRL number"),
        (pki.intermediate.crl(number=None, extra=((x509.CRLNumber(1), True),)), "CRL number is critical"),
    ):
        assert said in judge(pki, leaf, Evidence(crls=(crl,)))["x509.revocation-lists"].observed


def test_a_list_that_cannot_be_read_is_a_failure_and_not_silence(pki: Pki, leaf: Identity) -> None:
    finding = judge(pki, leaf, Evidence(crls=(b"rubbish",)))["x509.revocation-lists"]
    assert finding.verdict is Verdict.FAIL


def test_an_authority_whose_key_usage_lacks_crl_sign_may_not_sign_lists(pki: Pki) -> None:
    recipe = pki.authority_recipe("no lists")
    for changed, said in (
        (replace(recipe, signs=False), "lacks cRLSign"),
        (replace(recipe, without=frozenset({x509.KeyUsage})), ""),
    ):
        authority = pki.root.intermediate(changed)
        leaf = authority.issue(Recipe(names=(HOST,)))
        finding = judge(pki, leaf, Evidence(crls=(authority.crl(),)))["x509.revocation-lists"]
        assert (finding.verdict is Verdict.FAIL) is bool(said)
        assert said in finding.observed


def test_a_negative_serial_number_is_looked_up_like_any_other(pki: Pki) -> None:
    made = pki.intermediate.issue(Recipe(names=(HOST,), serial=1))
    serial_one, serial_minus_one = bytes.fromhex("a003020102020101"), bytes.fromhex("a0030201020201ff")
    leaf = replace(made, certificate=patched(made.certificate, pki.intermediate, serial_one, serial_minus_one))
    assert load(leaf.certificate).serial == -1
    assert judge(pki, leaf, Evidence(crls=(pki.intermediate.crl(1),)))["x509.revocation-lists"].verdict is Verdict.PASS


SHARD, OTHER_SHARD = "http://crl.example.com/1", "http://crl.example.com/2"


def shard(url: str | None = None, **fields: bool) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    flags = dict.fromkeys(
        ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False
    )
    point = x509.IssuingDistributionPoint(
        full_name=[x509.UniformResourceIdentifier(url)] if url else None,
        relative_name=None,
        only_some_reasons=None,
        **{**flags, **fields},
    )
    return ((point, True),)


@pytest.mark.parametrize(
    ("scope", "verdict"),
    [
        (shard(SHARD), Verdict.PASS),
        (shard(OTHER_SHARD), Verdict.NOT_CHECKED),
        (shard(only_contains_user_certs=True), Verdict.PASS),
        (shard(only_contains_ca_certs=True), Verdict.NOT_CHECKED),
        (shard(SHARD, indirect_crl=True), Verdict.PASS),
        (((x509.DeltaCRLIndicator(1), True),), Verdict.FAIL),
        (shard(only_contains_attribute_certs=True), Verdict.FAIL),
    ],
)
def test_a_list_speaks_only_for_the_certificates_in_its_scope(
    pki: Pki, scope: tuple[tuple[x509.ExtensionType, bool], ...], verdict: Verdict
) -> None:
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(SHARD)], None, None, None)
    extra = ((x509.CRLDistributionPoints([point]), False),)
    leaf = pki.intermediate.issue(Recipe(names=(HOST,), extra=extra))
    crl = pki.intermediate.crl(extra=scope)
    assert judge(pki, leaf, Evidence(crls=(crl,)))["x509.revocation-lists"].verdict is verdict


def test_the_local_set_refuses_keys_and_serial_numbers(pki: Pki, leaf: Identity) -> None:
    intermediate = load(pki.intermediate.certificate)
    by_key = RevocationSet(keys=frozenset({intermediate.spki_hash}))
    assert judge(pki, leaf, Evidence(revoked=by_key))["x509.revoked-here"].index == 1
    crl = pki.intermediate.crl(leaf.certificate.serial_number)
    by_list = RevocationSet.from_lists([(crl, intermediate)])
    finding = judge(pki, leaf, Evidence(revoked=by_list))["x509.revoked-here"]
    assert (finding.verdict, finding.index) == (Verdict.FAIL, 0)
    assert judge(pki, leaf, Evidence(revoked=RevocationSet())).accepted


def test_the_local_set_takes_no_list_that_its_issuer_did_not_sign(pki: Pki) -> None:
    with pytest.raises(PeerViolation):
        RevocationSet.from_lists([(pki.root.crl(1), load(pki.intermediate.certificate))])


def test_lists_are_fetched_from_where_the_certificates_say_and_only_usable_ones_are_kept(pki: Pki) -> None:
    def point(url: str) -> tuple[x509.ExtensionType, bool]:
        return x509.CRLDistributionPoints(
            [x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)]
        ), False

    middle = pki.root.intermediate(replace(pki.authority_recipe("with a list"), extra=(point("http://crl.test/root"),)))
    leaf = middle.issue(Recipe(names=(HOST,), extra=(point("http://crl.test/middle"),)))
    path = [*map(load, leaf.chain), load(pki.root.certificate)]
    answers = {"http://crl.test/root": pki.root.crl(), "http://crl.test/middle": middle.crl()}
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return answers[url]

    lists = fetch_lists(path, fetch)
    assert sorted(lists) == sorted(answers.values())
    assert judge(pki, leaf, Evidence(crls=lists))["x509.revocation-lists"].verdict is Verdict.PASS
    answers["http://crl.test/root"] = b"rubbish"
    assert fetch_lists(path, fetch) == (answers["http://crl.test/middle"],)

    def unreachable(url: str) -> bytes:
        raise OSError("no route")

    assert fetch_lists(path, unreachable) == ()
    secure = middle.issue(Recipe(names=(HOST,), extra=(point("https://crl.test/middle"),)))
    asked.clear()
    fetch_lists([load(secure.certificate), load(middle.certificate)], fetch)
    assert asked == [], "https needs the trust that is being asked for"


def relative(name: str) -> x509.RelativeDistinguishedName:
    return x509.RelativeDistinguishedName([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, name)])


def scoped(**fields: Any) -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """An issuing distribution point, critical."""
    plain = {"full_name": None, "relative_name": None, "only_some_reasons": None} | dict.fromkeys(
        ("only_contains_user_certs", "only_contains_ca_certs", "indirect_crl", "only_contains_attribute_certs"), False
    )
    return ((x509.IssuingDistributionPoint(**{**plain, **fields}), True),)


def with_point(pki: Pki, **fields: Any) -> Identity:
    plain: dict[str, Any] = dict.fromkeys(("full_name", "relative_name", "reasons", "crl_issuer"))
    point = x509.DistributionPoint(**{**plain, **fields})
    return pki.intermediate.issue(Recipe(names=(HOST,), extra=((x509.CRLDistributionPoints([point]), False),)))


def test_a_distribution_point_may_be_named_relative_to_its_issuer(pki: Pki) -> None:
    leaf = with_point(pki, relative_name=relative("one"))
    full = [x509.DirectoryName(x509.Name([*pki.intermediate.certificate.subject.rdns, relative("one")]))]
    for scope, verdict in (
        (scoped(relative_name=relative("one")), Verdict.PASS),
        (scoped(full_name=full), Verdict.PASS),
        (scoped(relative_name=relative("two")), Verdict.NOT_CHECKED),
    ):
        evidence = Evidence(crls=(pki.intermediate.crl(extra=scope),))
        assert judge(pki, leaf, evidence)["x509.revocation-lists"].verdict is verdict


def test_lists_for_some_reasons_are_enough_only_together(pki: Pki, leaf: Identity) -> None:
    some = frozenset({x509.ReasonFlags.key_compromise})
    first = pki.intermediate.crl(extra=scoped(only_some_reasons=some))
    rest = pki.intermediate.crl(extra=scoped(only_some_reasons=ALL_REASONS - some))
    assert "only some reasons" in judge(pki, leaf, Evidence(crls=(first,)))["x509.revocation-lists"].observed
    assert judge(pki, leaf, Evidence(crls=(first, rest)))["x509.revocation-lists"].verdict is Verdict.PASS


def test_a_list_signed_with_the_other_key_of_a_rolled_over_authority_counts(pki: Pki) -> None:
    recipe = pki.authority_recipe("key rollover")
    new = pki.root.intermediate(recipe)
    old = new.intermediate(recipe)
    leaf = old.issue(Recipe(names=(HOST,)))
    for serials, accepted in (((), True), ((leaf.certificate.serial_number,), False)):
        assert judge(pki, leaf, Evidence(crls=(new.crl(*serials),))).accepted is accepted


def test_a_separate_signer_of_lists_must_be_certified_and_not_revoked(pki: Pki) -> None:
    recipe = replace(pki.authority_recipe("one name, two keys"), without=frozenset({x509.BasicConstraints}))
    issuing = pki.root.intermediate(pki.authority_recipe("one name, two keys"))
    listing = pki.root.intermediate(recipe)
    forged = pki.new_root("Towpath test root").intermediate(recipe)
    leaf = issuing.issue(Recipe(names=(HOST,)))
    for signer, others, accepted in (
        (listing, (), True),
        (forged, (), False),
        (listing, (pki.root.crl(listing.certificate.serial_number),), False),
    ):
        whole = replace(leaf, above=(*leaf.above, signer.certificate))
        assert judge(pki, whole, Evidence(crls=(signer.crl(), *others))).accepted is accepted


def test_an_indirect_list_speaks_of_the_issuer_it_names(pki: Pki) -> None:
    lister = pki.root.intermediate(pki.authority_recipe("lister"))
    place = [x509.DirectoryName(lister.certificate.subject)]
    leaf = with_point(pki, crl_issuer=place)
    serial = leaf.certificate.serial_number
    whole = replace(leaf, above=(*leaf.above, lister.certificate))
    of_ours = x509.CertificateIssuer([x509.DirectoryName(pki.intermediate.certificate.subject)])
    for owner, verdict in ((of_ours, Verdict.FAIL), (None, Verdict.PASS)):
        crl = lister.crl(serial, extra=scoped(indirect_crl=True), owner=owner)
        assert judge(pki, whole, Evidence(crls=(crl,)))["x509.revocation-lists"].verdict is verdict
    direct = judge(pki, whole, Evidence(crls=(lister.crl(serial), pki.intermediate.crl(serial))))
    assert direct["x509.revocation-lists"].verdict is Verdict.NOT_CHECKED, "neither is the one it names"


def test_revocation_can_be_demanded(pki: Pki, leaf: Identity) -> None:
    policy = replace(Policy.apple, require_revocation=True)
    anchors = Anchors.of(pki.root.certificate)
    lists = pki.root.crl(), pki.intermediate.crl()
    staple = pki.intermediate.staple(leaf.certificate)
    for evidence, faulty in (
        (Evidence(), [0, 1]),
        (Evidence(crls=lists[:1]), [0]),
        (Evidence(crls=lists[1:]), [1]),
        (Evidence(crls=lists), []),
        (Evidence(crls=lists[:1], staple=staple), []),
    ):
        result = evaluate(leaf.chain, HOST, policy, pki.at, anchors, evidence=evidence)
        assert [failure.index for failure in result.failures] == faulty


def test_no_more_than_eight_lists_are_fetched(pki: Pki) -> None:
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return b""

    path = []
    for number in range(12):
        place = x509.UniformResourceIdentifier(f"http://crl.test/{number}")
        points = x509.CRLDistributionPoints([x509.DistributionPoint([place], None, None, None)])
        extra = ((points, False),)
        path.append(load(pki.intermediate.issue(Recipe(names=(HOST,), extra=extra)).certificate))
    fetch_lists(path, fetch)
    assert asked == [f"http://crl.test/{number}" for number in range(8)]
