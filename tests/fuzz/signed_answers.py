"""Signed answers, however changed: nothing is called secure that the zone did not sign."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dns.dnssec
import dns.message
import dns.name
import dns.rdatatype
import dns.rrset
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from towpath.errors import PeerViolation
from towpath.names.dnssec.anchors import Anchor
from towpath.names.dnssec.validator import Validator
from towpath.wire.dns import query

__all__ = ["ENTRIES", "SEEDS"]

_NOW = 1_800_000_000
_ZONE = dns.name.from_text("good.test")
_PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_KEY = dns.dnssec.make_dnskey(_PRIVATE.public_key(), "ED25519", 257)
_ANCHOR = Anchor(_ZONE, _KEY)
_HASH = "1 0 1 ab"


def _signed(owner: str, kind: str, *texts: str) -> list[dns.rrset.RRset]:
    name = dns.name.from_text(owner)
    rrset = dns.rrset.from_text_list(name, 300, "IN", kind, list(texts))
    made: Any = dns.dnssec.sign(rrset, _PRIVATE, _ZONE, _KEY, inception=_NOW - 3600, expiration=_NOW + 3600)
    return [rrset, dns.rrset.from_rdata(name, 300, made)]


def _hashed(name: str) -> str:
    return dns.dnssec.nsec3_hash(name, "ab", 1, 1).lower()


def _answer(name: str, answers: list[dns.rrset.RRset], denials: list[dns.rrset.RRset], rcode: int = 0) -> bytes:
    message: Any = dns.message.make_response(dns.message.from_wire(query(name, "A", 7)), recursion_available=True)
    message.answer, message.authority = answers, denials
    message.set_rcode(rcode)
    return bytes(message.to_wire())


_SOA = _signed("good.test", "SOA", "ns.good.test. admin.good.test. 1 2 3 4 60")
_KEYS = _answer("good.test", _signed("good.test", "DNSKEY", _KEY.to_text()), [])
_APEX, _WWW = _hashed("good.test"), _hashed("www.good.test")
_FIRST, _LAST = sorted((_APEX, _WWW))
_SEEDS = (
    _answer("www.good.test", _signed("www.good.test", "A", "192.0.2.1", "192.0.2.2"), []),
    _answer("none.good.test", [], [
        *_SOA, *_signed("good.test", "NSEC", "www.good.test. NS SOA RRSIG NSEC DNSKEY"),
    ], 3),
    _answer("none.good.test", [], [
        *_SOA,
        *_signed(f"{_FIRST}.good.test", "NSEC3", f"{_HASH} {_LAST} A RRSIG"),
        *_signed(f"{_LAST}.good.test", "NSEC3", f"{_HASH} {_FIRST} NS SOA RRSIG DNSKEY"),
    ], 3),
    _answer("alias.good.test", [
        *_signed("alias.good.test", "CNAME", "www.good.test."),
        *_signed("www.good.test", "A", "192.0.2.1", "192.0.2.2"),
    ], []),
    _answer("www.good.test", [dns.rrset.from_text("www.good.test.", 300, "IN", "A", "192.0.2.66")], []),
)  # fmt: skip
_TRUE = {"192.0.2.1", "192.0.2.2"}


def dns_signed(data: bytes) -> None:
    """Whatever bytes come as an answer and as what is asked for besides, they end in an outcome that holds."""
    asking = Validator([_ANCHOR]).validate(data, float(_NOW))
    try:
        wanted = next(asking)
        while True:
            wanted = asking.send(_KEYS if wanted.kind == dns.rdatatype.DNSKEY and wanted.name == "good.test" else data)
    except PeerViolation:
        return
    except StopIteration as ended:
        outcome = ended.value
    assert outcome.status == "bogus" or outcome.ttl >= 0
    if outcome.status == "secure":
        message = dns.message.from_wire(data)
        for rrset in message.answer:
            if rrset.rdtype == dns.rdatatype.A and rrset.name.is_subdomain(_ZONE):
                assert {rdata.to_text() for rdata in rrset} <= _TRUE
        if not message.answer and int(message.rcode()) == 3:
            assert message.question[0].name not in (_ZONE, dns.name.from_text("www.good.test"))


ENTRIES: dict[str, Callable[[bytes], None]] = {"dns_signed": dns_signed}
SEEDS = {"dns_signed": _SEEDS}
