"""The local set: certificates that this host refuses, whatever their authorities say."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from towpath.errors import PeerViolation
from towpath.trust.certificate import Certificate
from towpath.trust.crl import RevocationList

__all__ = ["RevocationSet"]


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
            fault = found.signature_fault([issuer])
            if fault:
                raise PeerViolation("crl", fault)
            serials.update((issuer.spki_hash, serial) for serial in found.serials())
        return cls(frozenset(keys), frozenset(serials))

    def names(self, certificate: Certificate, issuer: Certificate | None) -> bool:
        """Whether the certificate is refused."""
        if certificate.spki_hash in self.keys:
            return True
        return issuer is not None and (issuer.spki_hash, certificate.serial) in self.serials
