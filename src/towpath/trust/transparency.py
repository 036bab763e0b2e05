"""Certificate Transparency (RFC 6962): log lists, signed timestamps, and whether a log signed them."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key
from cryptography.x509.oid import ExtensionOID

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.trust import der
from towpath.trust.certificate import Certificate
from towpath.trust.signatures import signature_fault
from towpath.trust.stapling import load_staple

__all__ = ["Log", "LogList", "Timestamp", "embedded", "parse_list", "timestamp_fault"]

MAX_TIMESTAMPS = 64
MAX_LIST_OCTETS = 0xFFFF
MAX_LOG_LIST = 16 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SHA256_ECDSA = b"\x04\x03"
_SHA256_RSA = b"\x04\x01"


@dataclass(frozen=True, slots=True)
class Timestamp:
    """One signed certificate timestamp, version 1."""

    log_id: bytes
    milliseconds: int
    extensions: bytes
    algorithm: bytes
    """Two octets: hash and signature algorithm of TLS 1.2."""
    signature: bytes

    @property
    def at(self) -> datetime:
        return _EPOCH + timedelta(milliseconds=min(self.milliseconds, 253_402_300_799_000))


def parse_list(data: bytes) -> tuple[Timestamp, ...]:
    """A SignedCertificateTimestampList (RFC 6962 §3.3); raises `PeerViolation("sct")`."""
    if len(data) > MAX_LIST_OCTETS + 2:
        raise PeerViolation("sct", f"{len(data)} octets")
    return tuple(_timestamp(item) for item in _vectors(_vector(data, 0, whole=True)) if item[:1] == b"\x00")


def _vector(data: bytes, offset: int, *, whole: bool = False) -> bytes:
    if offset + 2 > len(data):
        raise PeerViolation("sct", "a length is cut short")
    stop = offset + 2 + int.from_bytes(data[offset : offset + 2], "big")
    if stop > len(data) or (whole and stop != len(data)):
        raise PeerViolation("sct", "a length does not fit")
    return data[offset + 2 : stop]


def _vectors(data: bytes) -> Iterator[bytes]:
    offset = count = 0
    while offset < len(data):
        item = _vector(data, offset)
        count += 1
        if not item or count > MAX_TIMESTAMPS:
            raise PeerViolation("sct", "an empty timestamp" if not item else f"more than {MAX_TIMESTAMPS}")
        yield item
        offset += 2 + len(item)


def _timestamp(item: bytes) -> Timestamp:
    if len(item) < 43:
        raise PeerViolation("sct", "a timestamp is cut short")
    extensions = _vector(item, 41)
    rest = 43 + len(extensions)
    if rest + 2 > len(item):
        raise PeerViolation("sct", "a timestamp is cut short")
    return Timestamp(
        item[1:33],
        int.from_bytes(item[33:41], "big"),
        extensions,
        item[rest : rest + 2],
        _vector(item[rest + 2 :], 0, whole=True),
    )


def embedded(certificate: Certificate) -> tuple[Timestamp, ...]:
    """The timestamps inside a certificate; raises `PeerViolation("sct")` when they cannot be read."""
    extension = certificate.extensions.get(ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS.dotted_string)
    if extension is None:
        return ()
    return parse_list(der.octets(extension.value.public_bytes()))


@dataclass(frozen=True)
class Log:
    """One log: its key, who runs it, and from when until when a browser counted it."""

    id: bytes
    description: str
    operator: str
    key: bytes
    state: str
    """``usable``, ``qualified``, ``readonly``, ``retired``, ``pending`` or ``rejected``."""
    since: datetime
    """When it came into that state."""
    tiled: bool
    """It serves the static API rather than RFC 6962's."""

    @cached_property
    def public_key(self) -> PublicKeyTypes:
        return load_der_public_key(self.key)

    def approved_at(self, at: datetime) -> bool:
        """Counts now: qualified, usable or read-only, and not retired by `at`."""
        if self.state == "retired":
            return at < self.since
        return self.state in {"usable", "qualified", "readonly"}

    def once_approved(self, timestamp: Timestamp) -> bool:
        """Counts for a timestamp made while it was approved."""
        return self.state in {"usable", "qualified", "readonly"} or (
            self.state == "retired" and timestamp.at < self.since
        )


