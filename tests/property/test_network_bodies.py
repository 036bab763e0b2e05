"""Bodies of rtnetlink messages: what was laid out is read back, and any bytes are facts or a violation."""

from __future__ import annotations

import struct
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import PeerViolation
from towpath.kernel.network import Hop
from towpath.linux.netlink import attr, text, u32
from towpath.linux.network_messages import matters, parse_address, parse_link, parse_route, route_table

addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
indexes = st.integers(1, (1 << 31) - 1)
names = st.text(st.characters(min_codepoint=33, max_codepoint=0x24FF, exclude_characters="/"), min_size=1, max_size=5)


def family(address: IPv4Address | IPv6Address) -> int:
    return 2 if address.version == 4 else 10


@given(names, indexes, st.integers(0, (1 << 32) - 1), st.one_of(st.none(), st.integers(0, (1 << 32) - 1)))
def test_a_link_is_read_as_it_was_laid_out(name: str, index: int, flags: int, mtu: int | None) -> None:
    body = struct.pack("=BxHiII", 0, 1, index, flags, 0) + attr(3, text(name))
    body += attr(4, u32(mtu)) if mtu is not None else b""
    found = parse_link(body)
    assert (found.name, found.index, found.mtu) == (name, index, mtu)
    assert ("up" in found.flags, "multicast" in found.flags) == (bool(flags & 1), bool(flags & 0x1000))


@given(addresses, st.data())
def test_an_address_is_read_as_it_was_laid_out(address: IPv4Address | IPv6Address, data: st.DataObject) -> None:
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    found = parse_address(struct.pack("=BBBBI", family(address), prefix, 0, 0, 5) + attr(1, address.packed))
    assert found is not None
    assert (found.index, found.address, found.prefix, found.peer) == (5, address, prefix, None)


@given(addresses, indexes, st.integers(0, (1 << 32) - 1), st.data())
def test_a_route_is_read_as_it_was_laid_out(
    address: IPv4Address | IPv6Address, index: int, metric: int, data: st.DataObject
) -> None:
    prefix = data.draw(st.integers(0, address.max_prefixlen))
    body = struct.pack("=BBBBBBBBI", family(address), prefix, 0, 0, 254, 4, 0, 1, 0)
    body += attr(1, address.packed) + attr(4, u32(index)) + attr(5, address.packed) + attr(6, u32(metric))
    found = parse_route(body)
    assert found is not None
    assert found.destination == ip_network((address, prefix), strict=False)
    assert (found.hops, found.metric) == ((Hop(index, address),), metric)


@pytest.mark.parametrize("parse", [parse_link, parse_address, parse_route, route_table, matters])
def test_any_bytes_are_facts_or_a_violation(parse: Callable[[bytes], object]) -> None:
    attribute = st.builds(attr, st.integers(0, 60), st.binary(max_size=20))
    header = st.one_of(st.just(b""), st.sampled_from([2, 10]).map(lambda family: bytes([family])))

    @given(header, st.binary(max_size=16), st.lists(attribute, max_size=6), st.binary(max_size=8))
    def holds(start: bytes, middle: bytes, attributes: list[bytes], end: bytes) -> None:
        try:
            parse(start + middle + b"".join(attributes) + end)
        except PeerViolation:
            return

    holds()
