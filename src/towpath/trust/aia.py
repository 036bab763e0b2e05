"""Fetching a missing issuer where a certificate says it lies (RFC 5280 §4.2.2.1): off by default, bounded, cached."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from cryptography.hazmat.primitives.serialization import pkcs7

from towpath.errors import PeerViolation
from towpath.trust.certificate import Certificate, load, load_many

__all__ = ["CachedFetch", "IssuerFetcher"]

MAX_FETCHES = 4
"""Of one evaluation: how many missing issuers, one above another, may be fetched."""
MAX_OCTETS = 1 << 20


class CachedFetch:
    """Remembers what a fetch gave, also that it gave nothing; shared between evaluations. ::

    Evidence(fetch=CachedFetch(fetch))
    """

    def __init__(self, fetch: Callable[[str], bytes], *, entries: int = 256) -> None:
        self._fetch = fetch
        self._entries = entries
        self._known: OrderedDict[str, bytes] = OrderedDict()

    def __call__(self, url: str) -> bytes:
        found = self._known.get(url)
        if found is None:
            try:
                found = self._fetch(url)
            except OSError:
                found = b""
            self._known[url] = found
            while len(self._known) > self._entries:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(url)
        return found


class IssuerFetcher:
    """Gives the issuers of a certificate from its caIssuers addresses; plain http only, so it needs no trust itself."""

    def __init__(self, fetch: Callable[[str], bytes]) -> None:
        self._fetch = fetch
        self._left = MAX_FETCHES
        self._known: dict[str, list[Certificate]] = {}

    def __call__(self, child: Certificate) -> list[Certificate]:
        found: list[Certificate] = []
        for url in child.issuer_urls[:2]:
            if not url.startswith("http://"):
                continue
            if url not in self._known:
                if self._left <= 0:
                    continue
                self._left -= 1
                self._known[url] = self._get(url)
            found += self._known[url]
        return found

    def _get(self, url: str) -> list[Certificate]:
        try:
            data = self._fetch(url)
        except OSError:
            return []
        if not data or len(data) > MAX_OCTETS:
            return []
        try:
            return load_many(data, limit=16)
        except PeerViolation:
            pass
        try:
            return [load(certificate) for certificate in pkcs7.load_der_pkcs7_certificates(data)[:16]]
        except (ValueError, TypeError, PeerViolation):
            return []
