"""Bodies of rtnetlink messages, as the kernel lays them out, and what we take from them."""

from __future__ import annotations

import struct
from ipaddress import ip_address, ip_network

import pytest

from towpath.errors import PeerViolation
from towpath.kernel.network import AddressFlag, Hop, LinkFlag, Operational, RouteKind
from towpath.linux.netlink import attr, message, nested, text, u8, u32
from towpath.linux.network_messages import matters, parse_address, parse_link, parse_route, route_table


def link(flags: int = 0, hardware: int = 1, *attributes: bytes, index: int = 3, name: str = "net") -> bytes:
    return struct.pack("=BxHiII", 0, hardware, index, flags, 0) + attr(3, text(name)) + b"".join(attributes)


def address(family: int, prefix: int, flags: int, *attributes: bytes) -> bytes:
    return struct.pack("=BBBBI", family, prefix, flags, 0, 3) + b"".join(attributes)


def route(family: int, prefix: int, kind: int, *attributes: bytes, table: int = 254) -> bytes:
    return struct.pack("=BBBBBBBBI", family, prefix, 0, 0, table, 4, 0, kind, 0) + b"".join(attributes)


INET, INET6 = 2, 10


@pytest.mark.parametrize(
    ("bits", "flags"),
    [
        (0x1, {LinkFlag.UP}),
        (0x1000, {LinkFlag.MULTICAST}),
        (0x8000, {LinkFlag.DYNAMIC}),
        (0x11043, {LinkFlag.UP, LinkFlag.BROADCAST, LinkFlag.RUNNING, LinkFlag.MULTICAST, LinkFlag.LOWER_UP}),
        (0x10091, {LinkFlag.UP, LinkFlag.POINT_TO_POINT, LinkFlag.NO_ARP, LinkFlag.LOWER_UP}),
        (0x80000000, set()),
    ],
)
def test_c4_flags_are_translated_from_the_numbers_of_linux(bits: int, flags: set[LinkFlag]) -> None:
    assert parse_link(link(bits)).flags == flags


@pytest.mark.parametrize(
    ("number", "hardware"),
    [(1, "ether"), (772, "loopback"), (65534, "none"), (512, "ppp"), (519, "rawip"), (4242, "hardware-4242")],
)
def test_hardware_types_have_names(number: int, hardware: str) -> None:
    assert parse_link(link(0, number)).hardware == hardware


def test_a_link_has_its_kind_mtu_state_and_address() -> None:
    found = parse_link(
        link(1, 1, attr(4, u32(1400)), attr(16, u8(6)), attr(1, bytes(range(6))), nested(18, attr(1, b"veth\0")))
    )
    assert (found.index, found.name, found.kind, found.mtu) == (3, "net", "veth", 1400)
    assert (found.operational, found.hardware_address) == (Operational.UP, "00:01:02:03:04:05")
    assert not found.has_device
    assert parse_link(link(1, 1, attr(56, text("0000:00:01.0")))).has_device


@pytest.mark.parametrize(
    ("number", "state"), [(0, "unknown"), (3, "lower-layer-down"), (5, "dormant"), (99, "unknown")]
)
def test_the_operational_state_has_a_name(number: int, state: str) -> None:
    assert parse_link(link(1, 1, attr(16, u8(number)))).operational == state


OWN4, PEER4, ALL4 = (ip_address(text) for text in ("192.0.2.9", "192.0.2.1", "192.0.2.255"))
OWN6, PEER6 = ip_address("2001:db8::9"), ip_address("2001:db8::1")


def test_an_address_on_a_broadcast_link() -> None:
    found = parse_address(
        address(INET, 24, 0x80, attr(1, OWN4.packed), attr(2, OWN4.packed), attr(4, ALL4.packed), attr(8, u32(0x80)))
    )
    assert found is not None
    assert (found.address, found.prefix, found.peer, found.broadcast) == (OWN4, 24, None, ALL4)
    assert found.flags == {AddressFlag.PERMANENT}


def test_the_own_address_is_the_local_one_and_the_other_is_the_peers() -> None:
    found = parse_address(address(INET6, 128, 0, attr(1, PEER6.packed), attr(2, OWN6.packed)))
    assert found is not None
    assert (found.address, found.peer) == (OWN6, PEER6)


def test_wide_flags_win_over_the_byte_that_cannot_hold_them() -> None:
    found = parse_address(address(INET6, 64, 0x80, attr(1, OWN6.packed), attr(8, u32(0x840))))
    assert found is not None
    assert found.flags == {AddressFlag.TENTATIVE, AddressFlag.STABLE_PRIVACY}


