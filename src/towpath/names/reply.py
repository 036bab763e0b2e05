"""What a DNS answer says of its question (RFC 1035, RFC 2308, RFC 8914): a value, or `PeerViolation`."""

from __future__ import annotations

from typing import NamedTuple

from towpath.errors import PeerViolation
from towpath.wire import dns_message as m
from towpath.wire.svcb import Binding

__all__ = ["MAX_ALIASES", "Alias", "ExtendedError", "Record", "Reply", "parse_reply", "question_of"]

MAX_ALIASES = 16
"""How many CNAMEs may lie between a name and its records."""
MAX_TTL = 604_800
"""A week, in seconds: who says more is taken for this (RFC 8767 section 4)."""

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
_QR, _TC, _AD = 0x8000, 0x0200, 0x0020
_ANY = 255
_EDE_OPTION = 15
_MAX_EXTENDED = 8
_SIGN = 0x80000000
_WIDTHS = {m.A: 4, m.AAAA: 16}

_EXTENDED = (
    "Other", "Unsupported DNSKEY Algorithm", "Unsupported DS Digest Type", "Stale Answer", "Forged Answer",
    "DNSSEC Indeterminate", "DNSSEC Bogus", "Signature Expired", "Signature Not Yet Valid", "DNSKEY Missing",
    "RRSIGs Missing", "No Zone Key Bit Set", "NSEC Missing", "Cached Error", "Not Ready", "Blocked", "Censored",
    "Filtered", "Prohibited", "Stale NXDOMAIN Answer", "Not Authoritative", "Not Supported", "No Reachable Authority",
    "Network Error", "Invalid Data",
)  # fmt: skip


class ExtendedError(NamedTuple):
    """Why an answer is as it is (RFC 8914).

    >>> str(ExtendedError(15, "malware"))
    'Blocked: malware'
    """

    code: int
    text: str

    @property
    def policy(self) -> bool:
        """Whether somebody decided that the name shall not be answered: Blocked, Censored, Filtered, Prohibited."""
        return 15 <= self.code <= 18

    def __str__(self) -> str:
        name = _EXTENDED[self.code] if self.code < len(_EXTENDED) else f"extended error {self.code}"
        return f"{name}: {self.text}" if self.text else name


class Alias(NamedTuple):
    """One CNAME; `ttl` in seconds."""

    name: str
    target: str
    ttl: int


class Record(NamedTuple):
    """One record of class IN. `kind` is the number of its type, `data` its bytes without compression."""

    owner: str
    kind: int
    ttl: int
    data: bytes


class Reply(NamedTuple):
    """What one answer says.

    `aliases` lead from the question's name to the owner of `records`. `negative_ttl` is for how many seconds an
    absence may be believed (RFC 2308 section 5), or `None` where the answer does not say.
    """

    id: int
    rcode: int
    truncated: bool
    authenticated: bool
    aliases: tuple[Alias, ...]
    records: tuple[Record, ...]
    negative_ttl: int | None
    extended: tuple[ExtendedError, ...]


def question_of(data: bytes) -> tuple[int, m.Labels, int]:
    """The id, the name as it was spelled and the type of an answer's one question. Raises `PeerViolation`."""
    reader = m.Reader(data)
    header = reader.header()
    if not header.flags & _QR:
        raise PeerViolation("dns-not-an-answer", "a query")
    if header.questions != 1:
        raise PeerViolation("dns-counts", f"{header.questions} questions")
    labels, kind, klass = reader.question()
    if klass != m.IN:
        raise PeerViolation("dns-class", f"{klass}")
    return header.id, labels, kind


