"""Interfaces and their changes, with links that a kernel makes, changes and forgets."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import TypeVar

import pytest

from towpath.kernel import system
from towpath.kernel.network import NetworkChanges, NetworkFacts
from towpath.linux import libc
from towpath.linux.network import LinuxChanges, LinuxNetwork
from towpath.path import Interface, InterfaceChange, InterfaceType, Usability, list_interfaces, watch_interfaces
from towpath.testing import Lab, LabHost, LabPlan

T = TypeVar("T")
PATIENCE = 60.0


@pytest.fixture
def host() -> Iterator[LabHost]:
    """A host whose card has a carrier: the kernel says so up to a second after it is up."""

    async def carrier() -> None:
        async with aclosing(watch_interfaces()) as changes, asyncio.timeout(PATIENCE):
            async for change in changes:
                if change.interfaces.named("eth0").running:
                    break

    with Lab(LabPlan().host("host")) as lab:
        lab["host"].call(lambda: asyncio.run(carrier()))
        yield lab["host"]


def ip(words: str) -> str:
    return subprocess.run(["ip", *words.split()], check=True, capture_output=True, text=True).stdout


def quiet_pair() -> None:
    """A pair of links whose far end never has an address of its own."""
    ip("link add near type veth peer name far")
    ip("link set far addrgenmode none up")


def alone() -> None:
    """Moves this process away from the host's links, which may still be telling of their coming up."""
    libc.unshare(libc.CLONE_NEWNET)
    ip("link set lo up")
    ip("link add spare type bridge")


def with_changes(prepare: Callable[[], None], story: Callable[[Callable[[], InterfaceChange]], T]) -> Callable[[], T]:
    """Runs `story(following)` while the interfaces are watched; `following()` waits for the next change.

    The first change has been taken by then, and those with which the links get a carrier.
    """

    def run() -> T:
        alone()
        prepare()
        with asyncio.Runner() as runner:

            async def one(changes: AsyncIterator[InterfaceChange]) -> InterfaceChange:
                async with asyncio.timeout(PATIENCE):
                    return await anext(changes)

            changes = watch_interfaces()
            try:
                while not _settled(runner.run(one(changes))):
                    pass
                return story(lambda: runner.run(one(changes)))
            finally:
                runner.run(changes.aclose())

    return run


def _settled(change: InterfaceChange) -> bool:
    pair = [interface for interface in change.interfaces if interface.kind == "veth" and interface.up]
    return len(pair) < 2 or all(interface.running for interface in pair)


def working_pair() -> None:
    """A pair that carries IPv4, with an address and a default route at the near end."""
    quiet_pair()
    ip("link set near addrgenmode none up")
    ip("addr add 192.0.2.9/24 dev near")
    ip("route add default via 192.0.2.1")


def test_c4_interfaces_are_those_that_ip_lists(host: LabHost) -> None:
    def look() -> tuple[list[Interface], str]:
        quiet_pair()
        ip("link add switch type bridge")
        ip("tuntap add tunnel mode tun")
        ip("addr add 192.0.2.9 peer 192.0.2.1/32 dev tunnel")
        ip("addr add 198.51.100.200/24 brd + dev near")
        ip("link set near mtu 9000 up")
        return list(list_interfaces()), ip("-d -j addr")

    found, judged = host.call(look)
    judge = {entry["ifname"]: entry for entry in json.loads(judged)}
    assert [interface.name for interface in found] == list(judge)
    for interface in found:
        entry = judge[interface.name]
        assert interface.index == entry["ifindex"]
        assert interface.mtu == entry["mtu"]
        assert interface.hardware == entry["link_type"]
        assert interface.kind == entry.get("linkinfo", {}).get("info_kind")
        assert interface.operational.value.replace("-", "") == entry["operstate"].lower()
        assert {flag.upper().replace("-", "_") for flag in interface.flags} >= set(entry["flags"]) - {
            "POINTOPOINT",
            "NOARP",
            "NO-CARRIER",
            "LOWER_UP",
        }
        assert {(str(address.address), address.prefix) for address in interface.addresses} == {
            (address["local"], address["prefixlen"]) for address in entry["addr_info"]
        }
    types = {interface.name: interface.type for interface in found}
    assert types["lo"] is InterfaceType.LOOPBACK
    assert {types[name] for name in ("near", "far", "switch", "tunnel", "eth0")} == {InterfaceType.OTHER}
    addresses = {str(address.address): address for interface in found for address in interface.addresses}
    assert str(addresses["192.0.2.9"].destination) == "192.0.2.1"
    assert addresses["192.0.2.9"].broadcast is None
    assert str(addresses["198.51.100.200"].broadcast) == "198.51.100.255"
    assert addresses["198.51.100.200"].destination is None


def test_loopback_and_cables_are_running_and_what_is_switched_off_is_not(host: LabHost) -> None:
    def look() -> dict[str, bool]:
        quiet_pair()
        return {interface.name: interface.running for interface in list_interfaces()}

    assert host.call(look) == {"lo": True, "eth0": True, "near": False, "far": False}


