"""One certificate and the facts that rules ask of it, each found once.

The parsing is `cryptography`'s; what it hides (the octets of names, the inner algorithm identifier, the serial number
as it was encoded) is read beside it, so that a certificate it would warn about can still be judged.
"""

from __future__ import annotations

import base64
import binascii
import unicodedata
import warnings
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from towpath.errors import PeerViolation
from towpath.trust import der
from towpath.trust.lazy import lazy

__all__ = [
    "MAX_CERTIFICATE",
    "PARSE_FAULTS",
    "Certificate",
    "NameKey",
    "encoded_blocks",
    "load",
    "load_all",
    "load_many",
    "name_key",
]

MAX_CERTIFICATE = 1 << 20
"""Octets. The largest certificates seen in public logs are near 100 kB; pathological tests reach 300 kB."""

NameKey = tuple[frozenset[tuple[str, str]], ...]
"""A distinguished name as RFC 5280 §7.1 compares it: case and runs of spaces do not matter, string types neither."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
PARSE_FAULTS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)
"""What `cryptography` raises for octets that it will not read; its warnings count where warnings are errors."""


def name_key(name: x509.Name) -> NameKey:
    """The comparison form of a distinguished name."""
    return tuple(frozenset((part.oid.dotted_string, _fold(part.value)) for part in rdn) for rdn in name.rdns)


def _fold(value: str | bytes) -> str:
    if isinstance(value, bytes):
        return value.hex()
    if not value.isascii():
        value = unicodedata.normalize("NFKC", value)
    return " ".join(value.casefold().split())


class Certificate:
    """A parsed certificate.

    `load()` and `load_many()` make them::

        leaf, *others = load_many(Path("chain.pem").read_bytes())
        leaf.label, leaf.not_after, leaf.key_bits
    """

    def __init__(self, encoded: bytes) -> None:
        """Parses one DER certificate; raises `PeerViolation("certificate")`."""
        if len(encoded) > MAX_CERTIFICATE:
            raise PeerViolation("certificate", f"{len(encoded)} octets, more than {MAX_CERTIFICATE}")
        self.der = encoded
        self._walk()
        try:
            self.raw = self._parse()
            self.not_before: datetime = self.raw.not_valid_before_utc
            self.not_after: datetime = self.raw.not_valid_after_utc
            self.subject = self.raw.subject
            self.issuer = self.raw.issuer
        except PARSE_FAULTS as error:
            raise PeerViolation("certificate", str(error)) from error

    def _parse(self) -> x509.Certificate:
        if self.serial > 0:
            return x509.load_der_x509_certificate(self.der)
        # Old roots have serial 0: the loader warns, and whether that matters is for a rule to say.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(self.der)

    def _walk(self) -> None:
        data = self.der
        outer = der.element(data, 0, len(data))
        if outer.tag != der.SEQUENCE or outer.stop != len(data):
            raise PeerViolation("certificate", "not one DER sequence")
        tbs = der.element(data, outer.body, outer.stop)
        algorithm = der.element(data, tbs.stop, outer.stop)
        serial = der.element(data, tbs.body, tbs.stop)
        if serial.tag == 0xA0:
            serial = der.element(data, serial.stop, tbs.stop)
        if serial.tag != der.INTEGER or serial.body == serial.stop:
            raise PeerViolation("certificate", "the serial number is missing")
        inner = der.element(data, serial.stop, tbs.stop)
        issuer = der.element(data, inner.stop, tbs.stop)
        validity = der.element(data, issuer.stop, tbs.stop)
        subject = der.element(data, validity.stop, tbs.stop)
        spki = der.element(data, subject.stop, tbs.stop)
        self.serial = int.from_bytes(data[serial.body : serial.stop], "big", signed=True)
        self.serial_octets = serial.stop - serial.body
        self.algorithms_agree = data[inner.start : inner.stop] == data[algorithm.start : algorithm.stop]
        self.issuer_der = data[issuer.start : issuer.stop]
        self.subject_der = data[subject.start : subject.stop]
        self.spki = data[spki.start : spki.stop]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Certificate) and other.der == self.der

    def __hash__(self) -> int:
        return hash(self.der)

    def __repr__(self) -> str:
        return f"<Certificate {self.label!r} until {self.not_after:%Y-%m-%d}>"

    @lazy
    def label(self) -> str:
        """What a person calls it: the common name, else the first alternative name, else the whole subject."""
        return common_name(self.subject) or next(iter(self.dns_names), "") or self.subject.rfc4514_string() or "no name"

    @lazy
    def issuer_label(self) -> str:
        """What a person calls its issuer."""
        return common_name(self.issuer) or self.issuer.rfc4514_string() or "no name"

    @lazy
    def fingerprint(self) -> bytes:
        """SHA-256 of the DER octets."""
        return sha256(self.der).digest()

    @lazy
    def spki_hash(self) -> bytes:
        """SHA-256 of the DER SubjectPublicKeyInfo: what pins compare (RFC 7469 §2.4)."""
        return sha256(self.spki).digest()

    @lazy
    def subject_key(self) -> NameKey:
        return name_key(self.subject)

    @lazy
    def issuer_key(self) -> NameKey:
        return self.subject_key if self.issuer_der == self.subject_der else name_key(self.issuer)

    @lazy
    def self_issued(self) -> bool:
        """Issuer and subject are one name (RFC 5280 §6.1)."""
        return self.issuer_key == self.subject_key

    @lazy
    def _parsed_extensions(self) -> tuple[dict[str, x509.Extension[x509.ExtensionType]], str]:
        try:
            return {extension.oid.dotted_string: extension for extension in self.raw.extensions}, ""
        except PARSE_FAULTS as error:
            return {}, str(error)

    @lazy
    def extensions(self) -> dict[str, x509.Extension[x509.ExtensionType]]:
        """Dotted object identifier to extension; empty when they cannot be parsed: see `extensions_fault`."""
        return self._parsed_extensions[0]

    @lazy
    def extensions_fault(self) -> str:
        """Why the extensions cannot be parsed, or an empty text."""
        return self._parsed_extensions[1]

    def extension(self, kind: type[_Extension]) -> x509.Extension[_Extension] | None:
        """The extension of that class, if the certificate has one."""
        found = self.extensions.get(kind.oid.dotted_string)
        return cast("x509.Extension[_Extension] | None", found)

    def value(self, kind: type[_Extension]) -> _Extension | None:
        """The value of the extension of that class, if the certificate has one."""
        found = self.extension(kind)
        return found.value if found is not None else None

    @lazy
    def version(self) -> x509.Version:
        return self.raw.version

    @lazy
    def is_ca(self) -> bool:
        """Basic constraints say that it may sign certificates."""
        constraints = self.value(x509.BasicConstraints)
        return constraints is not None and constraints.ca

    @lazy
    def path_length(self) -> int | None:
        constraints = self.value(x509.BasicConstraints)
        return constraints.path_length if constraints is not None else None

    @lazy
    def key_usage(self) -> x509.KeyUsage | None:
        return self.value(x509.KeyUsage)

    @lazy
    def extended_usages(self) -> frozenset[str] | None:
        """Dotted purposes of the extended key usage, or `None` without one."""
        usage = self.value(x509.ExtendedKeyUsage)
        return frozenset(purpose.dotted_string for purpose in usage) if usage is not None else None

    @lazy
    def subject_key_id(self) -> bytes | None:
        identifier = self.value(x509.SubjectKeyIdentifier)
        return identifier.digest if identifier is not None else None

    @lazy
    def authority_key_id(self) -> bytes | None:
        identifier = self.value(x509.AuthorityKeyIdentifier)
        return identifier.key_identifier if identifier is not None else None

    @lazy
    def alternative_names(self) -> tuple[x509.GeneralName, ...]:
        names = self.value(x509.SubjectAlternativeName)
        return tuple(names) if names is not None else ()

    @lazy
    def dns_names(self) -> tuple[str, ...]:
        """The DNS names of the alternative names, as they are written there."""
        return tuple(name.value for name in self.alternative_names if isinstance(name, x509.DNSName))

    @lazy
    def _loaded_key(self) -> tuple[CertificatePublicKeyTypes | None, str]:
        try:
            return self.raw.public_key(), ""
        except PARSE_FAULTS as error:
            return None, str(error)

    @lazy
    def key(self) -> CertificatePublicKeyTypes | None:
        """The public key, or `None` when this build cannot read it: see `key_fault`."""
        return self._loaded_key[0]

    @property
    def key_fault(self) -> str:
        return self._loaded_key[1]

    @lazy
    def key_name(self) -> str:
        """Kind and size for people: ``RSA-2048``, ``secp256r1``, ``Ed25519``."""
        match self.key:
            case rsa.RSAPublicKey() as key:
                return f"RSA-{key.key_size}"
            case ec.EllipticCurvePublicKey() as key:
                return key.curve.name
            case dsa.DSAPublicKey() as key:
                return f"DSA-{key.key_size}"
            case ed25519.Ed25519PublicKey():
                return "Ed25519"
            case ed448.Ed448PublicKey():
                return "Ed448"
        return "a key that cannot be read"

    @lazy
    def named_curve(self) -> bool:
        """False for an elliptic-curve key whose curve is spelled out instead of named (RFC 5480 §2.1.1)."""
        if not isinstance(self.key, ec.EllipticCurvePublicKey):
            return True
        algorithm = der.element(self.spki, der.element(self.spki, 0, len(self.spki)).body, len(self.spki))
        return [part.tag for part in der.children(self.spki, algorithm)] == [der.OBJECT_IDENTIFIER] * 2

    @lazy
    def signature_hash(self) -> str:
        """``sha256``, ``sha1``, ...; ``none`` for algorithms that hash inside (Ed25519), ``unknown`` otherwise."""
        try:
            found = self.raw.signature_hash_algorithm
        except UnsupportedAlgorithm:
            return "unknown"
        return found.name if found is not None else "none"

    @lazy
    def lifetime(self) -> int:
        """Seconds of validity, both ends included (RFC 5280 §4.1.2.5, BR 6.3.2)."""
        return int((self.not_after - self.not_before).total_seconds()) + 1

    @lazy
    def unknown_critical(self) -> tuple[str, ...]:
        """Dotted identifiers of critical extensions that no rule here processes."""
        return tuple(oid for oid, found in self.extensions.items() if found.critical and oid not in PROCESSED)

    @lazy
    def issuer_urls(self) -> tuple[str, ...]:
        """Where the certificate says its issuer's certificate can be fetched (RFC 5280 §4.2.2.1, caIssuers)."""
        access = self.value(x509.AuthorityInformationAccess)
        if access is None:
            return ()
        return tuple(
            entry.access_location.value
            for entry in access
            if entry.access_method == x509.oid.AuthorityInformationAccessOID.CA_ISSUERS
            and isinstance(entry.access_location, x509.UniformResourceIdentifier)
        )

    def pem(self) -> str:
        return self.raw.public_bytes(Encoding.PEM).decode("ascii")