def parse_reply(data: bytes) -> Reply:
    """The answer to its own question; what hangs off other names is left out.

    Raises `PeerViolation` for messages that do not parse, for aliases in a circle, and for more than `MAX_ALIASES`.
    """
    _, labels, kind = question_of(data)
    reader = m.Reader(data)
    header = reader.header()
    reader.question()
    answers = [reader.record() for _ in range(header.answers)]
    authorities = [reader.record() for _ in range(header.authorities)]
    additionals = [reader.record() for _ in range(header.additionals)]
    if reader.offset != len(data):
        raise PeerViolation("dns-trailing", f"{len(data) - reader.offset} bytes")
    rcode, extended = _edns(data, header.flags & 0xF, additionals)
    aliases = _aliases(reader, m.text(labels), kind, answers)
    owner = aliases[-1].target if aliases else m.text(labels)
    records = tuple(
        Record(owner, record.type, _ttl(record.ttl), _data(reader, record))
        for record in answers
        if record.klass == m.IN and kind in (record.type, _ANY) and m.text(record.owner) == owner
    )
    return Reply(
        header.id,
        rcode,
        bool(header.flags & _TC),
        bool(header.flags & _AD),
        aliases,
        records,
        _negative_ttl(reader, authorities),
        extended,
    )


def _edns(data: bytes, rcode: int, additionals: list[m.Section]) -> tuple[int, tuple[ExtendedError, ...]]:
    found: list[ExtendedError] = []
    for record in additionals:
        if record.type != m.OPT:
            continue
        rcode |= record.ttl >> 20 & 0xFF0
        at = record.start
        while at < record.end:
            if at + 4 > record.end:
                raise PeerViolation("dns-edns", "half an option")
            option, size = data[at] << 8 | data[at + 1], data[at + 2] << 8 | data[at + 3]
            at += 4 + size
            if at > record.end:
                raise PeerViolation("dns-edns", f"an option of {size} bytes")
            if option == _EDE_OPTION:
                if size < 2:
                    raise PeerViolation("dns-edns", "an extended error without a code")
                words = data[at - size + 2 : at].decode("utf-8", "replace").rstrip("\0")
                found.append(ExtendedError(data[at - size] << 8 | data[at - size + 1], words))
    return rcode, tuple(found[:_MAX_EXTENDED])


def _aliases(reader: m.Reader, name: str, kind: int, answers: list[m.Section]) -> tuple[Alias, ...]:
    if kind in (m.CNAME, _ANY):
        return ()
    targets: dict[str, Alias] = {}
    for record in answers:
        if record.type == m.CNAME and record.klass == m.IN:
            labels, end = reader.name_at(record.start)
            if end != record.end:
                raise PeerViolation("dns-record", "a CNAME of another length than its name")
            owner = m.text(record.owner)
            targets.setdefault(owner, Alias(owner, m.text(labels), _ttl(record.ttl)))
    found: list[Alias] = []
    seen = {name}
    while name in targets:
        found.append(targets[name])
        name = targets[name].target
        if name in seen:
            raise PeerViolation("dns-alias", f"a circle at {name}")
        seen.add(name)
        if len(found) > MAX_ALIASES:
            raise PeerViolation("dns-alias", f"more than {MAX_ALIASES}")
    return tuple(found)


def _data(reader: m.Reader, record: m.Section) -> bytes:
    width = _WIDTHS.get(record.type)
    if width is not None and record.end - record.start != width:
        raise PeerViolation("dns-address", f"{m.type_name(record.type)} of {record.end - record.start} bytes")
    if record.type in (m.SVCB, m.HTTPS):
        Binding.parse(reader.data[record.start : record.end])
    parts = reader.rdata(record)
    return b"".join(part if isinstance(part, bytes) else m.flat(part) for part in parts)


def _negative_ttl(reader: m.Reader, authorities: list[m.Section]) -> int | None:
    for record in authorities:
        if record.type == m.SOA and record.klass == m.IN:
            numbers = reader.rdata(record)[-1]
            if not isinstance(numbers, bytes) or len(numbers) != 20:
                raise PeerViolation("dns-record", "an SOA of a wrong length")
            return min(_ttl(record.ttl), _ttl(int.from_bytes(numbers[16:], "big")))
    return None


def _ttl(value: int) -> int:
    """A TTL with the highest bit set is zero (RFC 2181 section 8)."""
    return 0 if value >= _SIGN else min(value, MAX_TTL)
