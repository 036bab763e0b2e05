"""Revocation: what a stapled OCSP response, a revocation list or the local set says about one certificate."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from hashlib import sha1

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from towpath.errors import PeerViolation
from towpath.trust import der
from towpath.trust.certificate import PARSE_FAULTS, Certificate, load, name_key
from towpath.trust.signatures import issued_fault, signature_fault

__all__ = ["RevocationList", "RevocationSet", "Standing", "Status", "read_staple"]

MAX_STAPLE = 64 << 10
MAX_LIST = 64 << 20
MAX_RESPONDER_CERTIFICATES = 8

_PARSE_FAULTS = (*PARSE_FAULTS, NotImplementedError)


class Status(StrEnum):
    """What a source says about a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNUSABLE = "unusable"
    """The source concerns the certificate and cannot be relied on."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One source's word on one certificate; `until` is when it must be renewed."""

    status: Status
    detail: str
    until: datetime | None = None


def _timeliness(at: datetime, this_update: datetime, next_update: datetime | None) -> str:
    if at < this_update:
        return f"it is from {this_update:%Y-%m-%d %H:%M:%S} UTC, which is later than the time of the evaluation"
    if next_update is not None and at > next_update:
        return f"it was to be renewed by {next_update:%Y-%m-%d %H:%M:%S} UTC"
    return ""


def load_staple(data: bytes) -> ocsp.OCSPResponse:
    """Parses an OCSP response; raises `PeerViolation("ocsp")`."""
    if len(data) > MAX_STAPLE:
        raise PeerViolation("ocsp", f"{len(data)} octets, more than {MAX_STAPLE}")
    try:
        response = ocsp.load_der_ocsp_response(data)
        if response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL:
            _ = response.signature_hash_algorithm, response.certificates, list(response.responses)
    except _PARSE_FAULTS as error:
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
    except _PARSE_FAULTS as error:
        return Standing(Status.UNUSABLE, f"it cannot be read: {error}")
    return Standing(Status.UNUSABLE, "it is about another certificate")


def _single(single: ocsp.OCSPSingleResponse, at: datetime) -> Standing:
    late = _timeliness(at, single.this_update_utc, single.next_update_utc)
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


def _distribution_points(certificate: Certificate) -> list[x509.GeneralName]:
    points = certificate.value(x509.CRLDistributionPoints)
    return [name for point in points or () for name in point.full_name or ()]