@dataclass(frozen=True)
class LogList:
    """The logs that count, from a list in the JSON form that browsers publish (version 3).

    ::

        LogList.parse(Path("log_list.json").read_bytes())
    """

    logs: dict[bytes, Log]

    @classmethod
    def parse(cls, data: bytes | str, where: str = "log list") -> LogList:
        """Raises `ConfigInvalid` for anything but such a list."""
        if len(data) > MAX_LOG_LIST:
            raise ConfigInvalid(where, f"is larger than {MAX_LOG_LIST >> 20} MiB")
        try:
            document = json.loads(data)
            logs = [
                _log(entry, operator["name"], tiled)
                for operator in document["operators"]
                for kind, tiled in (("logs", False), ("tiled_logs", True))
                for entry in operator.get(kind, ())
            ]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ConfigInvalid(
                where, f"no log list in version 3 form: {error!r}", "browsers publish log_list.json"
            ) from None
        return cls({log.id: log for log in logs})

    def changes(self) -> list[datetime]:
        """When the standing of a log changes."""
        return [log.since for log in self.logs.values() if log.state == "retired"]


def _log(entry: dict[str, Any], operator: str, tiled: bool) -> Log:
    state, details = next(iter(entry["state"].items())) if entry.get("state") else ("pending", {})
    since = datetime.fromisoformat(details["timestamp"]) if "timestamp" in details else _EPOCH
    if since.tzinfo is None:
        raise ValueError("a timestamp without its zone")
    try:
        log_id, key = base64.b64decode(entry["log_id"], validate=True), base64.b64decode(entry["key"], validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if sha256(key).digest() != log_id:
        raise ValueError(f"log {entry.get('description', '')!r}: its id is not the hash of its key")
    return Log(log_id, str(entry.get("description", "")), str(operator), key, str(state), since, tiled)


def timestamp_fault(stamp: Timestamp, log: Log, leaf: Certificate, issuer: Certificate, *, precertificate: bool) -> str:
    """Why the log did not sign this timestamp for this certificate, or an empty text (RFC 6962 §3.2)."""
    try:
        if precertificate:
            body = leaf.raw.tbs_precertificate_bytes
            entry = b"\x00\x01" + issuer.spki_hash + len(body).to_bytes(3, "big") + body
        else:
            entry = b"\x00\x00" + len(leaf.der).to_bytes(3, "big") + leaf.der
        key = log.public_key
    except (ValueError, OverflowError, UnsupportedAlgorithm) as error:
        return f"cannot be checked: {error}"
    signed = (
        b"\x00\x00"
        + stamp.milliseconds.to_bytes(8, "big")
        + entry
        + len(stamp.extensions).to_bytes(2, "big")
        + stamp.extensions
    )
    digest = hashes.SHA256()
    if isinstance(key, ec.EllipticCurvePublicKey) and stamp.algorithm == _SHA256_ECDSA:
        return signature_fault(key, stamp.signature, signed, ec.ECDSA(digest), digest)
    if isinstance(key, rsa.RSAPublicKey) and stamp.algorithm == _SHA256_RSA:
        return signature_fault(key, stamp.signature, signed, padding.PKCS1v15(), digest)
    return "its algorithm is not that of the log's key"


def from_ocsp(data: bytes) -> tuple[Timestamp, ...]:
    """The timestamps of an OCSP response's single extensions; empty where it has none or cannot be read."""
    try:
        response = load_staple(data)
        for extension in response.single_extensions:
            if isinstance(extension.value, x509.SignedCertificateTimestamps):
                return parse_list(der.octets(extension.value.public_bytes()))
    except (PeerViolation, ValueError):
        return ()
    return ()
