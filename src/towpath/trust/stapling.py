"""Stapled OCSP responses: what one says about a leaf, and whether it may be believed (RFC 6960)."""

from __future__ import annotations

import hmac
from datetime import datetime
from hashlib import sha1

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from towpath.errors import PeerViolation
from towpath.trust import der
from towpath.trust.certificate import PARSE_FAULTS, Certificate, load, name_key
from towpath.trust.signatures import issued_fault, signature_fault
from towpath.trust.standing import Standing, Status, lateness

__all__ = ["load_staple", "read_staple"]

MAX_STAPLE = 64 << 10
MAX_RESPONDER_CERTIFICATES = 8

_FAULTS = (*PARSE_FAULTS, NotImplementedError)


def load_staple(data: bytes) -> ocsp.OCSPResponse:
    """Parses an OCSP response; raises `PeerViolation("ocsp")`."""
    if len(data) > MAX_STAPLE:
        raise PeerViolation("ocsp", f"{len(data)} octets, more than {MAX_STAPLE}")
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL:
            _ = response.signature_hash_algorithm, response.certificates, list(response.responses)
    except _FAULTS as error:
        raise PeerViolation("ocsp", str(error)) from error
    return response


def read_staple(data: bytes, leaf: Certificate, issuer: Certificate, at: datetime) -> Standing:
    """What a stapled OCSP response says about `leaf` (RFC 6960 §3.2)."""
    try:
        response = load_staple(data)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return Standing(Status.UNUSABLE, f"the responder answered {response.response_status.name.lower()}")
        fault = _responder_fault(response, issuer, at)
        if fault:
            return Standing(Status.UNUSABLE, fault)
        for single in response.responses:
            if _is_about(single, leaf, issuer):
                return _single(single, at)
    except PeerViolation as error:
        return Standing(Status.UNUSABLE, str(error))
    except _FAULTS as error:
        return Standing(Status.UNUSABLE, f"it cannot be read: {error}")
    return Standing(Status.UNUSABLE, "it is about another certificate")


def _single(single: ocsp.OCSPSingleResponse, at: datetime) -> Standing:
    late = lateness(at, single.this_update_utc, single.next_update_utc)
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        # A revocation does not grow stale: RFC 6960 keeps it until the certificate would have expired.
        return Standing(Status.REVOKED, f"revoked at {single.revocation_time_utc:%Y-%m-%d %H:%M:%S} UTC")
    if late:
        return Standing(Status.UNUSABLE, late)
    if single.certificate_status is ocsp.OCSPCertStatus.UNKNOWN:
        return Standing(Status.UNUSABLE, "the responder does not know the certificate")
    return Standing(Status.GOOD, f"good as of {single.this_update_utc:%Y-%m-%d %H:%M} UTC", single.next_update_utc)


def _is_about(single: ocsp.OCSPSingleResponse, leaf: Certificate, issuer: Certificate) -> bool:
    if single.serial_number != leaf.serial:
        return False
    algorithm = single.hash_algorithm
    return hmac.compare_digest(single.issuer_name_hash, _digest(algorithm, issuer.subject_der)) and hmac.compare_digest(
        single.issuer_key_hash, _digest(algorithm, _key_bits(issuer))
    )


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    context = hashes.Hash(algorithm)
    context.update(data)
    return context.finalize()


def _key_bits(certificate: Certificate) -> bytes:
    spki = certificate.spki
    fields = der.children(spki, der.element(spki, 0, len(spki)))
    if len(fields) != 2 or fields[1].tag != der.BIT_STRING:
        raise PeerViolation("certificate", "a public key without its bit string")
    return spki[fields[1].body + 1 : fields[1].stop]


def _responder_fault(response: ocsp.OCSPResponse, issuer: Certificate, at: datetime) -> str:
    if not _signed_by(response, issuer):
        delegates = [load(certificate) for certificate in response.certificates[:MAX_RESPONDER_CERTIFICATES]]
        signer = next((delegate for delegate in delegates if _signed_by(response, delegate)), None)
        if signer is None:
            return "its signature verifies neither with the issuer's key nor with a certificate it carries"
        return _delegate_fault(signer, issuer, at)
    return ""


def _signed_by(response: ocsp.OCSPResponse, signer: Certificate) -> bool:
    key_hash, name = response.responder_key_hash, response.responder_name
    if key_hash is not None and key_hash != sha1(_key_bits(signer), usedforsecurity=False).digest():
        return False
    if name is not None and name_key(name) != signer.subject_key:
        return False
    digest = response.signature_hash_algorithm
    if signer.key is None:
        return False
    parameters: padding.PKCS1v15 | ec.ECDSA | None = None
    if isinstance(signer.key, rsa.RSAPublicKey):
        parameters = padding.PKCS1v15()
    elif isinstance(signer.key, ec.EllipticCurvePublicKey) and digest is not None:
        parameters = ec.ECDSA(digest)
    return not signature_fault(signer.key, response.signature, response.tbs_response_bytes, parameters, digest)


def _delegate_fault(signer: Certificate, issuer: Certificate, at: datetime) -> str:
    if signer.issuer_key != issuer.subject_key or issued_fault(signer, issuer):
        return f"its signer {signer.label!r} was not certified by the issuer"
    if ExtendedKeyUsageOID.OCSP_SIGNING.dotted_string not in (signer.extended_usages or ()):
        return f"its signer {signer.label!r} lacks the OCSP signing usage"
    if not signer.not_before <= at <= signer.not_after:
        return f"its signer {signer.label!r} is out of date"
    return ""
