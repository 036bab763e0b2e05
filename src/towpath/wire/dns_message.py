"""The parts of a DNS message: header, names, records (RFC 1035 section 4), and writing them back with compression.

A name is a tuple of labels as they came; `text` gives the form that policies compare.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from towpath.errors import Misuse, PeerViolation

__all__ = ["Header", "Labels", "Reader", "Section", "Writer", "flat", "labels_of", "text", "type_name", "type_number"]

Labels = tuple[bytes, ...]

A, NS, CNAME, SOA, PTR, MX, AAAA, SRV, OPT = 1, 2, 5, 6, 12, 15, 28, 33, 41
TLSA, SVCB, HTTPS, URI = 52, 64, 65, 256
IN = 1

_TYPES = {
    "A": A, "NS": NS, "CNAME": CNAME, "SOA": SOA, "PTR": PTR, "HINFO": 13, "MX": MX, "TXT": 16, "RP": 17,
    "AFSDB": 18, "AAAA": AAAA, "LOC": 29, "SRV": SRV, "NAPTR": 35, "CERT": 37, "DNAME": 39, "OPT": OPT, "DS": 43,
    "SSHFP": 44, "RRSIG": 46, "NSEC": 47, "DNSKEY": 48, "NSEC3": 50, "NSEC3PARAM": 51, "TLSA": TLSA, "SMIMEA": 53,
    "CDS": 59, "CDNSKEY": 60, "OPENPGPKEY": 61, "ZONEMD": 63, "SVCB": SVCB, "HTTPS": HTTPS, "SPF": 99, "TKEY": 249,
    "TSIG": 250, "IXFR": 251, "AXFR": 252, "ANY": 255, "URI": URI, "CAA": 257,
}  # fmt: skip
_TYPE_NAMES = {number: name for name, number in _TYPES.items()}

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789_-")
_ESCAPED = [chr(byte) if byte in _PLAIN else f"\\{byte:03d}" for byte in range(256)]

MAX_STEPS = 65536
"""How many labels and pointers one message may make us follow; an honest one of 64 KiB needs fewer."""
MAX_HOPS = 64
"""How many pointers one name may take; encoders use one, rarely two."""


def type_name(kind: int) -> str:
    """The mnemonic of a record type, or `TYPEnnn` (RFC 3597 section 5)."""
    return _TYPE_NAMES.get(kind) or f"TYPE{kind}"


def type_number(name: str) -> int:
    """The number of a mnemonic or of `TYPEnnn`, any case; raises `Misuse` for anything else."""
    name = name.upper()
    found = _TYPES.get(name)
    if found is not None:
        return found
    digits = name.removeprefix("TYPE")
    if digits != name and digits.isascii() and digits.isdigit() and len(digits) <= 5 and int(digits) <= 0xFFFF:
        return int(digits)
    raise Misuse(f"no DNS record type is called {name!r}")


def text(labels: Labels) -> str:
    """A name as policies compare it: lower case, no trailing dot, bytes outside [a-z0-9_-] as ``\\DDD``."""
    parts = []
    for label in labels:
        label = label.lower()
        if _PLAIN.issuperset(label):
            parts.append(label.decode("ascii"))
        else:
            parts.append("".join(_ESCAPED[byte] for byte in label))
    return ".".join(parts)


def labels_of(name: str) -> Labels:
    """The labels of a name as `text` writes it, also with a trailing dot or upper case; raises `Misuse`."""
    name = name.removesuffix(".")
    if not name:
        return ()
    labels = tuple(_unescape(part) for part in name.split("."))
    if any(not 0 < len(label) < 64 for label in labels) or sum(len(label) + 1 for label in labels) > 254:
        raise Misuse(f"not a domain name: {name[:80]!r}")
    return labels


def _unescape(part: str) -> bytes:
    found = bytearray()
    at = 0
    while at < len(part):
        if part[at] == "\\":
            digits = part[at + 1 : at + 4]
            if len(digits) < 3 or not (digits.isascii() and digits.isdigit()) or int(digits) > 255:
                raise Misuse(f"not a domain name label: {part[:80]!r}")
            found.append(int(digits))
            at += 4
        elif part[at].isascii():
            found += part[at].encode("ascii")
            at += 1
        else:
            raise Misuse(f"write the A-label of {part[:80]!r}")
    return bytes(found)


class Header(NamedTuple):
    """The first twelve bytes; counts are what the sender claims."""

    id: int
    flags: int
    questions: int
    answers: int
    authorities: int
    additionals: int


class Section(NamedTuple):
    """One record where it lies: its owner, its fields, and its data at `[start:end]` of the message."""

    owner: Labels
    type: int
    klass: int
    ttl: int
    start: int
    end: int


class Reader:
    """Walks one message. Every step is checked; the work is bounded whatever the bytes say."""

    __slots__ = ("_known", "_steps", "data", "offset")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0
        self._known: dict[int, Labels] = {}
        self._steps = 0

    def header(self) -> Header:
        if len(self.data) < 12:
            raise PeerViolation("dns-short", f"{len(self.data)} bytes")
        if len(self.data) > 0xFFFF:
            raise PeerViolation("dns-long", f"{len(self.data)} bytes")
        self.offset = 12
        return Header(*_HEADER.unpack_from(self.data))

    def name(self) -> Labels:
        """The name at the offset, which moves behind it. Pointers must go backwards, behind the header."""
        labels, self.offset = self.name_at(self.offset)
        return labels

    def name_at(self, offset: int) -> tuple[Labels, int]:
        """The name at an offset, and the offset after it."""
        data, end = self.data, len(self.data)
        labels: list[bytes] = []
        length, hops, after = 1, 0, -1
        start = lowest = offset
        while True:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise PeerViolation("dns-work", "more labels than an honest message has")
            if offset >= end:
                raise PeerViolation("dns-name", "runs past the end")
            size = data[offset]
            if size >= 0xC0:
                if offset + 2 > end:
                    raise PeerViolation("dns-name", "half a pointer")
                target = (size & 0x3F) << 8 | data[offset + 1]
                if after < 0:
                    after = offset + 2
                hops += 1
                if target >= lowest or target < 12 or hops > MAX_HOPS:
                    raise PeerViolation("dns-pointer", f"to {target} from {offset}")
                known = self._known.get(target)
                if known is not None:
                    labels.extend(known)
                    length += sum(len(label) + 1 for label in known)
                    break
                offset = lowest = target
                continue
            if size >= 0x40:
                raise PeerViolation("dns-label", f"type {size >> 6} at {offset}")
            if not size:
                if after < 0:
                    after = offset + 1
                break
            if offset + 1 + size > end:
                raise PeerViolation("dns-name", "runs past the end")
            length += size + 1
            if length > 255:
                break
            labels.append(data[offset + 1 : offset + 1 + size])
            offset += size + 1
        if length > 255:
            raise PeerViolation("dns-name", "over 255 bytes")
        found = tuple(labels)
        if data[start] >= 0xC0:
            # A whole name that is one pointer comes again with every record of an answer.
            self._known[(data[start] & 0x3F) << 8 | data[start + 1]] = found
        return found, after

    def question(self) -> tuple[Labels, int, int]:
        labels = self.name()
        if self.offset + 4 > len(self.data):
            raise PeerViolation("dns-question", "cut off")
        kind = self.data[self.offset] << 8 | self.data[self.offset + 1]
        klass = self.data[self.offset + 2] << 8 | self.data[self.offset + 3]
        self.offset += 4
        return labels, kind, klass

    def record(self) -> Section:
        labels = self.name()
        if self.offset + 10 > len(self.data):
            raise PeerViolation("dns-record", "cut off")
        kind, klass, ttl, size = _RECORD.unpack_from(self.data, self.offset)
        start = self.offset + 10
        if start + size > len(self.data):
            raise PeerViolation("dns-record", f"{size} bytes of data at {start} of {len(self.data)}")
        self.offset = start + size
        return Section(labels, kind, klass, ttl, start, self.offset)

    def rdata(self, record: Section) -> list[bytes | Labels]:
        """A record's data as bytes and names in order: what must be known to write it elsewhere."""
        layout = _LAYOUTS.get(record.type)
        if layout is None:
            return [self.data[record.start : record.end]]
        at = record.start + layout.before
        parts: list[bytes | Labels] = []
        if record.type == NAPTR:
            for _ in range(3):
                at += 1 + (self.data[at] if at < record.end else 0)
        if at > record.end:
            raise PeerViolation("dns-record", "data too short for its type")
        parts.append(self.data[record.start : at])
        for _ in range(layout.names):
            labels, at = self.name_at(at)
            if at > record.end:
                raise PeerViolation("dns-record", "a name runs past the data")
            parts.append(labels)
        parts.append(self.data[at : record.end])
        return parts


