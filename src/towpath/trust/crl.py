"""Certificate revocation lists (RFC 5280 §5, §6.3): full ones, also sharded, by reason, indirect; no deltas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import CRLEntryExtensionOID, ExtensionOID

from towpath.errors import PeerViolation
from towpath.trust.certificate import PARSE_FAULTS, Certificate, NameKey, name_key
from towpath.trust.signatures import signature_fault
from towpath.trust.standing import Standing, Status, lateness

__all__ = ["ALL_REASONS", "RevocationList"]

MAX_LIST = 64 << 20
ALL_REASONS = frozenset(x509.ReasonFlags) - {x509.ReasonFlags.unspecified, x509.ReasonFlags.remove_from_crl}

_Place = tuple[str, object]


class RevocationList:
    """One revocation list.

    ::

        RevocationList(Path("ca.crl").read_bytes()).standing(leaf, issuer, [issuer], at)
    """

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
        except PARSE_FAULTS as error:
            raise PeerViolation("crl", str(error)) from error
        found = self._extensions.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT)
        value = found.value if found is not None else None
        self._point = value if isinstance(value, x509.IssuingDistributionPoint) else None
        self.indirect = self._point is not None and self._point.indirect_crl
        some = self._point.only_some_reasons if self._point is not None else None
        self.reasons: frozenset[x509.ReasonFlags] = frozenset(some) if some is not None else ALL_REASONS

    def concerns(self, certificate: Certificate, issuer: Certificate) -> bool:
        """Whether it is for certificates of that issuer, of that kind and of that distribution point."""
        points = _points(certificate)
        # A certificate that names another issuer for its list says nothing good by its own issuer's.
        by_issuer = not points or any(not point.crl_issuer for point in points)
        named = any(self.issuer_key in _directory_keys(point.crl_issuer or ()) for point in points)
        if self.issuer_key == issuer.subject_key:
            if not by_issuer and not named:
                return False
        elif not (self.indirect and named):
            return False
        point = self._point
        if point is None:
            return True
        if (point.only_contains_ca_certs and not certificate.is_ca) or (
            point.only_contains_user_certs and certificate.is_ca
        ):
            return False
        places = set(_places(point.full_name, point.relative_name, self.raw.issuer))
        # One list of several covers the certificates that name its distribution point, and says nothing about others.
        return not places or any(place in places for place in _certificate_places(certificate))

    def standing(
        self, certificate: Certificate, issuer: Certificate, signers: Sequence[Certificate], at: datetime
    ) -> Standing:
        """Its word on a certificate that it `concerns`; `signers` are those who may have signed it."""
        fault = self._form_fault() or self.signature_fault(signers)
        if fault:
            return Standing(Status.UNUSABLE, fault)
        try:
            entry = self._entry(certificate, issuer)
            when = f"revoked at {entry.revocation_date_utc:%Y-%m-%d %H:%M:%S} UTC" if entry is not None else ""
        except PARSE_FAULTS as error:
            return Standing(Status.UNUSABLE, f"its entries cannot be read: {error}")
        if when:
            return Standing(Status.REVOKED, when)
        late = lateness(at, self.this_update, self.next_update)
        if late:
            return Standing(Status.UNUSABLE, late)
        return Standing(Status.GOOD, f"not on the list of {self.this_update:%Y-%m-%d %H:%M} UTC", self.next_update)

    def _entry(self, certificate: Certificate, issuer: Certificate) -> x509.RevokedCertificate | None:
        if not self.indirect and certificate.serial >= 0:
            return self.raw.get_revoked_certificate_by_serial_number(certificate.serial)
        # The look-up takes no negative number; and an entry of an indirect list is of the issuer named last before it.
        found = (entry for owner, entry in self._owned() if owner == issuer.subject_key)
        return next((entry for entry in found if entry.serial_number == certificate.serial), None)

    def _owned(self) -> Iterator[tuple[NameKey, x509.RevokedCertificate]]:
        owner = self.issuer_key
        for entry in self.raw:
            if self.indirect:
                for extension in entry.extensions:
                    if extension.oid == CRLEntryExtensionOID.CERTIFICATE_ISSUER:
                        owner = next(iter(_directory_keys(extension.value)), owner)
            yield owner, entry

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
        if self._point is not None and self._point.only_contains_attribute_certs:
            return "it is for attribute certificates"
        return ""

    def signature_fault(self, signers: Sequence[Certificate]) -> str:
        """Why none of the certificates signed it, or an empty text (RFC 5280 §6.3.3 (f), (g))."""
        fault = "no certificate of its issuer is at hand"
        for signer in signers:
            fault = self._signed_fault(signer)
            if not fault:
                return ""
        return fault

    def _signed_fault(self, signer: Certificate) -> str:
        if signer.key is None:
            return f"the key of {signer.label!r} cannot be read"
        try:
            parameters, digest = self.raw.signature_algorithm_parameters, self.raw.signature_hash_algorithm
        except PARSE_FAULTS as error:
            return f"its signature algorithm is not supported: {error}"
        fault = signature_fault(signer.key, self.raw.signature, self.raw.tbs_certlist_bytes, parameters, digest)
        if fault:
            return f"signed by another key: {fault}"
        if signer.key_usage is not None and not signer.key_usage.crl_sign:
            return f"the key usage of {signer.label!r} lacks cRLSign (RFC 5280 §6.3.3 (f))"
        return ""

    def serials(self) -> Iterable[int]:
        """The serial numbers it revokes."""
        return (entry.serial_number for entry in self.raw)


def _points(certificate: Certificate) -> Sequence[x509.DistributionPoint]:
    points = certificate.value(x509.CRLDistributionPoints)
    return tuple(points) if points is not None else ()


def _certificate_places(certificate: Certificate) -> Iterator[_Place]:
    for point in _points(certificate):
        owners = [name.value for name in point.crl_issuer or () if isinstance(name, x509.DirectoryName)]
        found = list(_places(point.full_name, point.relative_name, owners[0] if owners else certificate.issuer))
        yield from found or _places(point.crl_issuer, None, certificate.issuer)


def _places(
    full: Iterable[x509.GeneralName] | None, relative: x509.RelativeDistinguishedName | None, owner: x509.Name
) -> Iterator[_Place]:
    for name in full or ():
        if isinstance(name, x509.DirectoryName):
            yield "directory", name_key(name.value)
        else:
            yield type(name).__name__, name.value
    if relative is not None:
        yield "directory", name_key(x509.Name([*owner.rdns, relative]))


def _directory_keys(names: Iterable[x509.GeneralName]) -> list[NameKey]:
    return [name_key(name.value) for name in names if isinstance(name, x509.DirectoryName)]
