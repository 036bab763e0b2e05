"""Paths as the kernel of a host routes them, and the command that shows them."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from ipaddress import ip_address

import pytest
from tests.support.timing import best_of_several, within

from towpath.errors import HostFault
from towpath.kernel import system
from towpath.linux import libc
from towpath.path import Path, PathMonitor, PathPolicy, PathRequirements, PathStatus, UnsatisfiedReason, path_for
from towpath.testing import Lab, LabHost, LabPlan

PATIENCE = 60.0
FREE = PathPolicy()
ELSEWHERE = "10.99.0.7"


@pytest.fixture
def lab() -> Iterator[Lab]:
    with Lab(LabPlan().switch("wifi").switch("cellular").host("phone", on=("wifi", "cellular"))) as made:
        yield made


@pytest.fixture
def phone(lab: Lab) -> LabHost:
    """A host with two cards, both of which have a carrier: the kernel says so up to a second after they are up."""

    async def carrier() -> None:
        async with aclosing(aiter(PathMonitor(policy=FREE))) as paths:
            await until(paths, ["eth0", "eth1"])

    lab["phone"].call(lambda: asyncio.run(carrier()))
    return lab["phone"]


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True, capture_output=True)


async def until(paths: AsyncIterator[Path], expected: list[str]) -> list[str]:
    """Takes paths until the interfaces are the expected ones: a host that has just started gets more addresses."""
    async with asyncio.timeout(PATIENCE):
        async for path in paths:
            if names(path) == expected:
                break
    return expected


def names(path: Path) -> list[str]:
    return [interface.name for interface in path.interfaces]


def test_a_path_has_the_interfaces_in_order_and_their_gateways(phone: LabHost) -> None:
    found = phone.call(lambda: PathMonitor(policy=FREE).current())
    assert found.status is PathStatus.SATISFIED
    assert names(found) == ["eth0", "eth1"]
    assert (found.supports_ipv4, found.supports_ipv6, found.supports_dns) == (True, True, True)
    assert len(found.gateways) >= 2


def after(*actions: str, requirements: PathRequirements | None = None) -> Callable[[], Path]:
    def look() -> Path:
        for action in actions:
            ip(action)
        return PathMonitor(requirements, policy=FREE).current()

    return look


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        (["link set eth0 down", "link set eth1 down"], UnsatisfiedReason.INTERFACE_DOWN),
        (["route flush default", "-6 route flush default"], UnsatisfiedReason.NO_ROUTE),
        (["link del eth0", "link del eth1"], UnsatisfiedReason.NO_INTERFACE),
        (["addr flush dev eth0", "addr flush dev eth1"], UnsatisfiedReason.NO_ADDRESS),
    ],
)
def test_without_a_path_the_reason_is_what_was_done(
    phone: LabHost, actions: list[str], reason: UnsatisfiedReason
) -> None:
    found = phone.call(after(*actions))
    assert (found.status, found.reason) == (PathStatus.UNSATISFIED, reason)


def test_default_routes_of_other_tables_are_nobodys_default(phone: LabHost) -> None:
    found = phone.call(
        after("route del default dev eth1", "-6 route del default dev eth1", "route add default dev eth1 table 77")
    )
    assert names(found) == ["eth0"]


def test_a_pulled_plug_is_no_carrier_and_the_other_interface_takes_over(lab: Lab, phone: LabHost) -> None:
    lab.world.set_card("phone", "eth0", up=False)
    assert names(phone.call(after())) == ["eth1"]
    only = PathRequirements(required_interface="eth0")
    assert phone.call(after(requirements=only)).reason is UnsatisfiedReason.NO_CARRIER


def test_a_monitor_tells_the_path_now_and_each_that_follows(phone: LabHost) -> None:
    async def story() -> list[str]:
        async with aclosing(aiter(PathMonitor(policy=FREE))) as paths:
            first = names(await anext(paths))
            for device, left in (("eth0", ["eth1"]), ("eth1", [])):
                ip(f"link set {device} down")
                await until(paths, left)
        return first

    assert phone.call(lambda: asyncio.run(story())) == ["eth0", "eth1"]


@best_of_several
def test_a_lost_path_is_told_within_a_second(phone: LabHost) -> None:
    async def story() -> float:
        async with aclosing(aiter(PathMonitor(policy=FREE))) as paths:
            await anext(paths)
            ip("link set eth0 down")
            lost = asyncio.get_running_loop().time()
            await until(paths, ["eth1"])
            took = asyncio.get_running_loop().time() - lost
        ip("link set eth0 up")
        return took

    within(1.0, phone.call(lambda: asyncio.run(story())))


@pytest.mark.parametrize("version", [4, 6])
def test_the_path_to_an_own_address_is_the_loopback(phone: LabHost, version: int) -> None:
    address = phone.address4 if version == 4 else phone.address6
    found = phone.call(lambda: path_for(address, policy=FREE))
    assert names(found) == ["lo"]
    assert found.source == ip_address(address)


@pytest.mark.parametrize("version", [4, 6])
def test_the_path_to_an_address_elsewhere_has_its_source_and_gateway(phone: LabHost, version: int) -> None:
    destination = ELSEWHERE if version == 4 else "2001:db8:77::1"

    def look() -> tuple[Path, str]:
        asked = subprocess.run(["ip", "-j", "route", "get", destination], check=True, capture_output=True, text=True)
        return path_for(destination, policy=FREE), asked.stdout

    found, judged = phone.call(look)
    (judge,) = json.loads(judged)
    assert names(found) == [judge["dev"]]
    assert str(found.source) == judge["prefsrc"]
    assert [str(gateway) for gateway in found.gateways] == [judge["gateway"]]
    assert (found.supports_ipv4, found.supports_ipv6) == (version == 4, version == 6)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("unreachable", UnsatisfiedReason.ROUTE_REFUSES),
        ("prohibit", UnsatisfiedReason.ROUTE_REFUSES),
        ("blackhole", UnsatisfiedReason.ROUTE_REFUSES),
        ("throw", UnsatisfiedReason.NO_ROUTE),
    ],
)
@pytest.mark.parametrize("destination", [ELSEWHERE, "2001:db8:77::1"], ids=["4", "6"])
def test_a_route_that_refuses_is_no_path(
    phone: LabHost, kind: str, reason: UnsatisfiedReason, destination: str
) -> None:
    def look() -> Path:
        ip(f"route add {kind} {destination}")
        for family in ("-4", "-6"):
            ip(f"{family} route flush default")
        return path_for(destination, policy=FREE)

    found = phone.call(look)
    assert (found.status, found.reason) == (PathStatus.UNSATISFIED, reason)


def test_policy_routing_is_taken_into_account(phone: LabHost) -> None:
    def look() -> Path:
        ip("route add default dev eth1 table 77")
        ip(f"rule add to {ELSEWHERE} table 77")
        return path_for(ELSEWHERE, policy=FREE)

    assert names(phone.call(look)) == ["eth1"]


@pytest.mark.parametrize(
    ("before", "action"),
    [
        ("link set lo up", f"route add {ELSEWHERE} dev lo"),
        ("route add default dev lo table 77", f"rule add to {ELSEWHERE} table 77"),
    ],
    ids=["route", "rule"],
)
def test_a_monitor_of_one_address_follows_its_route(phone: LabHost, before: str, action: str) -> None:
    async def story() -> UnsatisfiedReason | None:
        async with aclosing(aiter(PathMonitor(destination=ELSEWHERE, policy=FREE))) as paths:
            first = await anext(paths)
            ip(action)
            await until(paths, ["lo"])
        return first.reason

    def run() -> UnsatisfiedReason | None:
        libc.unshare(libc.CLONE_NEWNET)  # away from links whose coming up would be a reason to look again
        ip("link set lo up")
        ip("addr add 192.0.2.9/32 dev lo")
        ip(before)
        return asyncio.run(story())

    assert phone.call(run) is UnsatisfiedReason.NO_ROUTE


def test_the_zone_of_an_address_directs_its_route(phone: LabHost) -> None:
    async def story() -> list[str]:
        monitor = PathMonitor(destination="fe80::77%eth1", policy=FREE)
        async with aclosing(aiter(monitor)) as paths, asyncio.timeout(PATIENCE):
            async for path in paths:  # until the link, which has just come up, has an address of its own
                if path.satisfied:
                    return names(path)
        return []

    assert phone.call(lambda: asyncio.run(story())) == ["eth1"]
    with pytest.raises(HostFault, match="find interface 'nothing'"):
        path_for("fe80::77%nothing", policy=FREE)


def test_the_routes_source_is_the_one_that_a_socket_gets(phone: LabHost) -> None:
    def look() -> tuple[str, str]:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((ELSEWHERE, 9))
            return str(system.network.route_to(ip_address(ELSEWHERE)).source), probe.getsockname()[0]

    asked, used = phone.call(look)
    assert asked == used


def test_an_error_of_the_kernel_keeps_its_number(phone: LabHost) -> None:
    def look() -> int | None:
        ip("-4 route flush default")
        try:
            system.network.route_to(ip_address(ELSEWHERE))
        except HostFault as fault:
            return fault.errno
        return None

    assert phone.call(look) == errno.ENETUNREACH


def towpath(host: LabHost, *words: str, code: int = 0) -> str:
    done = host.run([sys.executable, "-m", "towpath", *words])
    assert done.returncode == code, done.stderr
    return str(done.stdout)


def test_the_command_lists_interfaces_as_objects(phone: LabHost) -> None:
    found = json.loads(towpath(phone, "interfaces", "--json"))
    assert [entry["name"] for entry in found] == ["lo", "eth0", "eth1"]
    assert {"name", "index", "type", "kind", "flags", "addresses"} <= set(found[1])
    assert (found[1]["type"], found[1]["kind"]) == ("other", "veth")
    assert phone.address4 in [address["address"] for address in found[1]["addresses"]]


def test_the_command_prints_a_table(phone: LabHost) -> None:
    lines = towpath(phone, "interfaces").splitlines()
    assert lines[0].split()[:4] == ["INDEX", "NAME", "TYPE", "KIND"]
    assert phone.address4 in "".join(lines)


@pytest.mark.parametrize("form", ["--json", "text"])
def test_the_command_watches(phone: LabHost, form: str) -> None:
    words = ["interfaces", "--watch", *(["--json"] if form == "--json" else [])]
    with phone.popen([sys.executable, "-m", "towpath", *words], stdout=subprocess.PIPE, text=True) as watching:
        output = watching.stdout
        assert output is not None
        for line in output:
            if "eth1" in line:
                break
        phone.run(["ip", "link", "set", "eth1", "down"], administrator=True, check=True)
        for line in output:  # until it is told; a host that has just started has other news as well
            if form == "--json" and not json.loads(line)[2]["running"]:
                break
            if form == "text" and line.split()[:4] == ["changed", "eth1", "other", "off"]:
                break
        else:
            pytest.fail("the watch ended without the change")
        watching.terminate()


def test_the_command_says_which_path_there_is_to_an_address(phone: LabHost) -> None:
    (found,) = json.loads(towpath(phone, "path", "--json", ELSEWHERE))
    assert (found["status"], found["source"]) == ("satisfied", phone.address4)
    assert [interface["name"] for interface in found["interfaces"]] == ["eth0"]
    assert "eth0 (other)" in towpath(phone, "path")


def test_the_command_resolves_a_name_and_shows_a_path_to_each_address(lab: Lab, phone: LabHost) -> None:
    found = json.loads(towpath(phone, "path", "--json", "localhost"))
    assert {"127.0.0.1", "::1"} >= {path["destination"] for path in found} != set()
    error = phone.run([sys.executable, "-m", "towpath", "path", "nobody.invalid"])
    assert error.returncode == 125
    assert "resolve nobody.invalid" in error.stderr


def test_the_command_fails_with_1_when_there_is_no_path(phone: LabHost) -> None:
    for device in ("eth0", "eth1"):
        phone.run(["ip", "link", "set", device, "down"], administrator=True, check=True)
    assert "interface-down" in towpath(phone, "path", code=1)


def test_what_is_expensive_can_be_left_out(phone: LabHost, tmp_path: os.PathLike[str]) -> None:
    folder = os.path.join(tmp_path, "towpath")
    os.mkdir(folder)
    with open(os.path.join(folder, "paths.toml"), "w") as file:
        file.write("[interfaces.eth0]\nexpensive = true\n")
    words = [sys.executable, "-m", "towpath", "path", "--json", "--prohibit-expensive"]
    done = phone.run(words, env={**os.environ, "XDG_CONFIG_HOME": str(tmp_path)})
    (found,) = json.loads(done.stdout)
    assert [interface["name"] for interface in found["interfaces"]] == ["eth1"]
