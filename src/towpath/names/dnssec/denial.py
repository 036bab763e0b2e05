"""Proofs that something is not there: NSEC (RFC 4034, RFC 4035 section 5.4) and NSEC3 (RFC 5155 section 8).

Only records whose signature was found good come here, and only those of one zone.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import dns.dnssec
import dns.name
import dns.rdatatype
import dns.rrset

__all__ = ["MOST_ITERATIONS", "Delegation", "Denial", "Proof"]

MOST_ITERATIONS = 150
"""Rounds of hashing from which on a zone counts as not signed (RFC 9276 section 3.2)."""

Delegation: TypeAlias = Literal["unsigned", "none", "absent"]
"""What a missing DS record means: an unsigned zone begins there, no zone does, or there is no such name."""
Proof: TypeAlias = Literal["proven", "opt-out"]
"""An absence, or one in a stretch of names where unsigned zones are left out."""

_NS, _CNAME, _SOA, _DNAME, _DS = (
    dns.rdatatype.NS,
    dns.rdatatype.CNAME,
    dns.rdatatype.SOA,
    dns.rdatatype.DNAME,
    dns.rdatatype.DS,
)


class _Link(NamedTuple):
    """One NSEC or NSEC3 record: a stretch of names, or of hashes, without anything between its ends."""

    begin: Any
    end: Any
    types: frozenset[int]
    opt_out: bool

    @property
    def cut(self) -> bool:
        """Its owner is a delegation, seen from above."""
        return _NS in self.types and _SOA not in self.types


class Denial:
    """What the NSEC and NSEC3 records of `zone` say of names in it."""

    def __init__(self, zone: dns.name.Name, rrsets: Sequence[dns.rrset.RRset]) -> None:
        self.zone = zone
        self.too_costly = False
        """Whether hashes of more than `MOST_ITERATIONS` rounds are among them."""
        self._plain: list[_Link] = []
        self._hashed: list[_Link] = []
        self._salt: bytes | None = None
        self._iterations = 0
        self._hashes: dict[dns.name.Name, bytes] = {}
        for rrset in rrsets:
            for rdata in rrset:
                if rrset.rdtype == dns.rdatatype.NSEC:
                    self._plain.append(_Link(rrset.name, cast(Any, rdata).next, _types(rdata), False))
                else:
                    self._add_hashed(rrset.name, cast(Any, rdata))

    def _add_hashed(self, owner: dns.name.Name, rdata: Any) -> None:
        if rdata.algorithm != 1 or rdata.flags & ~1 or owner.parent() != self.zone:
            return  # of an unknown kind, which proves nothing (RFC 5155 section 8.2)
        if rdata.iterations > MOST_ITERATIONS:
            self.too_costly = True
            return
        if self._salt is None:
            self._salt, self._iterations = rdata.salt, rdata.iterations
        if (rdata.salt, rdata.iterations) != (self._salt, self._iterations):
            return
        begin = owner.labels[0].lower()
        end = base64.b32hexencode(rdata.next).rstrip(b"=").lower()
        self._hashed.append(_Link(begin, end, _types(rdata), bool(rdata.flags)))

    def no_data(self, name: dns.name.Name, kind: int) -> Proof | None:
        """The name exists without records of a type, by itself or by a wildcard."""
        own = self._at(name)
        if own is not None:
            return "proven" if _lacks(own, kind, at_root=name == dns.name.root) else None
        if self._hashed:
            return self._no_hashed_data(name, kind)
        covering = self._covering(name)
        if covering is None:
            return None
        if covering.end.is_subdomain(name):
            return "proven"  # nothing at the name itself, and something below it
        wildcard = self._at(_wildcard(self._closest(name, covering)))
        return "proven" if wildcard is not None and _lacks(wildcard, kind) else None

    def _no_hashed_data(self, name: dns.name.Name, kind: int) -> Proof | None:
        found = self._encloser(name)
        if found is None:
            return None
        encloser, covering = found
        wildcard = self._at(_wildcard(encloser))
        if wildcard is not None and _lacks(wildcard, kind):
            return "proven"
        return "opt-out" if kind == _DS and covering.opt_out else None

    def no_name(self, name: dns.name.Name) -> Proof | None:
        """There is no such name, and no wildcard that would stand for it."""
        if self._hashed:
            found = self._encloser(name)
            if found is None or self._covering(_wildcard(found[0])) is None:
                return None
            return "opt-out" if found[1].opt_out else "proven"
        covering = self._covering(name)
        if covering is None or covering.end.is_subdomain(name):
            return None
        return "proven" if self._covering(_wildcard(self._closest(name, covering))) is not None else None

    def no_closer(self, name: dns.name.Name, labels: int) -> bool:
        """A wildcard with so many labels behind its asterisk may stand for the name: nothing closer to it exists."""
        closer = dns.name.Name(name.labels[-(labels + 2) :])
        covering = self._covering(closer)
        return covering is not None and (bool(self._hashed) or not covering.end.is_subdomain(closer))

    def delegation(self, name: dns.name.Name) -> Delegation | None:
        """What it means that a name in the zone has no DS record; `None` where that is not proven."""
        own = self._at(name)
        if own is not None:
            if _DS in own.types or _SOA in own.types:
                return None  # it has one, or this was said by the zone below
            return "unsigned" if _NS in own.types else "none"
        if self._hashed:
            found = self._encloser(name)
            if found is None:
                return None
            if found[1].opt_out:
                return "unsigned"
            return "absent" if self.no_name(name) else ("none" if self.no_data(name, _DS) else None)
        if self.no_name(name):
            return "absent"
        return "none" if self.no_data(name, _DS) else None

    def _at(self, name: dns.name.Name) -> _Link | None:
        """The record of a name itself."""
        for link in self._plain:
            if link.begin == name:
                return link
        if self._hashed and name.is_subdomain(self.zone):
            digest = self._hash(name)
            for link in self._hashed:
                if link.begin == digest:
                    return link
        return None

    def _covering(self, name: dns.name.Name) -> _Link | None:
        """The record in whose stretch a name would stand. One of a delegation above it proves nothing (RFC 6840)."""
        for link in self._plain:
            above = name.is_subdomain(link.begin) and (link.cut or _DNAME in link.types)
            last = link.end == self.zone
            if name.is_subdomain(self.zone) and not above and link.begin < name and (last or name < link.end):
                return link
        if not self._hashed or not name.is_subdomain(self.zone):
            return None
        digest = self._hash(name)
        for link in self._hashed:
            if link.begin < link.end:
                if link.begin < digest < link.end:
                    return link
            elif digest > link.begin or digest < link.end:
                return link
        return None

    def _closest(self, name: dns.name.Name, covering: _Link) -> dns.name.Name:
        """The closest name above that exists, which an NSEC record shows by its two ends."""
        shared = max(name.fullcompare(end)[2] for end in (covering.begin, covering.end))
        return dns.name.Name(name.labels[-shared:])

    def _encloser(self, name: dns.name.Name) -> tuple[dns.name.Name, _Link] | None:
        """The closest name above that exists, and the record that covers the one below it (RFC 5155 section 8.3)."""
        closer = name
        while closer != self.zone:
            above = closer.parent()
            if not above.is_subdomain(self.zone):
                return None
            link = self._at(above)
            if link is not None:
                covering = self._covering(closer)
                if covering is None or link.cut or _DNAME in link.types:
                    return None
                return above, covering
            closer = above
        return None

    def _hash(self, name: dns.name.Name) -> bytes:
        found = self._hashes.get(name)
        if found is None:
            text = dns.dnssec.nsec3_hash(name, self._salt, self._iterations, 1)
            found = self._hashes[name] = text.lower().encode("ascii")
        return found


def _lacks(link: _Link, kind: int, *, at_root: bool = False) -> bool:
    """Whether a name's own record says that it has neither the type nor an alias."""
    if kind in link.types or _CNAME in link.types:
        return False
    if kind == _DS:
        return at_root or _SOA not in link.types
    return not link.cut


def _wildcard(name: dns.name.Name) -> dns.name.Name:
    return dns.name.Name((b"*", *name.labels)) if len(b"".join(name.labels)) + len(name.labels) < 253 else name


def _types(rdata: Any) -> frozenset[int]:
    found: set[int] = set()
    for window, bitmap in rdata.windows:
        for at, byte in enumerate(bitmap):
            found.update(window * 256 + at * 8 + bit for bit in range(8) if byte & 0x80 >> bit)
    return frozenset(found)
