"""Pins: what a peer's chain must contain beyond being trusted. They only ever tighten."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towpath.errors import ConfigInvalid
from towpath.trust.certificate import Certificate

__all__ = ["Pins", "spki_pin"]


def spki_pin(certificate: Certificate) -> str:
    """The pin of a certificate's key: base64 of SHA-256 over the DER SubjectPublicKeyInfo (RFC 7469 §2.4)."""
    return base64.b64encode(certificate.spki_hash).decode("ascii")


@dataclass(frozen=True, slots=True)
class Pins:
    """Keys that the chain must show; a category that is given must match, an empty one is not asked.

    ::

        Pins.parse(authorities=["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="])
    """

    authorities: frozenset[bytes] = frozenset()
    """SPKI hashes; one issuer on the path, anchor included, must have one of them."""
    leaves: frozenset[bytes] = frozenset()
    """SPKI hashes; the leaf must have one of them."""
    certificates: frozenset[bytes] = frozenset()
    """SHA-256 of whole certificates; the leaf must be one of them."""

    @classmethod
    def parse(cls, *, authorities: Iterable[str] = (), leaves: Iterable[str] = (), where: str = "pins") -> Pins:
        """From base64 texts of 32 octets; raises `ConfigInvalid`."""
        return cls(
            frozenset(_decode(pin, where) for pin in authorities), frozenset(_decode(pin, where) for pin in leaves)
        )

    def __bool__(self) -> bool:
        return bool(self.authorities or self.leaves or self.certificates)

    def fault(self, path: Sequence[Certificate]) -> str:
        """What the path lacks, or an empty text."""
        leaf, *issuers = path
        if self.leaves and leaf.spki_hash not in self.leaves:
            return f"the leaf's key is {spki_pin(leaf)}, which is not pinned"
        if self.certificates and leaf.fingerprint not in self.certificates:
            return f"the leaf {leaf.fingerprint.hex()} is not on the list"
        if self.authorities and not any(issuer.spki_hash in self.authorities for issuer in issuers):
            return "no issuer on the path has a pinned key: " + ", ".join(spki_pin(issuer) for issuer in issuers)
        return ""


def _decode(text: str, where: str) -> bytes:
    try:
        digest = base64.b64decode(text.removeprefix("sha256/"), validate=True)
    except (binascii.Error, ValueError):
        digest = b""
    if len(digest) != 32:
        raise ConfigInvalid(
            where, f"{text!r} is not base64 of a SHA-256", "towpath trust HOST --json shows the pin of each certificate"
        )
    return digest
