"""DNS as a gatekeeper needs it: who is asked for, what was answered, refusals, answers without what may not pass.

RFC 1035, EDNS RFC 6891, Extended DNS Errors RFC 8914, service bindings RFC 9460. Everything here is a plain function
over one message (2 to 65,535 bytes, without the length prefix of TCP).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from towpath.errors import PeerViolation
from towpath.wire import dns_message as m
from towpath.wire.address import unpack
from towpath.wire.dns_build import Record, a, aaaa, answer, cname, https, query
from towpath.wire.dns_message import type_name, type_number
from towpath.wire.svcb import Binding

__all__ = [
    "Address",
    "Answer",
    "Question",
    "Record",
    "Screened",
    "a",
    "aaaa",
    "answer",
    "cname",
    "extended_error",
    "failure",
    "https",
    "parse_answer",
    "parse_query",
    "policy_name",
    "query",
    "refusal",
    "screen",
    "type_name",
    "type_number",
]

_QR, _AA, _TC, _RD, _RA, _AD, _CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
_OPCODE, _RCODE = 0x7800, 0x000F
_DO = 0x8000
_SERVFAIL, _NXDOMAIN = 2, 3
_EDE_OPTION = 15
_EDE_PROHIBITED = 18
_EDE_TEXT = 180
_OWN_PAYLOAD = 1232
_PREFIXED = frozenset((m.SVCB, m.HTTPS, m.SRV, m.TLSA, m.URI))


class Question(NamedTuple):
    """What one query asks. `name` is as `dns_message.text` writes it ("" is the root); `end` is the offset after it.

    `dnssec` is the DO bit (RFC 3225), `options` whether there are EDNS options.

    >>> parse_query(query("WWW.Example.test.", "AAAA", 7)).name
    'www.example.test'
    """

    id: int
    name: str
    type: int
    klass: int
    flags: int
    edns: bool
    payload_size: int
    end: int
    dnssec: bool = False
    options: bool = False


class Address(NamedTuple):
    """An address an answer gave, and for how many seconds."""

    address: str
    ttl: int


class Answer(NamedTuple):
    """What an answer says of the name that was asked for: nothing that hangs off another name is in it."""

    id: int
    rcode: int
    truncated: bool
    name: str
    type: int
    addresses: tuple[Address, ...]
    aliases: tuple[str, ...]


class Screened(NamedTuple):
    """An answer after `screen`: `dropped` lists the addresses that went, as text, in order of appearance."""

    data: bytes
    dropped: tuple[str, ...]
    ech_removed: bool


def parse_query(data: bytes) -> Question:
    """The one question of a query (QR 0, opcode QUERY). Raises `PeerViolation` for anything else."""
    reader = m.Reader(data)
    header = reader.header()
    if header.flags & _QR:
        raise PeerViolation("dns-not-a-query", "an answer")
    if header.flags & _OPCODE:
        raise PeerViolation("dns-opcode", f"{(header.flags & _OPCODE) >> 11}")
    if header.questions != 1 or header.answers or header.authorities:
        raise PeerViolation("dns-counts", f"{header.questions} questions, {header.answers} answers")
    labels, kind, klass = reader.question()
    end = reader.offset
    edns, payload, dnssec, options = False, 512, False, False
    for _ in range(header.additionals):
        record = reader.record()
        if record.type == m.OPT:
            if edns or record.owner:
                raise PeerViolation("dns-edns", "two OPT records, or one that belongs to a name")
            edns, payload = True, max(512, record.klass)
            dnssec, options = bool(record.ttl & _DO), record.end > record.start
    _at_end(reader)
    return Question(header.id, m.text(labels), kind, klass, header.flags, edns, payload, end, dnssec, options)


def parse_answer(data: bytes) -> Answer:
    """The addresses an answer gives to its question's name, along the name's own CNAME chain only.

    Hints of SVCB and HTTPS records count as addresses. An address's `ttl` is the least one on the way to it. An answer
    without exactly one question is a `PeerViolation`, as is one whose sections do not parse.
    """
    reader = m.Reader(data)
    header = reader.header()
    labels, kind, _klass = _one_question(reader, header)
    name = m.text(labels)
    records = [reader.record() for _ in range(header.answers)]
    rcode = header.flags & _RCODE
    for _ in range(header.authorities + header.additionals):
        record = reader.record()
        if record.type == m.OPT:
            rcode |= record.ttl >> 20 & 0xFF0
    _at_end(reader)
    cnames: dict[str, tuple[str, int]] = {}
    holders: list[tuple[str, m.Section]] = []
    for record in records:
        if record.klass != m.IN:
            continue
        owner = m.text(record.owner)
        if record.type == m.CNAME:
            target, end = reader.name_at(record.start)
            if end != record.end:
                raise PeerViolation("dns-record", "a CNAME of another length than its name")
            cnames.setdefault(owner, (m.text(target), record.ttl))
        elif record.type in (m.A, m.AAAA, m.SVCB, m.HTTPS):
            holders.append((owner, record))
    chain = _chain(name, cnames)
    found: dict[str, int] = {}
    for owner, record in holders:
        least = chain.get(owner)
        if least is None:
            continue
        ttl = min(least, record.ttl)
        for address in _addresses(data, record):
            found[address] = min(ttl, found.get(address, ttl))
    return Answer(
        header.id,
        rcode,
        bool(header.flags & _TC),
        name,
        kind,
        tuple(Address(address, ttl) for address, ttl in found.items()),
        tuple(chain)[1:],
    )


def _at_end(reader: m.Reader) -> None:
    if reader.offset != len(reader.data):
        raise PeerViolation("dns-trailing", f"{len(reader.data) - reader.offset} bytes")


def _one_question(reader: m.Reader, header: m.Header) -> tuple[m.Labels, int, int]:
    if not header.flags & _QR:
        raise PeerViolation("dns-not-an-answer", "a query")
    if header.questions != 1:
        raise PeerViolation("dns-counts", f"{header.questions} questions")
    return reader.question()


def _chain(name: str, cnames: dict[str, tuple[str, int]]) -> dict[str, int]:
    """Each name from the asked one along its aliases, with the least TTL on the way; a loop ends where it closes."""
    ttl = 0x7FFFFFFF
    chain = {name: ttl}
    while name in cnames:
        name, own = cnames[name]
        ttl = min(ttl, own)
        if name in chain:
            break
        chain[name] = ttl
    return chain


def _addresses(data: bytes, record: m.Section) -> list[str]:
    if record.type in (m.SVCB, m.HTTPS):
        return [text for _key, text in Binding.parse(data[record.start : record.end]).hints()]
    return [_address(data, record)]


def _address(data: bytes, record: m.Section) -> str:
    if record.end - record.start != (4 if record.type == m.A else 16):
        raise PeerViolation("dns-address", f"{type_name(record.type)} of {record.end - record.start} bytes")
    return unpack(data[record.start : record.end])


def screen(data: bytes, admits: Callable[[str], bool]) -> Screened:
    """An answer without the addresses that `admits` refuses, in any section and in SVCB hints, and without ECH keys.

    The very same bytes object comes back when nothing had to go; otherwise the message is written anew (so no pointer
    is wrong), and no longer claims to be authenticated. Raises `PeerViolation` when the answer does not parse.
    """
    reader = m.Reader(data)
    header = reader.header()
    if not header.flags & _QR:
        raise PeerViolation("dns-not-an-answer", "a query")
    questions = [reader.question() for _ in range(header.questions)]
    dropped: list[str] = []
    ech_removed = False
    sections: list[list[tuple[m.Section, bytes | None]]] = []
    for count in header[3:]:
        kept: list[tuple[m.Section, bytes | None]] = []
        for _ in range(count):
            record = reader.record()
            rdata = None
            if record.klass == m.IN and record.type in (m.A, m.AAAA):
                address = _address(data, record)
                if not admits(address):
                    dropped.append(address)
                    continue
            elif record.klass == m.IN and record.type in (m.SVCB, m.HTTPS):
                binding = Binding.parse(data[record.start : record.end])
                refused = {text for _key, text in binding.hints() if not admits(text)}
                ech = binding.has_ech()
                if refused or ech:
                    dropped += [text for _key, text in binding.hints() if text in refused]
                    ech_removed = ech_removed or ech
                    rdata = binding.without(refused).pack()
            kept.append((record, rdata))
        sections.append(kept)
    _at_end(reader)
    if not dropped and not ech_removed:
        return Screened(data, (), False)
    answers, authorities, additionals = (len(section) for section in sections)
    writer = m.Writer(m.Header(header.id, header.flags & ~_AD, len(questions), answers, authorities, additionals))
    for question in questions:
        writer.question(*question)
    for section in sections:
        for record, rdata in section:
            if rdata is None:
                parts = reader.rdata(record)
                rdata = b"".join(part if isinstance(part, bytes) else m.flat(part) for part in parts)
            writer.record(record.owner, record.type, record.klass, record.ttl, rdata)
    return Screened(writer.message(), tuple(dropped), ech_removed)


def refusal(query: bytes, question: Question, text: str) -> bytes:
    """NXDOMAIN: instant in every C library, where REFUSED makes them try again. With EDNS, `text` says who refused.

    `text` travels as Extended DNS Error 18 (Prohibited) and is cut at 180 bytes. Nothing in it can be cached.
    """
    return _error(query, question, _NXDOMAIN, _EDE_PROHIBITED, text)


def failure(query: bytes, question: Question, text: str, code: int = 22) -> bytes:
    """SERVFAIL: nobody could be asked. With EDNS, with Extended DNS Error `code` (22 is No Reachable Authority)."""
    return _error(query, question, _SERVFAIL, code, text)


def _error(query: bytes, question: Question, rcode: int, code: int, text: str) -> bytes:
    flags = _QR | _RA | rcode | question.flags & (_RD | _CD)
    out = m.Writer(m.Header(question.id, flags, 1, 0, 0, int(question.edns))).out
    out += query[12 : question.end]
    if question.edns:
        rdata = extended_error(code, text)
        out += b"\0" + m.OPT.to_bytes(2, "big") + _OWN_PAYLOAD.to_bytes(2, "big") + bytes(4)
        out += len(rdata).to_bytes(2, "big") + rdata
    return bytes(out)


def extended_error(code: int, text: str) -> bytes:
    """The EDNS option of an Extended DNS Error (RFC 8914 section 2), its text cut at 180 bytes."""
    words = text.encode("utf-8", "replace")[:_EDE_TEXT].decode("utf-8", "ignore").encode("utf-8")
    option = code.to_bytes(2, "big") + words
    return _EDE_OPTION.to_bytes(2, "big") + len(option).to_bytes(2, "big") + option


def policy_name(question: Question) -> str:
    """The host a rule is asked about: without the leading ``_port._proto`` labels of the types that have them."""
    name = question.name
    if question.type in _PREFIXED:
        while name.startswith("_"):
            name = name.partition(".")[2]
    return name
