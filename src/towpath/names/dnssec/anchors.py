"""Where trust begins: keys, or digests of keys, that are known before anything is asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from towpath.errors import ConfigInvalid

__all__ = ["ROOT", "Anchor", "parse_anchors"]

ROOT = (
    ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D",
    ". IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16",
)
"""The key signing keys of the root, of 2017 and 2024 (IANA, https://data.iana.org/root-anchors/root-anchors.xml)."""

_HINT = 'as in "lab.test. IN DS 12345 13 2 0a1b...", what dnssec-dsfromkey prints; a DNSKEY record does as well'


class Anchor(NamedTuple):
    """A DS or DNSKEY record that is believed, and the zone whose key it is."""

    zone: dns.name.Name
    record: dns.rdata.Rdata


def parse_anchors(texts: Iterable[str], where: str) -> tuple[Anchor, ...]:
    """Reads records as zone files have them (RFC 1035 section 5). Raises `ConfigInvalid`.

    Those of the root stand beside them, unless one of them is for the root.

    >>> found = parse_anchors(["lab.test. 3600 IN DS 7 13 2 " + "0a" * 32], "settings")
    >>> [str(anchor.zone) for anchor in found]
    ['lab.test.', '.', '.']
    """
    given = tuple(_anchor(text, where) for text in texts)
    if any(anchor.zone == dns.name.root for anchor in given):
        return given
    return given + tuple(_anchor(text, where) for text in ROOT)


def _anchor(text: str, where: str) -> Anchor:
    words = text.split()
    at = next((at for at, word in enumerate(words) if word.upper() in ("DS", "DNSKEY")), 0)
    if not at or any(not (word.isdigit() or word.upper() == "IN") for word in words[1:at]):
        raise ConfigInvalid(where, f"{text!r} is no trust anchor", _HINT)
    kind = dns.rdatatype.from_text(words[at])
    try:
        zone = dns.name.from_text(words[0])
        record = dns.rdata.from_text(dns.rdataclass.IN, kind, " ".join(words[at + 1 :]))
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigInvalid(where, f"{text!r} is no trust anchor: {error}", _HINT) from None
    return Anchor(zone, record)