PROCESSED = frozenset(
    oid.dotted_string
    for oid in (
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.POLICY_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.TLS_FEATURE,
    )
)
"""Extensions whose meaning is enforced by some rule, so that a critical mark on them is honoured."""


def common_name(name: x509.Name) -> str:
    """The last common name of a distinguished name, or an empty text."""
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    value = found[-1].value if found else ""
    return value if isinstance(value, str) else ""


def load(source: bytes | x509.Certificate | Certificate) -> Certificate:
    """One certificate from DER or PEM octets, or from `cryptography`'s class; raises `PeerViolation`."""
    if isinstance(source, Certificate):
        return source
    if isinstance(source, x509.Certificate):
        return Certificate(source.public_bytes(Encoding.DER))
    if source.lstrip().startswith(b"-----"):
        found = load_many(source)
        if len(found) != 1:
            raise PeerViolation("certificate", f"{len(found)} certificates where one is needed")
        return found[0]
    return Certificate(source)


def load_many(data: bytes, *, limit: int = 10_000) -> list[Certificate]:
    """Every certificate of a PEM text, or the one of a DER file; raises `PeerViolation` when there is none."""
    return [Certificate(block) for block in encoded_blocks(data, limit=limit)]


def encoded_blocks(data: bytes, *, limit: int = 10_000) -> list[bytes]:
    """The DER octets in a PEM text, or a DER file as it is; raises `PeerViolation` for a PEM text without any."""
    if not data.lstrip().startswith(b"-----") and b"-----BEGIN" not in data:
        return [data]
    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    found: list[bytes] = []
    offset = data.find(begin)
    while offset >= 0:
        stop = data.find(end, offset)
        if stop < 0:
            raise PeerViolation("certificate", "a PEM block without its end line")
        try:
            found.append(base64.b64decode(b"".join(data[offset + len(begin) : stop].split()), validate=True))
        except binascii.Error as error:
            raise PeerViolation("certificate", f"PEM block {len(found) + 1}: {error}") from error
        if len(found) > limit:
            raise PeerViolation("certificate", f"more than {limit} certificates in one file")
        offset = data.find(begin, stop)
    if not found:
        raise PeerViolation("certificate", "no CERTIFICATE block in the PEM text")
    return found


def load_all(sources: Sequence[bytes | x509.Certificate | Certificate]) -> list[Certificate]:
    """`load()` for each of a chain."""
    return [load(source) for source in sources]
