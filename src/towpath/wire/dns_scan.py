"""DNS messages as they lie: where a question ends, where lifetimes stand, and answers with either changed in place.

For caches that keep answers as bytes. Meaning is `towpath.wire.dns`; here only what must be known to hand the same
bytes to the next who asks: RFC 1035 section 4, RFC 2181 section 8, RFC 2308 section 5, RFC 6891, RFC 8482.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from towpath.errors import PeerViolation
from towpath.wire import dns_message as m

__all__ = [
    "MOST_TTL",
    "Plain",
    "Scanned",
    "aged",
    "bare_question",
    "error_answer",
    "minimal_any",
    "not_a_question",
    "plain_answer",
    "scan",
    "validated",
]

MOST_TTL = 0x7FFFFFFF
"""A lifetime with the highest bit set counts as 0 (RFC 2181 section 8)."""

_QR, _RA, _RD, _CD, _TC, _AD = 0x8000, 0x0080, 0x0100, 0x0010, 0x0200, 0x0020
_PROOFS = (46, 47, 50)
"""RRSIG, NSEC, NSEC3."""
_OPCODE = 0x7800
_FORMERR, _NOTIMP = 1, 4
_EDE = 15
_OWN_PAYLOAD = 1232
_HINFO = 13
_ANY_TTL = 3600
_TO_QUESTION = 0xC00C
_RECORD = struct.Struct("!HHHIH")
_WORDS = struct.Struct("!6H")
_LIFETIME = struct.Struct("!I")


class Scanned(NamedTuple):
    """An answer without its OPT record, ready to be kept.

    `body` is everything after the id. `offsets` are where lifetimes stand in `body`; `ttl` is how many seconds all of
    it may be kept: the least of the answer's own lifetimes, for an absence what its SOA says, else 0. `rcode` has the
    bits of EDNS in it. `errors` are the Extended DNS Error options, as they stood in the OPT.
    """

    body: bytes
    offsets: tuple[int, ...]
    ttl: int
    rcode: int
    truncated: bool
    errors: bytes


class Plain(NamedTuple):
    """The addresses of an answer that has nothing else in it: packed, each with its lifetime in seconds."""

    scanned: Scanned
    addresses: list[tuple[bytes, int]]


def plain_answer(data: bytes, end: int) -> Plain | None:
    """Reads the commonest answer in one pass; `None` for any other, which `scan` reads.

    It has one question that ends at `end`, no authorities, no additional record but OPT at the very end, and all its
    answers are A or AAAA records (class IN) of the name that was asked for.
    """
    size = len(data)
    if size < end:
        return None
    _, flags, questions, answers, authorities, additionals = _WORDS.unpack_from(data)
    if questions != 1 or authorities or additionals > 1 or not answers or not flags & _QR:
        return None
    at = end
    least = MOST_TTL
    offsets: list[int] = []
    addresses: list[tuple[bytes, int]] = []
    unpack = _RECORD.unpack_from
    for _ in range(answers):
        if at + 12 > size:
            return None
        owner, kind, klass, ttl, length = unpack(data, at)
        at += 12
        if owner != _TO_QUESTION or klass != m.IN:
            return None
        if not ((kind == m.A and length == 4) or (kind == m.AAAA and length == 16)) or at + length > size:
            return None
        if ttl > MOST_TTL:
            ttl = 0
        if ttl < least:
            least = ttl
        offsets.append(at - 8)
        addresses.append((data[at : at + length], ttl))
        at += length
    rcode, errors = flags & 0xF, b""
    body = data[2:at]
    if additionals:
        if at + 11 > size or data[at] or data[at + 1 : at + 3] != b"\0\x29":
            return None
        rcode |= data[at + 5] << 4
        stop = at + 11 + (data[at + 9] << 8 | data[at + 10])
        if stop != size:
            return None
        errors = _errors(data, at + 11, stop)
        body = data[2:10] + b"\0\0" + data[12:at]
    elif at != size:
        return None
    return Plain(Scanned(body, tuple(offsets), least, rcode, bool(flags & _TC), errors), addresses)


def scan(data: bytes) -> Scanned:
    """Reads any answer with one question. Raises `PeerViolation` for one whose sections do not parse."""
    reader = m.Reader(data)
    header = reader.header()
    if not header.flags & _QR:
        raise PeerViolation("dns-not-an-answer", "a query")
    if header.questions != 1:
        raise PeerViolation("dns-counts", f"{header.questions} questions")
    reader.question()
    offsets: list[int] = []
    least, rcode, errors = MOST_TTL, header.flags & 0xF, b""
    soa: int | None = None
    option: tuple[int, int] | None = None
    for section, count in enumerate(header[3:]):
        for _ in range(count):
            start = reader.offset
            record = reader.record()
            ttl = record.ttl if record.ttl <= MOST_TTL else 0
            if record.type == m.OPT:
                if section != 2 or option is not None or record.owner:
                    raise PeerViolation("dns-edns", "two OPT records, or one that stands elsewhere")
                option = start, record.end
                rcode |= record.ttl >> 20 & 0xFF0
                errors = _errors(data, record.start, record.end)
                continue
            offsets.append(record.start - 8)
            if section == 0:
                least = min(least, ttl)
            elif section == 1 and record.type == m.SOA and soa is None:
                soa = min(ttl, _minimum(data, record))
    if reader.offset != len(data):
        raise PeerViolation("dns-trailing", f"{len(data) - reader.offset} bytes")
    absent = not header.answers or rcode == 3
    keep = (min(least, soa) if soa is not None else 0) if absent else least
    body = data[2:]
    if option is not None:
        body, offsets = _without(data, option, offsets)
    return Scanned(body, tuple(offsets), keep, rcode, bool(header.flags & _TC), errors)


def _minimum(data: bytes, record: m.Section) -> int:
    if record.end - record.start < 22:
        raise PeerViolation("dns-record", "a SOA that is too short")
    found = int.from_bytes(data[record.end - 4 : record.end], "big")
    return found if found <= MOST_TTL else 0


def _without(data: bytes, option: tuple[int, int], offsets: list[int]) -> tuple[bytes, list[int]]:
    """The message without its OPT record; where one follows it, written anew, for pointers may lead behind it."""
    start, end = option
    more = int.from_bytes(data[10:12], "big") - 1
    if end == len(data):
        return data[2:10] + more.to_bytes(2, "big") + data[12:start], offsets
    reader = m.Reader(data)
    header = reader.header()._replace(additionals=more)
    writer = m.Writer(header)
    writer.question(*reader.question())
    moved = []
    for _ in range(header.answers + header.authorities + more + 1):
        record = reader.record()
        if record.type == m.OPT:
            continue
        parts = reader.rdata(record)
        rdata = b"".join(part if isinstance(part, bytes) else m.flat(part) for part in parts)
        writer.record(record.owner, record.type, record.klass, record.ttl, rdata)
        moved.append(len(writer.out) - len(rdata) - 8)
    return writer.message()[2:], moved


def _errors(data: bytes, at: int, end: int) -> bytes:
    """The Extended DNS Error options (RFC 8914) among the options of an OPT record."""
    found = b""
    while at + 4 <= end:
        code, size = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
        if at + 4 + size > end:
            break
        if code == _EDE:
            found += data[at : at + 4 + size]
        at += 4 + size
    return found


def validated(data: bytes, *, authentic: bool, dnssec: bool, most_ttl: int) -> bytes:
    """An answer that was validated, as who asked may have it: without what was not, and with the AD bit or without it.

    What remains are the answers and what proves an absence, for those who ask for it (`dnssec`) with signatures and
    NSEC records (RFC 4035 section 3.2.1); no lifetime is longer than `most_ttl`. The OPT record stays.
    """
    reader = m.Reader(data)
    header = reader.header()
    question = reader.question()
    sections: list[list[m.Section]] = []
    for section, count in enumerate(header[3:]):
        records = [reader.record() for _ in range(count)]
        sections.append([one for one in records if _remains(one, section, question[1], dnssec=dnssec)])
    flags = header.flags & ~_AD | (_AD if authentic else 0)
    writer = m.Writer(m.Header(header.id, flags, 1, *map(len, sections)))
    writer.question(*question)
    for record in (record for section in sections for record in section):
        parts = reader.rdata(record)
        rdata = b"".join(part if isinstance(part, bytes) else m.flat(part) for part in parts)
        ttl = record.ttl if record.type == m.OPT else min(record.ttl if record.ttl <= MOST_TTL else 0, most_ttl)
        writer.record(record.owner, record.type, record.klass, ttl, rdata)
    return writer.message()


def _remains(record: m.Section, section: int, asked: int, *, dnssec: bool) -> bool:
    if record.type == m.OPT or section == 2:
        return record.type == m.OPT and section == 2
    if section == 1 and record.type not in (m.SOA, *_PROOFS):
        return False
    return dnssec or record.type == asked or record.type not in _PROOFS


def aged(body: bytes, offsets: tuple[int, ...], seconds: int, least: int = 0) -> bytes:
    """`body` (of `Scanned`) with every lifetime `seconds` shorter, never below `least`."""
    out = bytearray(body)
    for offset in offsets:
        (ttl,) = _LIFETIME.unpack_from(out, offset)
        _LIFETIME.pack_into(out, offset, max(least, (ttl if ttl <= MOST_TTL else 0) - seconds))
    return bytes(out)


def bare_question(
    name: bytes, kind_class: bytes, identity: int, *, dnssec: bool, checking_disabled: bool, ad: bool
) -> bytes:
    """A query made anew: recursion desired, EDNS with 1,232 bytes and no option, so nothing of the asker's is in it.

    `name` is the wire form of the name, `kind_class` the four bytes after it. No client subnet (RFC 7871), no cookie.
    """
    flags = _RD | (_CD if checking_disabled else 0) | (0x20 if ad else 0)
    head = _WORDS.pack(identity, flags, 1, 0, 0, 1)
    option = b"\0\0\x29" + _OWN_PAYLOAD.to_bytes(2, "big") + (b"\0\0\x80\0" if dnssec else b"\0\0\0\0") + b"\0\0"
    return head + name + kind_class + option


def error_answer(data: bytes, rcode: int) -> bytes | None:
    """An answer without a word to a message that cannot be served; `None` for what must not be answered.

    Answers, and what has no whole header, stay unanswered: two servers would talk to each other for ever.
    """
    if len(data) < 12 or data[2] & 0x80:
        return None
    flags = _QR | _RA | (data[2] << 8 | data[3]) & (_OPCODE | _RD) | rcode
    return data[:2] + flags.to_bytes(2, "big") + bytes(8)


def not_a_question(data: bytes, violation: PeerViolation) -> bytes | None:
    """The answer to what `parse_query` refused: FORMERR, or NOTIMP for another opcode; `None` as `error_answer`."""
    return error_answer(data, _NOTIMP if violation.fault == "dns-opcode" else _FORMERR)


def minimal_any(data: bytes, end: int, flags: int) -> bytes:
    """The answer to a question of type ANY: one record that says so (RFC 8482 section 4.2)."""
    rdata = b"\x07RFC8482\0"
    head = data[:2] + _WORDS.pack(0, _QR | _RA | flags & (_RD | _CD), 1, 1, 0, 0)[2:]
    return head + data[12:end] + _RECORD.pack(_TO_QUESTION, _HINFO, m.IN, _ANY_TTL, len(rdata)) + rdata
