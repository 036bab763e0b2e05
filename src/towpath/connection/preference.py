"""Which of several addresses first: destination address selection (RFC 6724 section 6), with real source addresses.

The source of each destination is found by connect(2) on a UDP socket, which sends nothing and asks the routing table.
Rules 3, 4 and 7 (deprecated, home and tunnelled addresses) need facts that a socket does not tell, and are skipped.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

__all__ = ["Preference", "by_preference", "in_order", "source_for"]

_DISCARD = 9
_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 0x2, 0x5, 0xE

_TABLE = [
    (IPv6Network("::1/128"), 50, 0),
    (IPv6Network("::ffff:0:0/96"), 35, 4),
    (IPv6Network("2002::/16"), 30, 2),
    (IPv6Network("2001::/32"), 5, 5),
    (IPv6Network("fc00::/7"), 3, 13),
    (IPv6Network("::/96"), 1, 3),
    (IPv6Network("fec0::/10"), 1, 11),
    (IPv6Network("3ffe::/16"), 1, 12),
    (IPv6Network("::/0"), 40, 1),
]
"""Prefix, precedence, label: the default policy table (section 2.1), longest prefix first where they overlap."""


@dataclass(frozen=True, slots=True)
class Preference:
    """One destination in its place.

    `source` is the address it would be reached from, or `None` where there is no route. `rule` says why it stands
    before the next one; empty for the last.
    """

    address: str
    source: str | None
    scope: int
    label: int
    precedence: int
    rule: str = ""


def in_order(addresses: Sequence[str]) -> list[str]:
    """The addresses by preference.

    >>> in_order(["127.0.0.1"])
    ['127.0.0.1']
    """
    return [found.address for found in by_preference(addresses)]


def by_preference(addresses: Sequence[str], source: Callable[[str], str | None] | None = None) -> list[Preference]:
    """The addresses in order, each with the rule that put it before the next.

    `source` tells from where a destination is reached (default: `source_for`).

    >>> [found.address for found in by_preference(["192.0.2.1", "2001:db8::1"], {"192.0.2.1": "192.0.2.9"}.get)]
    ['192.0.2.1', '2001:db8::1']
    """
    tell = source or source_for
    facts = [_facts(address, tell(address)) for address in dict.fromkeys(addresses)]
    ordered = sorted(facts, key=cmp_to_key(_sign))
    rules = [_compare(one, other)[1] for one, other in zip(ordered, ordered[1:], strict=False)]
    return [
        Preference(fact.address, fact.source, fact.scope, fact.label, fact.precedence, rule)
        for fact, rule in zip(ordered, [*rules, ""], strict=True)
    ]


def source_for(address: str) -> str | None:
    """The address from which this machine would reach another one, or `None` where it has no way."""
    plain, _, zone = address.partition("%")
    family = socket.AF_INET6 if ":" in plain else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            index = 0 if not zone else int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
            probe.connect((plain, _DISCARD, 0, index) if family == socket.AF_INET6 else (plain, _DISCARD))
            return str(probe.getsockname()[0]).partition("%")[0]
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class _Facts:
    address: str
    source: str | None
    scope: int
    label: int
    precedence: int
    source_scope: int
    source_label: int
    common: int


def _facts(address: str, source: str | None) -> _Facts:
    there = _mapped(address)
    precedence, label = _policy(there)
    if source is None:
        return _Facts(address, None, _scope(there), label, precedence, 0, -1, 0)
    here = _mapped(source)
    return _Facts(
        address, source, _scope(there), label, precedence, _scope(here), _policy(here)[1], _common(there, here)
    )


def _sign(one: _Facts, other: _Facts) -> int:
    return _compare(one, other)[0]


def _compare(one: _Facts, other: _Facts) -> tuple[int, str]:
    """Negative when `one` comes first, and the rule that decided. The order of equals is kept (rule 10)."""
    rules: list[tuple[str, float, float]] = [
        ("1: avoid unusable destinations", one.source is None, other.source is None),
        ("2: prefer matching scope", one.scope != one.source_scope, other.scope != other.source_scope),
        ("5: prefer matching label", one.label != one.source_label, other.label != other.source_label),
        ("6: prefer higher precedence", -one.precedence, -other.precedence),
        ("8: prefer smaller scope", one.scope, other.scope),
    ]
    for name, mine, theirs in rules:
        if mine != theirs:
            return (-1 if mine < theirs else 1), f"rule {name}"
    # Of IPv4 a common prefix means nothing: neighbours in the address space are strangers in the network.
    if one.common != other.common and ":" in one.address and ":" in other.address:
        return other.common - one.common, "rule 9: use longest matching prefix"
    return 0, "rule 10: leave the order unchanged"


def _mapped(address: str) -> IPv6Address:
    found = ip_address(address.partition("%")[0])
    return IPv6Address(b"\0" * 10 + b"\xff\xff" + found.packed) if isinstance(found, IPv4Address) else found


def _policy(address: IPv6Address) -> tuple[int, int]:
    return next((precedence, label) for network, precedence, label in _TABLE if address in network)


def _scope(address: IPv6Address) -> int:
    """The scope of an address (section 3.1); IPv4 by section 3.2."""
    if address.ipv4_mapped is not None:
        local = address.ipv4_mapped.is_loopback or address.ipv4_mapped.is_link_local
        return _LINK_LOCAL if local else _GLOBAL
    if address.is_multicast:
        return address.packed[1] & 0xF
    if address.is_loopback or address.is_link_local:
        return _LINK_LOCAL
    return _SITE_LOCAL if address.is_site_local else _GLOBAL


def _common(one: IPv6Address, other: IPv6Address) -> int:
    """Bits in common, of the first 64: what follows is the interface's (section 2.2)."""
    return 64 - (int(one) >> 64 ^ int(other) >> 64).bit_length()
