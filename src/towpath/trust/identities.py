"""Mutual TLS: what a server demands of clients, and which identity a client offers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from cryptography import x509

from towpath.trust.anchors import Anchors
from towpath.trust.certificate import Certificate, NameKey, load, load_all, name_key
from towpath.trust.evaluation import evaluate
from towpath.trust.evidence import NOTHING, Evidence
from towpath.trust.pins import Pins
from towpath.trust.policy import Policy
from towpath.trust.result import TrustResult

__all__ = ["ClientPolicy", "choose"]


class Offered(Protocol):
    """An identity: DER certificates, leaf first, with whatever else its owner keeps beside them."""

    @property
    def chain(self) -> Sequence[bytes]: ...


_Identity = TypeVar("_Identity", bound=Offered)


@dataclass(frozen=True)
class ClientPolicy:
    """What a server demands of a client's certificate: an authority, or a place on a list, or both.

    ::

        ClientPolicy(Anchors.pem("clients-ca.pem")).judge(chain, at)
        ClientPolicy.listed([first, second])
    """

    anchors: Anchors
    policy: Policy = Policy.rfc5280.for_clients()

    @classmethod
    def listed(cls, certificates: Iterable[bytes | x509.Certificate | Certificate]) -> ClientPolicy:
        """Only these certificates, whoever issued them; they are their own anchors."""
        found = [load(certificate) for certificate in certificates]
        pins = Pins(certificates=frozenset(certificate.fingerprint for certificate in found))
        return cls(Anchors(private=found), Policy.basic.for_clients().pinned(pins))

    def judge(
        self,
        chain: Sequence[bytes | x509.Certificate | Certificate],
        at: datetime,
        *,
        evidence: Evidence = NOTHING,
    ) -> TrustResult:
        """The verdict on a client's chain, leaf first."""
        return evaluate(chain, None, self.policy, at, self.anchors, evidence=evidence)

    def acceptable_authorities(self) -> list[bytes]:
        """The DER names to send as ``certificate_authorities`` (RFC 8446 §4.2.4), so that clients can choose."""
        return [anchor.subject_der for anchor in self.anchors.certificates()]


def choose(identities: Iterable[_Identity], acceptable: Sequence[bytes], at: datetime) -> _Identity | None:
    """The identity for a server that named these authorities (DER names); an empty list admits any.

    One that is in date is preferred, among those the one that stays valid longest; `None` when none fits.
    """
    wanted = {_authority_key(name) for name in acceptable}
    fitting = [identity for identity in identities if not wanted or wanted & _issuers(identity)]
    return max(fitting, key=lambda identity: _preference(load(identity.chain[0]), at), default=None)


def _issuers(identity: Offered) -> set[NameKey | bytes]:
    return {certificate.issuer_key for certificate in load_all(identity.chain)}


def _preference(leaf: Certificate, at: datetime) -> tuple[bool, datetime]:
    return leaf.not_before <= at <= leaf.not_after, leaf.not_after


def _authority_key(der: bytes) -> NameKey | bytes:
    try:
        return name_key(x509.Name.from_bytes(der))
    except ValueError:
        # A name that cannot be read matches nothing, and must not make the list look empty.
        return der
