"""Signatures over sets of records, and keys behind digests: each true, or `Bogus` with the reason (RFC 8914)."""

from __future__ import annotations

import base64
import contextlib
import time
from typing import Any, NamedTuple, cast

import dns.dnssec
import dns.exception
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from towpath.errors import PeerViolation

__all__ = [
    "BOGUS", "DNSKEY_MISSING", "EXPIRED", "INDETERMINATE", "NOT_YET_VALID", "NSEC_MISSING", "RRSIGS_MISSING",
    "TOO_MANY_ITERATIONS", "UNSUPPORTED_ALGORITHM", "UNSUPPORTED_DIGEST", "Bogus", "Budget", "Signed", "find",
    "read", "signers", "supported", "try_algorithms", "usable", "verify", "vouched_for",
]  # fmt: skip

UNSUPPORTED_ALGORITHM, UNSUPPORTED_DIGEST, INDETERMINATE, BOGUS, EXPIRED, NOT_YET_VALID = 1, 2, 5, 6, 7, 8
DNSKEY_MISSING, RRSIGS_MISSING, NSEC_MISSING, TOO_MANY_ITERATIONS = 9, 10, 12, 27
"""Codes of Extended DNS Errors (RFC 8914 section 4, and its registry)."""
_ALGORITHMS = frozenset((5, 7, 8, 10, 13, 14, 15, 16))
"""RSA with SHA-1, SHA-256 and SHA-512, ECDSA P-256 and P-384, Ed25519, Ed448 (RFC 8624 section 3.1)."""
_DIGESTS = frozenset((1, 2, 4))
"""SHA-1, SHA-256, SHA-384."""
_NO_SIGNATURE = base64.b64encode(bytes(64)).decode()
_P256 = bytes.fromhex(
    "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
_P384 = bytes.fromhex(
    "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7"
    "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f"
)
"""The base points of the two curves: keys that everybody knows the secret of (SEC 2 sections 2.4.2, 2.5.1)."""
_MOST_TRIES = 48
_SAME_TAG = 4
_MOST_KEYS = 64


class Bogus(PeerViolation):
    """An answer that its zone did not sign so: why, and the code of an Extended DNS Error."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__("dnssec", reason)
        self.code = code
        self.reason = reason


class Budget:
    """How many signatures one answer may make us check: some answers are made to keep a validator busy."""

    def __init__(self, most: int = _MOST_TRIES) -> None:
        self._left = most

    def spend(self, count: int = 1) -> None:
        self._left -= count
        if self._left < 0:
            raise Bogus(BOGUS, "more signatures have to be checked than an honest answer has")


class Signed(NamedTuple):
    """A set of records whose signature is good: of how many labels, and for how many seconds it holds."""

    labels: int
    ttl: int


def read(data: bytes) -> dns.message.Message:
    """A message as dnspython has it. Raises `PeerViolation` for one that does not parse."""
    try:
        return dns.message.from_wire(data, ignore_trailing=False)
    except (dns.exception.DNSException, ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise PeerViolation("dns-record", f"{type(error).__name__}: {error}") from None


def find(section: list[dns.rrset.RRset], owner: dns.name.Name, kind: int, covers: int = 0) -> dns.rrset.RRset | None:
    """A set of records of a section."""
    for rrset in section:
        if rrset.rdtype == kind and rrset.covers == covers and rrset.name == owner:
            return rrset
    return None


def signers(section: list[dns.rrset.RRset], rrset: dns.rrset.RRset) -> list[dns.name.Name]:
    """Who claims to have signed a set: names at or above its own, the closest first."""
    found = find(section, rrset.name, dns.rdatatype.RRSIG, rrset.rdtype)
    names = {cast(Any, rdata).signer for rdata in found or ()}
    return sorted((name for name in names if rrset.name.is_subdomain(name)), key=len, reverse=True)


def supported(algorithm: int) -> bool:
    """Whether signatures of an algorithm can be checked here."""
    return algorithm in _ALGORITHMS


def verify(
    section: list[dns.rrset.RRset],
    rrset: dns.rrset.RRset,
    zone: dns.name.Name,
    keys: dns.rrset.RRset,
    now: float,
    budget: Budget,
) -> Signed:
    """Checks that a key of `zone` signed `rrset`, whose signatures stand beside it. Raises `Bogus`."""
    what = f"{dns.rdatatype.to_text(rrset.rdtype)} of {_text(rrset.name)}"
    found = find(section, rrset.name, dns.rdatatype.RRSIG, rrset.rdtype)
    signatures = [cast(Any, rdata) for rdata in found or () if cast(Any, rdata).signer == zone]
    if not signatures:
        raise Bogus(RRSIGS_MISSING, f"{what} is not signed by {_text(zone)}")
    trouble = Bogus(DNSKEY_MISSING, f"{what} is signed by a key that {_text(zone)} does not have")
    for signature in signatures:
        if now > signature.expiration:
            trouble = Bogus(EXPIRED, f"the signature of {what} expired on {_date(signature.expiration)}")
            continue
        if now < signature.inception:
            trouble = Bogus(NOT_YET_VALID, f"the signature of {what} holds from {_date(signature.inception)} on")
            continue
        candidates = [
            key
            for key in keys
            if cast(Any, key).algorithm == signature.algorithm
            and dns.dnssec.key_id(cast(Any, key)) == signature.key_tag
        ]
        if not candidates:
            continue
        if len(candidates) > _SAME_TAG:
            raise Bogus(BOGUS, f"{_text(zone)} has {len(candidates)} keys of one tag")
        budget.spend(len(candidates))
        try:
            dns.dnssec.validate_rrsig(rrset, signature, {zone: keys}, now=now)
        except (dns.exception.DNSException, ValueError) as error:
            trouble = Bogus(BOGUS, f"the signature of {what} is wrong ({error})")
            continue
        ttl = min(rrset.ttl, signature.original_ttl, int(signature.expiration - now))
        return Signed(signature.labels, max(0, ttl))
    raise trouble


def usable(anchors: list[Any]) -> tuple[list[Any], Bogus | None]:
    """The DS and DNSKEY records that can be used here, and why none can."""
    kept = []
    trouble = None
    for record in anchors:
        if not supported(record.algorithm):
            trouble = Bogus(UNSUPPORTED_ALGORITHM, f"its keys are of algorithm {int(record.algorithm)}")
        elif record.rdtype == dns.rdatatype.DS and int(record.digest_type) not in _DIGESTS:
            trouble = trouble or Bogus(UNSUPPORTED_DIGEST, f"its digest is of type {int(record.digest_type)}")
        else:
            kept.append(record)
    return kept, trouble if not kept else None


def try_algorithms() -> None:
    """Checks a signature of each algorithm, so that what does it is loaded. None of them is good."""
    rsa = b"\x03\1\0\1\xc0" + bytes(126) + b"\1"
    keys = {8: rsa, 13: _P256, 14: _P384, 15: b"\1" + bytes(31), 16: bytes(57)}
    kind = dns.rdatatype.DNSKEY
    for algorithm, key in keys.items():
        record = dns.rdata.from_wire(dns.rdataclass.IN, kind, b"\1\0\3" + bytes((algorithm,)) + key, 0, 4 + len(key))
        made = dns.rrset.RRset(dns.name.root, dns.rdataclass.IN, kind)
        made.add(record)
        words = f"DNSKEY {algorithm} 0 1 2 1 {dns.dnssec.key_id(cast(Any, record))} . {_NO_SIGNATURE}"
        signature = dns.rrset.from_text(dns.name.root, 1, "IN", "RRSIG", words)
        with contextlib.suppress(Bogus):
            verify([signature], made, dns.name.root, made, 1.5, Budget())


def vouched_for(zone: dns.name.Name, keys: dns.rrset.RRset, anchors: list[Any], budget: Budget) -> dns.rrset.RRset:
    """Those keys of a zone that a DS or DNSKEY record above it names. Raises `Bogus` where none is."""
    if len(keys) > _MOST_KEYS:
        raise Bogus(BOGUS, f"{_text(zone)} has {len(keys)} keys")
    found = dns.rrset.RRset(zone, keys.rdclass, keys.rdtype)
    for key in keys:
        if any(_names(anchor, zone, cast(Any, key), budget) for anchor in anchors):
            found.add(key, keys.ttl)
    if not found:
        raise Bogus(DNSKEY_MISSING, f"no key of {_text(zone)} is the one that the zone above it, or an anchor, names")
    return found


def _names(anchor: Any, zone: dns.name.Name, key: Any, budget: Budget) -> bool:
    if anchor.rdtype == dns.rdatatype.DNSKEY:
        return bool(anchor == key)
    if anchor.algorithm != key.algorithm or anchor.key_tag != dns.dnssec.key_id(key):
        return False
    budget.spend()
    try:
        return bool(dns.dnssec.make_ds(zone, key, anchor.digest_type, validating=True) == anchor)
    except (dns.exception.DNSException, ValueError):
        return False


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
