"""Whether one key made one signature, and whether one certificate issued another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

    from towpath.trust.certificate import Certificate

__all__ = ["MAX_KEY_BITS", "issued_fault", "signature_fault"]

MAX_KEY_BITS = 8192
"""Checking one signature with a larger RSA or DSA key takes long enough for a peer to keep us busy with a few."""


def issued_fault(child: Certificate, issuer: Certificate) -> str:
    """Why `issuer`'s key did not sign `child`, or an empty text. Names are compared elsewhere (RFC 5280 §6.1.3)."""
    if not child.algorithms_agree:
        return "the two signature algorithm fields disagree"
    if issuer.key is None:
        return f"the key of {issuer.label!r} cannot be read: {issuer.key_fault}"
    try:
        parameters = child.raw.signature_algorithm_parameters
        digest = child.raw.signature_hash_algorithm
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        return f"the signature algorithm is not supported: {error}"
    return signature_fault(issuer.key, child.raw.signature, child.raw.tbs_certificate_bytes, parameters, digest)


def signature_fault(
    key: CertificatePublicKeyTypes,
    signature: bytes,
    data: bytes,
    parameters: padding.PSS | padding.PKCS1v15 | ec.ECDSA | None,
    digest: HashAlgorithm | None,
) -> str:
    """Why `signature` over `data` was not made with `key`, or an empty text."""
    if isinstance(key, rsa.RSAPublicKey | dsa.DSAPublicKey) and key.key_size > MAX_KEY_BITS:
        return f"the key has {key.key_size} bits, more than the {MAX_KEY_BITS} that are checked"
    try:
        match key:
            case rsa.RSAPublicKey() if digest is not None and isinstance(parameters, padding.PSS | padding.PKCS1v15):
                key.verify(signature, data, parameters, digest)
            case ec.EllipticCurvePublicKey() if isinstance(parameters, ec.ECDSA):
                key.verify(signature, data, parameters)
            case dsa.DSAPublicKey() if digest is not None:
                key.verify(signature, data, digest)
            case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey() if digest is None:
                key.verify(signature, data)
            case _:
                return "the signature algorithm does not fit the kind of key"
    except InvalidSignature:
        return "the signature does not verify"
    except (UnsupportedAlgorithm, ValueError, TypeError) as error:
        return f"the signature cannot be checked: {error}"
    return ""
