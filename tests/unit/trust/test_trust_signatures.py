"""One signature, one key: every kind that fits, and every pair that does not."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

from towpath.testing.pki import Pki, Recipe
from towpath.trust import load, signatures
from towpath.trust.signatures import issued_fault, signature_fault

SHA256 = hashes.SHA256()
PSS = padding.PSS(padding.MGF1(SHA256), 32)
RSA_KEY, EC_KEY, DSA_KEY = (
    rsa.generate_private_key(65537, 2048),
    ec.generate_private_key(ec.SECP256R1()),
    dsa.generate_private_key(1024),
)
ED25519_KEY, ED448_KEY = ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()
SIGNED: dict[str, tuple[Any, bytes, Any, Any]] = {
    "RSA": (RSA_KEY, RSA_KEY.sign(b"data", padding.PKCS1v15(), SHA256), padding.PKCS1v15(), SHA256),
    "RSA-PSS": (RSA_KEY, RSA_KEY.sign(b"data", PSS, SHA256), PSS, SHA256),
    "EC": (EC_KEY, EC_KEY.sign(b"data", ec.ECDSA(SHA256)), ec.ECDSA(SHA256), SHA256),
    "DSA": (DSA_KEY, DSA_KEY.sign(b"data", SHA256), None, SHA256),
    "Ed25519": (ED25519_KEY, ED25519_KEY.sign(b"data"), None, None),
    "Ed448": (ED448_KEY, ED448_KEY.sign(b"data"), None, None),
}


@pytest.mark.parametrize("signer", list(SIGNED))
@pytest.mark.parametrize("checker", list(SIGNED))
def test_a_signature_verifies_with_its_own_key_and_kind_alone(signer: str, checker: str) -> None:
    _, signature, parameters, digest = SIGNED[signer]
    key = SIGNED[checker][0].public_key()
    fits = signer == checker or {signer, checker} == {"RSA", "RSA-PSS"}
    assert (signature_fault(key, signature, b"data", parameters, digest) == "") is fits
    assert signature_fault(key, signature, b"date", parameters, digest)
    assert signature_fault(key, signature[:-1], b"data", parameters, digest)


def test_an_algorithm_that_differs_inside_and_outside_is_refused() -> None:
    pki = Pki()
    leaf, issuer = load(pki.good().certificate), load(pki.intermediate.certificate)
    assert issued_fault(leaf, issuer) == ""
    disagreeing = load(
        leaf.der.replace(bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040303"), 1)
    )
    assert "disagree" in issued_fault(disagreeing, issuer)


def test_keys_too_large_to_check_in_time_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    key, signature, parameters, digest = SIGNED["RSA"]
    monkeypatch.setattr(signatures, "MAX_KEY_BITS", 2047)
    assert "2048 bits" in signature_fault(key.public_key(), signature, b"data", parameters, digest)


def test_certificates_signed_with_rsa_verify_too() -> None:
    pki = Pki()
    root = pki.new_root("root with an RSA key", rsa_bits=2048)
    leaf = root.issue(Recipe(names=("www.example.com",)))
    assert issued_fault(load(leaf.certificate), load(root.certificate)) == ""
