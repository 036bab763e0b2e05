"""What an interface is, from the kernel's facts."""

from __future__ import annotations

import dataclasses
from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest

from towpath.errors import HostFault
from towpath.kernel.network import (
    AddressFacts,
    AddressFlag,
    LinkFacts,
    LinkFlag,
    NetworkFacts,
    Operational,
)
from towpath.path import InterfaceType, Usability
from towpath.path.interface import Interface, InterfaceAddress, Interfaces, interfaces_of
from towpath.path.medium import interface_type

HARDWARE = LinkFacts(2, "net", described=True, has_device=True)


def only(link: LinkFacts, *addresses: AddressFacts) -> Interface:
    (interface,) = interfaces_of(NetworkFacts((link,), addresses))
    return interface


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (HARDWARE, InterfaceType.WIRED),
        (dataclasses.replace(HARDWARE, device_type="gadget"), InterfaceType.WIRED),
        (dataclasses.replace(HARDWARE, wireless=True), InterfaceType.WIFI),
        (dataclasses.replace(HARDWARE, device_type="wlan"), InterfaceType.WIFI),
        (dataclasses.replace(HARDWARE, device_type="wwan"), InterfaceType.CELLULAR),
        (dataclasses.replace(HARDWARE, kind="wwan", hardware="rawip"), InterfaceType.CELLULAR),
        (dataclasses.replace(HARDWARE, device_type="bluetooth"), InterfaceType.OTHER),
        (dataclasses.replace(HARDWARE, flags=frozenset({LinkFlag.LOOPBACK})), InterfaceType.LOOPBACK),
        (dataclasses.replace(HARDWARE, kind="veth"), InterfaceType.OTHER),
        (dataclasses.replace(HARDWARE, kind="bridge"), InterfaceType.OTHER),
        (dataclasses.replace(HARDWARE, kind="wireguard", hardware="none"), InterfaceType.OTHER),
        (dataclasses.replace(HARDWARE, hardware="ppp"), InterfaceType.OTHER),
        (dataclasses.replace(HARDWARE, has_device=False), InterfaceType.OTHER),
        (dataclasses.replace(HARDWARE, described=False), InterfaceType.UNKNOWN),
    ],
    ids=lambda value: value.value if isinstance(value, InterfaceType) else "",
)
def test_the_type_comes_from_facts(link: LinkFacts, expected: InterfaceType) -> None:
    assert interface_type(link) is expected


@pytest.mark.parametrize("name", ["wlan0", "wwan0", "lo", "eth0", "tun0"])
def test_c4_the_type_is_never_inferred_from_the_name(name: str) -> None:
    assert interface_type(dataclasses.replace(HARDWARE, name=name)) is InterfaceType.WIRED


OWN, PEER, ALL = IPv4Address("192.0.2.9"), IPv4Address("192.0.2.1"), IPv4Address("192.0.2.255")


@pytest.mark.parametrize(
    ("flags", "broadcast", "destination"),
    [
        ({LinkFlag.BROADCAST}, ALL, None),
        ({LinkFlag.POINT_TO_POINT}, None, PEER),
        ({LinkFlag.POINT_TO_POINT, LinkFlag.BROADCAST}, None, PEER),
        (set(), None, None),
    ],
)
def test_c4_an_address_has_a_broadcast_or_a_destination_as_the_flag_says(
    flags: set[LinkFlag], broadcast: IPv4Address | None, destination: IPv4Address | None
) -> None:
    found = only(
        dataclasses.replace(HARDWARE, flags=frozenset(flags)), AddressFacts(2, OWN, 24, peer=PEER, broadcast=ALL)
    ).addresses[0]
    assert (found.broadcast, found.destination) == (broadcast, destination)


def test_the_prefix_is_that_of_the_destination_where_there_is_one() -> None:
    assert str(InterfaceAddress(OWN, 24).network) == "192.0.2.0/24"
    assert str(InterfaceAddress(OWN, 32, destination=PEER).network) == "192.0.2.1/32"
    assert str(InterfaceAddress(IPv6Address("2001:db8::9"), 64).network) == "2001:db8::/64"