def test_c4_a_link_that_comes_up_is_one_change_and_its_address_check_one_more(host: LabHost) -> None:
    def story(following: Callable[[], InterfaceChange]) -> list[dict[str, list[str]]]:
        ip("link set near up")
        seen = [following(), following()]
        ip("addr add 192.0.2.99/32 dev spare")
        seen.append(following())
        return [
            {after.name: [address.usability.value for address in after.addresses] for _, after in change.changed}
            for change in seen
        ]

    up, checked, afterwards = host.call(with_changes(quiet_pair, story))
    assert up == {"near": [Usability.TENTATIVE], "far": []}
    assert checked == {"near": [Usability.USABLE]}
    assert set(afterwards) == {"spare"}


def test_c4_the_many_messages_of_a_deleted_pair_are_one_change(host: LabHost) -> None:
    def story(following: Callable[[], InterfaceChange]) -> tuple[list[str], list[str]]:
        ip("link del near")
        gone = following()
        ip("addr add 192.0.2.99/32 dev spare")
        return [interface.name for interface in gone.removed], [after.name for _, after in following().changed]

    assert host.call(with_changes(working_pair, story)) == (["far", "near"], ["spare"])


Expectation = Callable[[Interface, Interface], bool]
ACTIONS: list[tuple[str, Expectation]] = [
    ("addr add 198.51.100.9/24 dev near", lambda before, after: len(after.addresses) == len(before.addresses) + 1),
    ("addr del 192.0.2.9/24 dev near", lambda before, after: len(after.addresses) == len(before.addresses) - 1),
    ("route del default", lambda before, after: (len(before.gateways), len(after.gateways)) == (1, 0)),
    ("link set near mtu 1400", lambda before, after: (before.mtu, after.mtu) == (1500, 1400)),
    ("link set lo down", lambda before, after: before.running and not after.up),
    ("link set near promisc on", lambda before, after: after.flags - before.flags == {"promiscuous"}),
    ("link set spare name wlan0", lambda before, after: after.name == "wlan0" and after.type is before.type),
]


@pytest.mark.parametrize(("action", "expected"), ACTIONS, ids=[words for words, _ in ACTIONS])
def test_each_action_is_one_change_of_one_interface(host: LabHost, action: str, expected: Expectation) -> None:
    def story(following: Callable[[], InterfaceChange]) -> tuple[InterfaceChange, InterfaceChange]:
        ip(action)
        change = following()
        ip("addr add 192.0.2.99/32 dev far")
        return change, following()

    change, afterwards = host.call(with_changes(working_pair, story))
    ((before, after),) = change.changed
    assert not change.added
    assert not change.removed
    assert expected(before, after)
    assert [interface.name for _, interface in afterwards.changed] == ["far"]


class DeafNetwork(LinuxNetwork):
    """Hears through a buffer that holds next to nothing, so that the kernel loses most notices."""

    def changes(self, *, every_route: bool = False) -> LinuxChanges:
        made = super().changes(every_route=every_route)
        made.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        return made


def many_addresses() -> None:
    batch = "".join(f"addr add 10.0.{number}.1/32 dev lo\n" for number in range(200))
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def test_after_lost_notices_everything_is_read_again(host: LabHost) -> None:
    async def story() -> int:
        async with aclosing(watch_interfaces(DeafNetwork())) as changes, asyncio.timeout(PATIENCE):
            before = (await anext(changes)).interfaces.named("lo")
            many_addresses()
            after = (await anext(changes)).interfaces.named("lo")
            return len(after.addresses) - len(before.addresses)

    assert host.call(lambda: asyncio.run(story())) == 200


def route_storm(count: int) -> None:
    batch = "".join(f"route add 10.0.{number}.0/24 dev lo\n" for number in range(count))
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def test_lost_notices_count_as_a_change_whatever_the_others_say(host: LabHost) -> None:
    def lose() -> tuple[bool, bool]:
        alone()
        changes = DeafNetwork().changes()
        try:
            route_storm(200)
            return changes.drain(), changes.drain()
        finally:
            changes.close()

    assert host.call(lose) == (True, False)


def test_a_storm_of_other_routes_wakes_nobody(host: LabHost) -> None:
    def storm() -> tuple[bool, bool]:
        alone()
        some, every = (system.network.changes(every_route=wide) for wide in (False, True))
        try:
            route_storm(50)
            return some.drain(), every.drain()
        finally:
            some.close()
            every.close()

    assert host.call(storm) == (False, True)


def test_facts_have_the_configured_name_servers(host: LabHost) -> None:
    def look() -> tuple[NetworkFacts, str]:
        with open("/etc/resolv.conf") as file:
            return system.network.read(), file.read()

    facts, text = host.call(look)
    assert facts.resolvers
    assert all(f"nameserver {address}\n" in text for address in facts.resolvers)


def test_a_subscription_is_closed_with_its_descriptor() -> None:
    changes: NetworkChanges = system.network.changes()
    assert changes.fileno() > 0
    assert not changes.drain()
    changes.close()
    assert changes.fileno() == -1
