"""Resolutions as plain values for JSON, and records as people write them."""

from __future__ import annotations

from typing import Any

from towpath.names.binding import ServiceBinding
from towpath.names.reply import Record
from towpath.names.resolution import Answer, Resolution
from towpath.wire import dns_message
from towpath.wire.address import unpack

__all__ = ["plain_answer", "plain_resolution", "record_text"]

Plain = dict[str, Any]


def record_text(record: Record) -> str:
    """A record's data as zone files write it; unknown types as RFC 3597 does.

    >>> record_text(Record("www.example.test", 1, 60, bytes((192, 0, 2, 1))))
    '192.0.2.1'
    """
    if record.kind in (dns_message.A, dns_message.AAAA):
        return unpack(record.data)
    import dns.exception
    import dns.rdata
    import dns.rdataclass
    import dns.rdatatype

    try:
        kind = dns.rdatatype.RdataType.make(record.kind)
        found = dns.rdata.from_wire(dns.rdataclass.IN, kind, record.data, 0, len(record.data))
    except (dns.exception.DNSException, ValueError):
        return f"\\# {len(record.data)} {record.data.hex()}"
    return str(found.to_text())


def plain_resolution(resolution: Resolution) -> Plain:
    """A resolution with every answer."""
    return {
        "asked": resolution.asked,
        "name": resolution.name,
        "duration": round(resolution.duration, 6),
        "addresses": [found.address for found in resolution.addresses],
        "aliases": [alias._asdict() for alias in resolution.aliases],
        "services": [_plain_binding(binding) for binding in resolution.bindings],
        "answers": [plain_answer(answer) for answer in resolution.answers],
    }


def plain_answer(answer: Answer) -> Plain:
    """One answer: how it came, and what it says."""
    return {
        "name": answer.name,
        "type": answer.kind,
        "status": answer.status.value,
        "source": answer.source.value,
        "server": answer.server,
        "protocol": answer.protocol,
        "duration": round(answer.duration, 6),
        "authenticated": answer.authenticated,
        "validated": answer.validated,
        "records": [_plain_record(record) for record in answer.records],
        "negative_ttl": answer.negative_ttl,
        "extended_errors": [{"code": error.code, "text": error.text, "name": str(error)} for error in answer.extended],
        "troubles": list(answer.troubles),
    }


def _plain_record(record: Record) -> Plain:
    kind = dns_message.type_name(record.kind)
    return {"name": record.owner, "ttl": record.ttl, "type": kind, "data": record_text(record)}


def _plain_binding(binding: ServiceBinding) -> Plain:
    return {
        "priority": binding.priority,
        "target": binding.target,
        "alpn": list(binding.alpn),
        "no_default_alpn": binding.no_default_alpn,
        "port": binding.port,
        "ipv4hint": list(binding.ipv4hint),
        "ipv6hint": list(binding.ipv6hint),
        "ech": binding.ech.hex(),
        "mandatory": list(binding.mandatory),
        "usable": binding.usable,
    }