@pytest.mark.parametrize(
    ("flags", "usability", "usable"),
    [
        (set(), Usability.USABLE, True),
        ({AddressFlag.PERMANENT}, Usability.USABLE, True),
        ({AddressFlag.DEPRECATED}, Usability.DEPRECATED, True),
        ({AddressFlag.TENTATIVE}, Usability.TENTATIVE, False),
        ({AddressFlag.TENTATIVE, AddressFlag.OPTIMISTIC}, Usability.USABLE, True),
        ({AddressFlag.TENTATIVE, AddressFlag.DUPLICATE}, Usability.DUPLICATE, False),
        ({AddressFlag.DEPRECATED, AddressFlag.TENTATIVE}, Usability.TENTATIVE, False),
    ],
)
def test_an_address_can_be_used_or_not_yet_or_never(
    flags: set[AddressFlag], usability: Usability, usable: bool
) -> None:
    found = only(HARDWARE, AddressFacts(2, OWN, 24, flags=frozenset(flags))).addresses[0]
    assert (found.usability, found.usable) == (usability, usable)
    assert found.permanent is (AddressFlag.PERMANENT in flags)


UP, LOWER_UP = LinkFlag.UP, LinkFlag.LOWER_UP


@pytest.mark.parametrize(
    ("flags", "operational", "running"),
    [
        ({UP, LOWER_UP}, Operational.UP, True),
        ({UP, LOWER_UP}, Operational.UNKNOWN, True),
        ({UP}, Operational.UNKNOWN, False),
        ({UP}, Operational.UP, False),
        ({UP}, Operational.DOWN, False),
        ({UP, LOWER_UP}, Operational.DORMANT, False),
        ({LOWER_UP}, Operational.UP, False),
    ],
)
def test_an_unknown_state_with_a_carrier_is_running(
    flags: set[LinkFlag], operational: Operational, running: bool
) -> None:
    link = dataclasses.replace(HARDWARE, flags=frozenset(flags), operational=operational)
    assert only(link).running is running


def snapshot(*names: str, mtu: int = 1500) -> Interfaces:
    return Interfaces(
        tuple(Interface(index, name, InterfaceType.WIRED, mtu=mtu) for index, name in enumerate(names, 1))
    )


def test_c4_snapshots_are_immutable_and_comparable() -> None:
    assert snapshot("a", "b") == snapshot("a", "b")
    assert hash(snapshot("a", "b")) == hash(snapshot("a", "b"))
    assert snapshot("a") != snapshot("a", mtu=9000)
    with pytest.raises(dataclasses.FrozenInstanceError):
        snapshot("a").named("a").mtu = 9000  # type: ignore[misc]


def test_c4_names_and_indexes_lead_to_each_other() -> None:
    interfaces = snapshot("a", "b")
    assert interfaces.named("b").index == 2
    assert interfaces.numbered(2).name == "b"
    with pytest.raises(HostFault, match="find interface 'c'") as missing:
        interfaces.named("c")
    assert missing.value.hint == "there are a, b"
    with pytest.raises(HostFault, match="find interface 7"):
        interfaces.numbered(7)


def test_a_change_names_what_was_added_removed_and_changed() -> None:
    before, after = (
        snapshot("a", "b"),
        Interfaces((*snapshot("a", mtu=9000).all, Interface(3, "c", InterfaceType.WIFI))),
    )
    change = after.since(before)
    assert [found.name for found in change.added] == ["c"]
    assert [found.name for found in change.removed] == ["b"]
    assert [(old.mtu, new.mtu) for old, new in change.changed] == [(1500, 9000)]
    assert change.interfaces == after


def test_no_difference_is_a_false_change() -> None:
    assert not snapshot("a").since(snapshot("a"))
    assert snapshot("a").since(snapshot("b"))


def test_gateways_are_those_of_the_interfaces_own_default_routes() -> None:
    from towpath.testing import NetworkTwin

    twin = NetworkTwin()
    twin.add_link("a")
    twin.add_link("b")
    twin.add_default_route("a", "192.0.2.1")
    twin.add_default_route("a", "fe80::1")
    twin.add_default_route("b", "198.51.100.1")
    first, second = interfaces_of(twin.read())
    assert first.gateways == (ip_address("192.0.2.1"), ip_address("fe80::1"))
    assert second.gateways == (ip_address("198.51.100.1"),)
