"""Any octets as certificate, timestamp list, OCSP response or revocation list: a value or `PeerViolation`, soon."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.errors import ConfigInvalid, Misuse, PeerViolation
from towpath.testing.pki import Pki
from towpath.trust import Anchors, Evidence, LogList, Policy, Reference, der, evaluate, load, load_many
from towpath.trust.crl import RevocationList
from towpath.trust.reference import dns_matches
from towpath.trust.stapling import load_staple, read_staple
from towpath.trust.transparency import parse_list
from towpath.trust.transport import TransportPolicy

PKI = Pki()
GOOD = PKI.good()
LEAF, ISSUER = load(GOOD.certificate), load(PKI.intermediate.certificate)
ANCHORS = Anchors.of(PKI.root.certificate)
PUBLIC = Anchors.of(PKI.root.certificate, public=True)
SEEDS = {
    "certificate": LEAF.der,
    "constrained": load(PKI.broken("outside-name-constraints").identity.above[0]).der,
    "crl": PKI.intermediate.crl(1, 2),
    "staple": PKI.intermediate.staple(GOOD.certificate),
    "pem": GOOD.chain_pem,
}


def fuzz_certificate(data: bytes) -> None:
    """Reads and judges octets as a certificate."""
    evidence = Evidence(staple=SEEDS["staple"], crls=(SEEDS["crl"],), logs=LogList({}))
    result = evaluate([data, ISSUER], "www.example.com", Policy.web, PKI.at, PUBLIC, evidence=evidence)
    evaluate([data, ISSUER], "www.example.com", Policy.apple, PKI.at, PUBLIC, evidence=evidence)
    assert not result.accepted or load(data) == LEAF


def fuzz_intermediate(data: bytes) -> None:
    """Judges a good leaf beside octets as an intermediate."""
    evaluate([LEAF, data], "www.example.com", Policy.apple, PKI.at, ANCHORS)


def fuzz_pem(data: bytes) -> None:
    """Reads octets as a PEM file."""
    load_many(data)


def fuzz_timestamps(data: bytes) -> None:
    """Reads octets as a list of timestamps."""
    for stamp in parse_list(data):
        assert len(stamp.log_id) == 32
        assert stamp.at.year >= 1970


def fuzz_staple(data: bytes) -> None:
    """Reads octets as an OCSP response, on its own and as evidence."""
    read_staple(data, LEAF, ISSUER, PKI.at)
    evaluate([LEAF, ISSUER], None, None, PKI.at, ANCHORS, evidence=Evidence(staple=data)).until()
    load_staple(data)


def fuzz_crl(data: bytes) -> None:
    """Reads octets as a revocation list, on its own and as evidence."""
    evaluate([LEAF, ISSUER], None, None, PKI.at, ANCHORS, evidence=Evidence(crls=(data,))).until()
    found = RevocationList(data)
    found.concerns(LEAF, ISSUER)
    found.standing(LEAF, ISSUER, [ISSUER], PKI.at)


def fuzz_der(data: bytes) -> None:
    """Walks octets as DER."""
    outer = der.element(data, 0, len(data))
    assert 0 <= outer.start < outer.body <= outer.stop <= len(data)
    for child in der.children(data, outer):
        assert outer.body <= child.start < child.body <= child.stop <= outer.stop


ENTRIES: dict[str, Callable[[bytes], None]] = {
    "certificate": fuzz_certificate,
    "intermediate": fuzz_intermediate,
    "pem": fuzz_pem,
    "timestamps": fuzz_timestamps,
    "staple": fuzz_staple,
    "crl": fuzz_crl,
    "der": fuzz_der,
}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A well-formed object with a few octets changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(sorted(SEEDS.values()))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(["change", "cut", "put"])):
            case "change" if data:
                data[place] = draw(st.integers(0, 255))
            case "cut":
                del data[place : place + draw(st.integers(1, 8))]
            case _:
                data[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@pytest.mark.parametrize("entry", list(ENTRIES))
@settings(max_examples=150, deadline=2_000)
@given(data=st.one_of(st.binary(max_size=200), damaged()))
def test_any_octets_give_a_value_or_a_violation(entry: str, data: bytes) -> None:
    assert fault(entry, data) in {"", "certificate", "der", "sct", "ocsp", "crl"}


def fault(entry: str, data: bytes) -> str:
    try:
        ENTRIES[entry](data)
    except PeerViolation as violation:
        return violation.fault
    return ""


@given(data=st.one_of(st.binary(max_size=200), st.text(max_size=200)))
def test_any_text_as_log_list_gives_a_list_or_says_where_it_is_wrong(data: bytes | str) -> None:
    with pytest.raises(ConfigInvalid, match="logs"):
        LogList.parse(data, "logs")


@given(text=st.text(max_size=200))
def test_any_text_is_a_transport_policy_or_says_where_it_is_wrong(text: str) -> None:
    try:
        policy = TransportPolicy.parse(text, "transport.toml")
    except ConfigInvalid as error:
        assert error.where.startswith("transport.toml")  # noqa: PT017
        return
    assert policy.for_host("www.example.com").decided_by


@given(text=st.text(max_size=80))
def test_any_text_is_a_reference_or_a_misuse_and_a_reference_is_stable(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except Misuse:
        return
    assert Reference.parse(str(reference)) == reference


LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)


@given(labels=st.lists(LABEL, min_size=3, max_size=5), other=LABEL)
def test_a_wildcard_matches_exactly_one_label(labels: list[str], other: str) -> None:
    base = ".".join(labels[1:])
    pattern = "*." + base
    assert dns_matches(pattern, ".".join(labels))
    assert dns_matches(pattern, f"{other}.{base}")
    assert not dns_matches(pattern, base) or base.partition(".")[2] == base
    assert not dns_matches(pattern, f"{other}.{'.'.join(labels)}")
