"""Where trust begins, and what narrows it."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from towpath.errors import ConfigInvalid
from towpath.testing.pki import Pki
from towpath.trust import Anchors, Pins, Policy, evaluate, load, spki_pin

HOST = "www.example.com"


def test_anchors_come_from_a_pem_file_a_der_file_and_a_folder(pki: Pki, tmp_path: Path) -> None:
    other = pki.new_root("another root")
    pem = tmp_path / "both.pem"
    pem.write_bytes(b"".join(root.certificate.public_bytes(Encoding.PEM) for root in (pki.root, other)))
    assert len(Anchors.pem(pem)) == 2
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.crt").write_bytes(pki.root.certificate.public_bytes(Encoding.DER))
    (tmp_path / "folder" / "rubbish.pem").write_bytes(b"rubbish")
    (tmp_path / "folder" / "readme.txt").write_bytes(b"no certificate")
    assert Anchors.pem(tmp_path / "folder").certificates() == (load(pki.root.certificate),)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_without_certificates_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "ca.pem"
    place.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"ca\.pem"):
        Anchors.pem(place)


def test_a_place_that_is_not_there_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="missing"):
        Anchors.pem(tmp_path / "missing.pem")


def test_one_bad_certificate_spoils_a_file_of_your_own_and_no_public_store(pki: Pki, tmp_path: Path) -> None:
    bad = b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
    place = tmp_path / "store.pem"
    place.write_bytes(bad + pki.root.certificate.public_bytes(Encoding.PEM))
    assert len(Anchors.pem(place, public=True)) == 1
    with pytest.raises(ConfigInvalid, match=r"store\.pem"):
        Anchors.pem(place)


def test_the_system_and_certifi_have_public_anchors() -> None:
    for anchors in (Anchors.system(), Anchors.certifi()):
        assert len(anchors) > 20
        assert not anchors.has_private
        assert all(anchors.is_public(anchor) for anchor in anchors.certificates())


def test_an_authority_added_beside_the_systems_is_private_even_if_the_system_has_it(pki: Pki) -> None:
    system = Anchors.of(pki.root.certificate, pki.new_root("public only").certificate, public=True)
    both = system | Anchors.of(pki.root.certificate)
    assert len(both) == 2
    assert not both.is_public(load(pki.root.certificate))
    assert both.has_private


def test_a_leaf_or_an_intermediate_may_be_the_anchor_itself(pki: Pki) -> None:
    identity = pki.good()
    assert evaluate(identity.chain[:1], HOST, Policy.apple, pki.at, Anchors.of(identity.certificate)).accepted
    assert evaluate(identity.chain, HOST, Policy.apple, pki.at, Anchors.of(pki.intermediate.certificate)).accepted


def test_without_anchors_nothing_is_trusted(pki: Pki) -> None:
    assert not evaluate(pki.good().chain, HOST, None, pki.at, Anchors()).accepted


@pytest.mark.parametrize(
    ("category", "pinned", "accepted"),
    [
        ("leaves", "leaf", True),
        ("leaves", "intermediate", False),
        ("authorities", "intermediate", True),
        ("authorities", "root", True),
        ("authorities", "leaf", False),
        ("authorities", "stranger", False),
    ],
)
def test_a_pin_must_be_shown_in_its_category(pki: Pki, category: str, pinned: str, accepted: bool) -> None:
    identity = pki.good()
    keys = {
        "leaf": identity.certificate,
        "intermediate": pki.intermediate.certificate,
        "root": pki.root.certificate,
        "stranger": pki.new_root("stranger").certificate,
    }
    pin = spki_pin(load(keys[pinned]))
    pins = Pins.parse(leaves=[pin]) if category == "leaves" else Pins.parse(authorities=[pin])
    policy = Policy.apple.pinned(pins)
    result = evaluate(identity.chain, HOST, policy, pki.at, Anchors.of(pki.root.certificate))
    assert result.accepted is accepted
    assert result.failure is None or result.failure.id == "policy.pins"


def test_both_categories_must_match_when_both_are_given(pki: Pki) -> None:
    identity = pki.good()
    leaf, stranger = spki_pin(load(identity.certificate)), spki_pin(load(pki.new_root("x").certificate))
    policy = Policy.apple.pinned(Pins.parse(leaves=[leaf], authorities=[stranger]))
    assert not evaluate(identity.chain, HOST, policy, pki.at, Anchors.of(pki.root.certificate)).accepted


def test_a_pin_never_makes_an_unknown_anchor_trusted(pki: Pki) -> None:
    identity = pki.good()
    policy = Policy.apple.pinned(Pins.parse(leaves=[spki_pin(load(identity.certificate))]))
    result = evaluate(identity.chain, HOST, policy, pki.at, Anchors())
    assert result.failure is not None
    assert result.failure.id == "x509.anchor"


def test_a_list_of_leaf_certificates_admits_those_alone(pki: Pki) -> None:
    listed, other = pki.client("one@example.com"), pki.client("two@example.com")
    pins = Pins(certificates=frozenset({load(listed.certificate).fingerprint}))
    policy = Policy.apple.for_clients().pinned(pins)
    anchors = Anchors.of(pki.root.certificate)
    assert evaluate(listed.chain, None, policy, pki.at, anchors).accepted
    assert not evaluate(other.chain, None, policy, pki.at, anchors).accepted


@pytest.mark.parametrize("text", ["", "AAAA", "not base64!", base64.b64encode(b"x" * 31).decode()])
def test_what_is_no_pin_is_refused(text: str) -> None:
    with pytest.raises(ConfigInvalid, match=r"policy\.toml"):
        Pins.parse(leaves=[text], where="policy.toml")
