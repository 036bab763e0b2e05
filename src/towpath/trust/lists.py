"""Getting revocation lists from where certificates say they lie (RFC 5280 §4.2.1.13): asked for, bounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509

from towpath.errors import PeerViolation
from towpath.trust.certificate import Certificate
from towpath.trust.crl import RevocationList

__all__ = ["MAX_LISTS", "MAX_LIST_OCTETS", "fetch_lists"]

MAX_LISTS = 8
MAX_LIST_OCTETS = 16 << 20


def fetch_lists(path: Sequence[Certificate], fetch: Callable[[str], bytes]) -> tuple[bytes, ...]:
    """The lists of the issuers on a path, one for each certificate that names one; what cannot be had is left out.

    `fetch` gets the octets behind an http URL, bounds its own time and size, and raises `OSError`. At most eight lists
    of 16 MiB are taken. It is called outside of handshakes: the result is for `Evidence(crls=...)`. ::

        lists = fetch_lists(result.path, fetch)
        evaluate(chain, name, policy, at, anchors, evidence=Evidence(crls=lists))
    """
    found: dict[str, bytes] = {}
    for certificate in path[:-1]:
        for url in _urls(certificate):
            if url not in found and len(found) < MAX_LISTS:
                found[url] = _get(url, fetch)
            if found.get(url):
                break
    return tuple(data for data in found.values() if data)


def _urls(certificate: Certificate) -> list[str]:
    points = certificate.value(x509.CRLDistributionPoints)
    return [
        name.value
        for point in points or ()
        for name in point.full_name or ()
        if isinstance(name, x509.UniformResourceIdentifier) and name.value.startswith("http://")
    ][:2]


def _get(url: str, fetch: Callable[[str], bytes]) -> bytes:
    try:
        data = fetch(url)
        if len(data) <= MAX_LIST_OCTETS:
            RevocationList(data)
            return data
    except (OSError, PeerViolation):
        pass
    return b""
