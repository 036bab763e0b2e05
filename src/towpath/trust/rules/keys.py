"""Keys and signature algorithms strong enough for a policy."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from towpath.trust.certificate import Certificate
from towpath.trust.policy import Family
from towpath.trust.result import Level
from towpath.trust.rules.table import Answer, Context, Fault, Skipped, Table

TABLE = Table()
_WEB_CURVES = {"secp256r1", "secp384r1", "secp521r1"}
_SHA2 = {"sha256", "sha384", "sha512"}


@TABLE.rule(
    "web.keys",
    "keys are of a kind and size for the web",
    level=Level.POLICY,
    families={Family.WEB},
    source="BR 6.1.5, 6.1.6, 7.1.3.1",
    required="RSA of at least 2048 bits and a multiple of 8, or a named curve P-256, P-384, P-521",
    hint="make a new key (RSA 2048 or larger, or P-256) and have the certificate issued for it",
)
def web_keys(context: Context) -> Answer:
    return [
        Fault(index, f"{found.label!r} has {found.key_name}{'' if found.named_curve else ' with explicit parameters'}")
        for index, found in enumerate(context.path)
        if not _fits_web(found)
    ]


def _fits_web(certificate: Certificate) -> bool:
    match certificate.key:
        case rsa.RSAPublicKey(key_size=size):
            return size >= 2048 and size % 8 == 0
        case ec.EllipticCurvePublicKey(curve=curve):
            return curve.name in _WEB_CURVES and certificate.named_curve
    return False


@TABLE.rule(
    "apple.keys",
    "keys are large enough",
    level=Level.POLICY,
    families={Family.APPLE},
    source="Apple 103769; transport security, check 5",
    required="RSA of at least 2048 bits, or an elliptic curve of at least 256",
    hint="make a new key (RSA 2048 or larger, or P-256) and have the certificate issued for it",
)
def apple_keys(context: Context) -> Answer:
    if not context.policy.smallest_key:
        return Skipped("the transport policy waives it where forward secrecy is not required")
    return [
        Fault(index, f"{found.label!r} has {found.key_name}")
        for index, found in enumerate(context.path)
        if not _fits_apple(found)
    ]


def _fits_apple(certificate: Certificate) -> bool:
    match certificate.key:
        case rsa.RSAPublicKey(key_size=size):
            return size >= 2048
        case ec.EllipticCurvePublicKey(curve=curve):
            return curve.key_size >= 256
    return False


@TABLE.rule(
    "policy.signature-hash",
    "signatures use SHA-2",
    level=Level.POLICY,
    families={Family.WEB, Family.APPLE},
    source="Apple 103769; transport security, check 6; BR 7.1.3.2",
    required="SHA-256, SHA-384 or SHA-512 on every certificate below the anchor",
    hint="have the certificate issued anew with a SHA-256 signature",
)
def signature_hash(context: Context) -> Answer:
    return [
        Fault(index, f"{found.label!r} is signed with {found.signature_hash}")
        for index, found in context.issued()
        if found.signature_hash not in _SHA2
    ]
