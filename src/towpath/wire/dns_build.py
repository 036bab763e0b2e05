"""DNS messages to send: a query, an answer to one, and the data of the commonest records. For servers and tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from towpath.errors import Misuse
from towpath.wire import dns_message as m
from towpath.wire.address import pack

__all__ = ["Record", "a", "aaaa", "answer", "cname", "https", "query"]

_PAYLOAD = 1232
_DO = 0x8000


class Record(NamedTuple):
    """One record of class IN to put into an answer. `type` is a mnemonic or a number, `ttl` seconds.

    >>> Record("www.example.test", "A", 60, a("192.0.2.1"))
    Record(name='www.example.test', type='A', ttl=60, rdata=b'\\xc0\\x00\\x02\\x01')
    """

    name: str
    type: str | int
    ttl: int
    rdata: bytes


def query(name: str, type: str | int, id: int, edns: bool = True, *, dnssec: bool = False) -> bytes:
    """A query with recursion desired; with `edns` it takes answers of up to 1,232 bytes over UDP.

    `dnssec`: as who validates asks, with signatures and whatever they are worth (DO and CD).
    """
    writer = m.Writer(m.Header(id, 0x0110 if dnssec else 0x0100, 1, 0, 0, int(edns)))
    writer.question(m.labels_of(name), _number(type), m.IN)
    if edns:
        writer.record((), m.OPT, _PAYLOAD, _DO if dnssec else 0, b"")
    return writer.message()


def answer(
    query: bytes,
    records: Sequence[Record],
    rcode: int = 0,
    *,
    authorities: Sequence[Record] = (),
    additionals: Sequence[Record] = (),
    authoritative: bool = False,
    truncated: bool = False,
) -> bytes:
    """The answer to a query, with its id and question. Raises `PeerViolation` when the query does not parse."""
    reader = m.Reader(query)
    header = reader.header()
    questions = [reader.question() for _ in range(header.questions)]
    flags = 0x8080 | header.flags & 0x7910 | rcode & 0xF | authoritative << 10 | truncated << 9
    writer = m.Writer(m.Header(header.id, flags, len(questions), len(records), len(authorities), len(additionals)))
    for question in questions:
        writer.question(*question)
    for record in (*records, *authorities, *additionals):
        writer.record(m.labels_of(record.name), _number(record.type), m.IN, record.ttl, record.rdata)
    return writer.message()


def a(address: str) -> bytes:
    """The data of an A record."""
    return _packed(address, 4)


def aaaa(address: str) -> bytes:
    """The data of an AAAA record."""
    return _packed(address, 16)


def cname(target: str) -> bytes:
    """The data of a CNAME (or NS, PTR, DNAME) record."""
    return m.flat(m.labels_of(target))


def https(
    priority: int = 1,
    target: str = "",
    *,
    alpn: Sequence[str] = (),
    ipv4hint: Sequence[str] = (),
    ipv6hint: Sequence[str] = (),
    ech: bytes = b"",
) -> bytes:
    """The data of an HTTPS or SVCB record; an empty target is the owner itself, priority 0 an alias."""
    parameters = {
        1: b"".join(bytes((len(word),)) + word.encode("ascii") for word in alpn),
        4: b"".join(a(address) for address in ipv4hint),
        5: ech,
        6: b"".join(aaaa(address) for address in ipv6hint),
    }
    return (
        priority.to_bytes(2, "big")
        + m.flat(m.labels_of(target))
        + b"".join(
            key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for key, value in parameters.items() if value
        )
    )


def _packed(address: str, size: int) -> bytes:
    packed = pack(address)
    if packed is None or len(packed) != size:
        raise Misuse(f"not an address of {size} bytes: {address!r}")
    return packed


def _number(kind: str | int) -> int:
    return kind if isinstance(kind, int) else m.type_number(kind)
