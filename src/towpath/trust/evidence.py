"""What is known beside the chain: what the peer stapled, revocation lists, transparency logs, local revocations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from towpath.trust.revocation import RevocationSet
from towpath.trust.transparency import LogList

__all__ = ["NOTHING", "Evidence", "Fetch"]

Fetch = Callable[[str], bytes]
"""Gets the octets behind an http URL. It bounds its own time and size, and raises `OSError` when it cannot."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything optional about an evaluation; whatever is absent makes its rules *not checked*.

    ::

        Evidence(staple=stapled, crls=(Path("ca.crl").read_bytes(),), logs=LogList.parse(text))
    """

    staple: bytes | None = None
    """The OCSP response stapled for the leaf, DER."""
    asked_for_staple: bool = True
    """False where the TLS library could not ask for one: then a missing staple proves nothing."""
    scts: bytes | None = None
    """The SignedCertificateTimestampList of the TLS extension (RFC 6962 §3.3)."""
    crls: tuple[bytes, ...] = ()
    """Revocation lists, DER or PEM."""
    revoked: RevocationSet | None = None
    """Certificates refused here, whatever their authority says."""
    logs: LogList | None = None
    fetch: Fetch | None = None
    """How a missing issuer may be fetched; `None`: it may not."""


NOTHING = Evidence()
"""No evidence beside the chain."""
