"""The Lab's name server: the authority for every name in the Lab, and for nothing else."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from typing import Any

from towpath.errors import ConfigInvalid, Misuse, PeerViolation
from towpath.testing.plan import NameRecord
from towpath.wire import dns

__all__ = ["Zone"]

_NXDOMAIN = 3
_PLAIN_LIMIT = 512
_PAYLOAD = 1232
_OPT = b"\0\0\x29" + _PAYLOAD.to_bytes(2, "big") + b"\0" * 6


class Zone:
    """Answers queries from the Lab's records.

    Raises `ConfigInvalid` for a record whose value is not of its type.
    """

    def __init__(self, records: Iterable[NameRecord]) -> None:
        self._records: dict[str, list[dns.Record]] = {}
        self._targets: dict[str, str] = {}
        for record in records:
            self._records.setdefault(record.name, []).append(_encoded(record))
            if record.type == "CNAME":
                self._targets[record.name] = record.value.rstrip(".").lower()

    def answer(self, query: bytes, *, datagram: bool) -> tuple[bytes, str]:
        """The answer, and the question as text. Raises `PeerViolation` for what is no query."""
        question = dns.parse_query(query)
        kind = dns.type_name(question.type)
        records = self._lookup(question.name, kind)
        known = question.name in self._records
        reply = dns.answer(query, records, 0 if known else _NXDOMAIN, authoritative=True)
        if datagram and len(reply) > (_PAYLOAD if question.edns else _PLAIN_LIMIT):
            reply = dns.answer(query, (), authoritative=True, truncated=True)
        return _with_edns(reply) if question.edns else reply, f"{kind} {question.name}"

    def _lookup(self, name: str, kind: str) -> Sequence[dns.Record]:
        found: list[dns.Record] = []
        seen: set[str] = set()
        while name not in seen:
            seen.add(name)
            records = self._records.get(name, ())
            found += [record for record in records if record.type in (kind, "CNAME")]
            if kind == "CNAME" or name not in self._targets:
                break
            name = self._targets[name]
        return found


def _with_edns(reply: bytes) -> bytes:
    """The reply with an OPT record (RFC 6891), as who sent one expects."""
    additionals = int.from_bytes(reply[10:12], "big") + 1
    return reply[:10] + additionals.to_bytes(2, "big") + reply[12:] + _OPT


def _encoded(record: NameRecord) -> dns.Record:
    make = {"A": dns.a, "AAAA": dns.aaaa, "CNAME": dns.cname, "HTTPS": _https}[record.type]
    try:
        return dns.Record(record.name, record.type, record.ttl, make(record.value))
    except (Misuse, PeerViolation, ValueError, binascii.Error) as error:
        raise ConfigInvalid(
            f"{record.type} record of {record.name}", f"{record.value!r} is no value for it: {error}"
        ) from None


def _https(value: str) -> bytes:
    priority, target, *words = value.split()
    parameters: dict[str, Any] = {}
    for word in words:
        key, _, text = word.partition("=")
        if key in ("alpn", "ipv4hint", "ipv6hint"):
            parameters[key] = text.split(",")
        elif key == "ech":
            parameters[key] = base64.b64decode(text, validate=True)
        else:
            raise ValueError(f"{key} is none of alpn, ipv4hint, ipv6hint, ech")
    return dns.https(int(priority), target.rstrip("."), **parameters)