class _Layout(NamedTuple):
    """Where a type's data holds names that some sender may have compressed (RFC 1035, RFC 3597 section 4)."""

    before: int
    names: int


NAPTR = 35
_LAYOUTS = {
    **dict.fromkeys((NS, 3, 4, CNAME, 7, 8, 9, PTR, 39), _Layout(0, 1)),
    **dict.fromkeys((SOA, 14, 17), _Layout(0, 2)),
    **dict.fromkeys((MX, 18, 21), _Layout(2, 1)),
    24: _Layout(18, 1),
    26: _Layout(2, 2),
    30: _Layout(0, 1),
    SRV: _Layout(6, 1),
    NAPTR: _Layout(4, 1),
}


class Writer:
    """Writes a message. Owners are compressed; names inside data are not, which every reader understands."""

    __slots__ = ("_seen", "out")

    def __init__(self, header: Header) -> None:
        self.out = bytearray(_HEADER.pack(*header))
        self._seen: dict[Labels, int] = {}

    def name(self, labels: Labels) -> None:
        for at in range(len(labels)):
            known = self._seen.get(labels[at:])
            if known is not None:
                self.out += (0xC000 | known).to_bytes(2, "big")
                return
            if len(self.out) < 0x4000:
                self._seen[labels[at:]] = len(self.out)
            self.out.append(len(labels[at]))
            self.out += labels[at]
        self.out.append(0)

    def question(self, labels: Labels, kind: int, klass: int) -> None:
        self.name(labels)
        self.out += kind.to_bytes(2, "big") + klass.to_bytes(2, "big")

    def record(self, owner: Labels, kind: int, klass: int, ttl: int, rdata: bytes) -> None:
        self.name(owner)
        self.out += _RECORD.pack(kind, klass, ttl, len(rdata)) + rdata

    def message(self) -> bytes:
        """Raises `PeerViolation` ("dns-long") where decompressed data no longer fits a message."""
        if len(self.out) > 0xFFFF:
            raise PeerViolation("dns-long", f"{len(self.out)} bytes once rewritten")
        return bytes(self.out)


def flat(labels: Labels) -> bytes:
    """A name's bytes without compression."""
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