@pytest.mark.parametrize(
    ("family", "own", "word"), [(INET, OWN4, AddressFlag.SECONDARY), (INET6, OWN6, AddressFlag.TEMPORARY)]
)
def test_one_bit_means_secondary_or_temporary_by_ip_version(family: int, own: object, word: AddressFlag) -> None:
    found = parse_address(address(family, 24, 0x1, attr(1, ip_address(str(own)).packed)))
    assert found is not None
    assert found.flags == {word}


def test_other_families_are_nobodys() -> None:
    assert parse_address(address(28, 0, 0)) is None
    assert parse_route(route(28, 0, 1)) is None


def test_a_default_route_has_its_gateway_and_metric() -> None:
    found = parse_route(route(INET, 0, 1, attr(4, u32(3)), attr(5, PEER4.packed), attr(6, u32(600))))
    assert found is not None
    assert (str(found.destination), found.kind, found.metric) == ("0.0.0.0/0", RouteKind.UNICAST, 600)
    assert found.hops == (Hop(3, PEER4),)


def test_a_route_over_several_links_has_a_hop_for_each() -> None:
    def hop(index: int, gateway: bytes) -> bytes:
        return struct.pack("=HBBi", 8 + len(gateway), 0, 0, index) + gateway

    body = attr(9, hop(3, attr(5, PEER4.packed)) + hop(4, b""))
    found = parse_route(route(INET, 0, 1, body))
    assert found is not None
    assert found.hops == (Hop(3, PEER4), Hop(4, None))


def test_a_gateway_may_be_of_the_other_ip_version() -> None:
    found = parse_route(route(INET, 0, 1, attr(4, u32(3)), attr(18, struct.pack("=H", INET6) + PEER6.packed)))
    assert found is not None
    assert found.hops == (Hop(3, PEER6),)


@pytest.mark.parametrize(
    ("kind", "name"), [(2, "local"), (6, "blackhole"), (7, "unreachable"), (8, "prohibit"), (77, "other")]
)
def test_a_route_has_a_kind(kind: int, name: str) -> None:
    found = parse_route(route(INET6, 64, kind, attr(1, PEER6.packed), attr(7, OWN6.packed)))
    assert found is not None
    assert (found.kind, found.destination, found.source) == (name, ip_network("2001:db8::/64"), OWN6)


def test_the_table_of_a_route_may_be_wide() -> None:
    assert route_table(route(INET, 0, 1)) == 254
    assert route_table(route(INET, 0, 1, attr(15, u32(51820)), table=252)) == 51820


@pytest.mark.parametrize(
    ("kind", "prefix", "expected"), [(24, 0, True), (25, 0, True), (24, 24, False), (25, 64, False), (16, 24, True)]
)
def test_of_routes_only_default_ones_matter(kind: int, prefix: int, expected: bool) -> None:
    assert matters(message(kind, 0, 0, route(INET, prefix, 1))) is expected


@pytest.mark.parametrize(
    ("parse", "body", "fault"),
    [
        (parse_link, bytes(15), "rtnetlink-length"),
        (parse_link, bytes(16), "rtnetlink-link"),
        (parse_link, link(index=0), "rtnetlink-link"),
        (parse_link, link(1, 1, attr(4, b"\0")), "rtnetlink-number"),
        (parse_link, link() + b"\xff\0\0\0", "netlink-attribute"),
        (parse_address, bytes(7), "rtnetlink-length"),
        (parse_address, address(INET, 24, 0), "rtnetlink-address"),
        (parse_address, address(INET, 33, 0, attr(1, OWN4.packed)), "rtnetlink-address"),
        (parse_address, address(INET, 24, 0, attr(1, OWN6.packed)), "rtnetlink-address"),
        (parse_route, bytes(11), "rtnetlink-length"),
        (parse_route, route(INET, 33, 1), "rtnetlink-route"),
        (parse_route, route(INET, 0, 1, attr(9, b"\0\0\0")), "rtnetlink-next-hop"),
        (parse_route, route(INET, 0, 1, attr(9, bytes(8))), "rtnetlink-next-hop"),
        (parse_route, route(INET, 0, 1, attr(4, u32(3)), attr(18, b"\2\0")), "rtnetlink-gateway"),
    ],
)
def test_a_body_that_lies_is_a_violation(parse: object, body: bytes, fault: str) -> None:
    assert callable(parse)
    with pytest.raises(PeerViolation) as violation:
        parse(body)
    assert violation.value.fault == fault
