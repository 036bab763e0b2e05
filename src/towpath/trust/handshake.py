"""The seam to TLS libraries: what a peer presented in a handshake, and the alert that fits a refusal.

Nothing here connects; the objects of the libraries are given, and only looked at.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Protocol, runtime_checkable

from towpath.errors import PeerViolation
from towpath.trust.anchors import Anchors
from towpath.trust.evaluation import evaluate
from towpath.trust.evidence import Evidence
from towpath.trust.policy import Policy
from towpath.trust.reference import Reference
from towpath.trust.result import Finding, Level, TrustResult

__all__ = ["Alert", "Presented", "ShowsChain", "alert_for", "judge"]


@runtime_checkable
class ShowsChain(Protocol):
    """The objects of `ssl` from Python 3.13 on."""

    def get_unverified_chain(self) -> list[bytes]: ...


class Alert(IntEnum):
    """TLS alerts about certificates (RFC 8446 §6.2)."""

    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    UNKNOWN_CA = 48
    BAD_CERTIFICATE_STATUS_RESPONSE = 113


_ALERTS = {
    "x509.anchor": Alert.UNKNOWN_CA,
    "x509.validity": Alert.CERTIFICATE_EXPIRED,
    "x509.revoked-here": Alert.CERTIFICATE_REVOKED,
    "x509.revocation-lists": Alert.CERTIFICATE_REVOKED,
    "x509.staple": Alert.BAD_CERTIFICATE_STATUS_RESPONSE,
    "x509.must-staple": Alert.BAD_CERTIFICATE_STATUS_RESPONSE,
    "server.usage": Alert.UNSUPPORTED_CERTIFICATE,
    "server.usage-nesting": Alert.UNSUPPORTED_CERTIFICATE,
}


def alert_for(failure: Finding) -> Alert:
    """The alert that says to a peer why its certificate was refused."""
    found = _ALERTS.get(failure.id)
    if found is not None:
        return found
    return Alert.CERTIFICATE_UNKNOWN if failure.level is Level.POLICY else Alert.BAD_CERTIFICATE


@dataclass(frozen=True, slots=True)
class Presented:
    """What a peer presented: its chain, and what came beside it."""

    chain: tuple[bytes, ...]
    """DER, leaf first; empty when the peer showed no certificate."""
    staple: bytes | None = None
    scts: bytes | None = None
    asked_for_staple: bool = False

    @classmethod
    def from_ssl(cls, peer: ShowsChain | ssl.SSLObject | ssl.SSLSocket) -> Presented:
        """From the standard library, or what looks like it; it can show no staple and no timestamps."""
        if isinstance(peer, ShowsChain):
            return cls(tuple(peer.get_unverified_chain() or ()))
        # Before Python 3.13 the method is on the inner object alone, and gives certificate objects.
        inner: Any = getattr(peer, "_sslobj", None)
        found = inner.get_unverified_chain() if inner is not None else None
        return cls(tuple(ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in found or ()))

    @classmethod
    def from_pyopenssl(cls, connection: Any, *, staple: bytes | None = None) -> Presented:
        """From a pyOpenSSL `Connection`; `staple` is what its OCSP callback was given (empty: asked, none came)."""
        from cryptography.hazmat.primitives.serialization import Encoding

        found = connection.get_peer_cert_chain(as_cryptography=True) or ()
        chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in found)
        return cls(chain, staple or None, asked_for_staple=staple is not None)

    @classmethod
    def from_aioquic(cls, tls: Any) -> Presented:
        """From the TLS context of an aioquic connection, which asks for no staple."""
        from cryptography.hazmat.primitives.serialization import Encoding

        leaf = tls._peer_certificate
        found = (leaf, *tls._peer_certificate_chain) if leaf is not None else ()
        chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in found)
        return cls(tuple(dict.fromkeys(chain)))


def judge(
    presented: Presented,
    reference: Reference | str | None,
    policy: Policy,
    anchors: Anchors,
    *,
    evidence: Evidence,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> TrustResult:
    """`evaluate()` for a handshake; raises `PeerViolation` when the peer presented no certificate."""
    if not presented.chain:
        raise PeerViolation("certificate", "the peer presented none")
    whole = replace(evidence, staple=presented.staple, scts=presented.scts, asked_for_staple=presented.asked_for_staple)
    return evaluate(presented.chain, reference, policy, now(), anchors, evidence=whole)