class RevocationList:
    """One certificate revocation list (RFC 5280 §5), full and for its own issuer; others are named unusable."""

    def __init__(self, data: bytes) -> None:
        """Parses DER or PEM; raises `PeerViolation("crl")`."""
        if len(data) > MAX_LIST:
            raise PeerViolation("crl", f"{len(data)} octets, more than {MAX_LIST}")
        try:
            pem = data.lstrip().startswith(b"-----")
            self.raw = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
            self.issuer_key = name_key(self.raw.issuer)
            self._extensions = {extension.oid: extension for extension in self.raw.extensions}
            self.this_update = self.raw.last_update_utc
            self.next_update = self.raw.next_update_utc
        except _PARSE_FAULTS as error:
            raise PeerViolation("crl", str(error)) from error

    def standing(self, certificate: Certificate, issuer: Certificate, at: datetime) -> Standing | None:
        """Its word on `certificate`; `None` when it is another issuer's, or not about this kind of certificate."""
        if self.issuer_key != issuer.subject_key:
            return None
        if not self._in_scope(certificate):
            return None
        fault = self._form_fault() or self._signature_fault(issuer)
        if fault:
            return Standing(Status.UNUSABLE, fault)
        try:
            entry = self._entry(certificate.serial)
        except _PARSE_FAULTS as error:
            return Standing(Status.UNUSABLE, f"its entries cannot be read: {error}")
        if entry is not None:
            return Standing(Status.REVOKED, f"revoked at {entry.revocation_date_utc:%Y-%m-%d %H:%M:%S} UTC")
        late = _timeliness(at, self.this_update, self.next_update)
        if late:
            return Standing(Status.UNUSABLE, late)
        return Standing(Status.GOOD, f"not on the list of {self.this_update:%Y-%m-%d %H:%M} UTC", self.next_update)

    def _entry(self, serial: int) -> x509.RevokedCertificate | None:
        if serial >= 0:
            return self.raw.get_revoked_certificate_by_serial_number(serial)
        # The look-up takes no negative number, and there are certificates with one.
        return next((entry for entry in self.raw if entry.serial_number == serial), None)

    def _in_scope(self, certificate: Certificate) -> bool:
        point = self._point()
        if point is None:
            return True
        if (point.only_contains_ca_certs and not certificate.is_ca) or (
            point.only_contains_user_certs and certificate.is_ca
        ):
            return False
        # One list of several covers the certificates that name its distribution point, and says nothing about others.
        return point.full_name is None or any(name in point.full_name for name in _distribution_points(certificate))

    def _point(self) -> x509.IssuingDistributionPoint | None:
        found = self._extensions.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT)
        value = found.value if found is not None else None
        return value if isinstance(value, x509.IssuingDistributionPoint) else None

    def _form_fault(self) -> str:
        number = self._extensions.get(ExtensionOID.CRL_NUMBER)
        if number is None:
            return "it has no CRL number (RFC 5280 §5.2.3)"
        if number.critical:
            return "its CRL number is critical (RFC 5280 §5.2.3)"
        if self.next_update is None:
            return "it does not say when it is renewed (RFC 5280 §5.1.2.5)"
        for oid, extension in self._extensions.items():
            if extension.critical and oid != ExtensionOID.ISSUING_DISTRIBUTION_POINT:
                return f"it has the critical extension {oid.dotted_string}, which is not processed"
        point = self._point()
        if point is not None and (point.indirect_crl or point.only_some_reasons or point.only_contains_attribute_certs):
            return "it is indirect or holds only some reasons, which is not processed"
        if point is not None and point.relative_name is not None:
            return "its distribution point is named relative to the issuer, which is not processed"
        return ""

    def _signature_fault(self, issuer: Certificate) -> str:
        if issuer.key_usage is not None and not issuer.key_usage.crl_sign:
            return f"the key usage of {issuer.label!r} lacks cRLSign (RFC 5280 §6.3.3 (f))"
        if issuer.key is None:
            return f"the key of {issuer.label!r} cannot be read"
        try:
            parameters, digest = self.raw.signature_algorithm_parameters, self.raw.signature_hash_algorithm
        except _PARSE_FAULTS as error:
            return f"its signature algorithm is not supported: {error}"
        fault = signature_fault(issuer.key, self.raw.signature, self.raw.tbs_certlist_bytes, parameters, digest)
        return f"signed by another key: {fault}" if fault else ""

    def serials(self) -> Iterable[int]:
        """The serial numbers it revokes."""
        return (entry.serial_number for entry in self.raw)


@dataclass(frozen=True, slots=True)
class RevocationSet:
    """Certificates refused on this host: keys wherever they appear, and serial numbers of named issuers.

    Looked up in memory, so it costs a connection nothing; it is what lists fetched beforehand are turned into. ::

        RevocationSet.from_lists([(crl_octets, issuer)])
    """

    keys: frozenset[bytes] = frozenset()
    """SHA-256 of SubjectPublicKeyInfo."""
    serials: frozenset[tuple[bytes, int]] = frozenset()
    """SHA-256 of the issuer's SubjectPublicKeyInfo, and the serial number."""

    @classmethod
    def from_lists(cls, lists: Sequence[tuple[bytes, Certificate]], keys: Iterable[bytes] = ()) -> RevocationSet:
        """From revocation lists with the issuer of each; raises `PeerViolation` for a list its issuer did not sign."""
        serials: set[tuple[bytes, int]] = set()
        for data, issuer in lists:
            found = RevocationList(data)
            fault = found._signature_fault(issuer)
            if fault:
                raise PeerViolation("crl", fault)
            serials.update((issuer.spki_hash, serial) for serial in found.serials())
        return cls(frozenset(keys), frozenset(serials))

    def names(self, certificate: Certificate, issuer: Certificate | None) -> bool:
        """Whether the certificate is refused."""
        if certificate.spki_hash in self.keys:
            return True
        return issuer is not None and (issuer.spki_hash, certificate.serial) in self.serials
