"""Links, addresses and routes, as the kernel and the `ip` program see what we asked for."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from towpath.errors import HostFault
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from towpath.linux.rtnetlink import (
    LOOPBACK_INDEX,
    add_address,
    add_bridge,
    add_route,
    add_unreachable,
    add_veth,
    link_index,
    links,
    set_link,
    set_master,
)
from towpath.testing import Lab, LabPlan


@pytest.fixture
def inside() -> Iterator[Callable[[Callable[[NetlinkSocket], Any]], Any]]:
    """Runs a function with a request socket in a host that is made for the test."""

    def run(function: Callable[[NetlinkSocket], Any]) -> Any:
        def with_socket() -> Any:
            with NetlinkSocket(NETLINK_ROUTE) as netlink:
                return function(netlink)

        return lab["host"].call(with_socket)

    with Lab(LabPlan().host("host")) as lab:
        yield run


Inside = Callable[[Callable[[NetlinkSocket], Any]], Any]


def _ip(*words: str) -> Any:
    return json.loads(subprocess.run(["ip", "-j", *words], check=True, capture_output=True).stdout or "[]")


def _pair(netlink: NetlinkSocket) -> int:
    space = os.open("/proc/self/ns/net", os.O_RDONLY)
    add_veth(netlink, "left", space, "right", space)
    os.close(space)
    for name in ("left", "right"):
        set_link(netlink, link_index(netlink, name), up=True)
    return link_index(netlink, "left")


def test_links_are_listed_by_name(inside: Inside) -> None:
    found = inside(links)
    assert found["lo"] == LOOPBACK_INDEX
    assert sorted(found) == ["eth0", "lo"]


def test_a_link_that_is_not_there_has_index_0(inside: Inside) -> None:
    assert inside(lambda netlink: link_index(netlink, "nothing")) == 0


def test_a_pair_carries_and_has_its_mtu(inside: Inside) -> None:
    def work(netlink: NetlinkSocket) -> Any:
        set_link(netlink, _pair(netlink), up=True, mtu=9000)
        return _ip("link", "show", "left")

    (link,) = inside(work)
    assert link["mtu"] == 9000
    assert "LOWER_UP" in link["flags"]


def test_a_link_can_be_set_down(inside: Inside) -> None:
    def work(netlink: NetlinkSocket) -> Any:
        set_link(netlink, _pair(netlink), up=False)
        return _ip("link", "show", "left")

    (link,) = inside(work)
    assert "UP" not in link["flags"]


def test_a_link_joins_a_bridge(inside: Inside) -> None:
    def work(netlink: NetlinkSocket) -> Any:
        add_bridge(netlink, "switch")
        set_master(netlink, _pair(netlink), link_index(netlink, "switch"))
        return _ip("link", "show", "left")

    assert inside(work)[0]["master"] == "switch"


@pytest.mark.parametrize(
    ("address", "prefix"), [("192.0.2.9", 24), ("192.0.2.9", 32), ("2001:db8::9", 64), ("2001:db8::9", 128)]
)
def test_an_address_can_be_used_at_once(inside: Inside, address: str, prefix: int) -> None:
    def work(netlink: NetlinkSocket) -> Any:
        add_address(netlink, _pair(netlink), address, prefix)
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as bound:
            bound.bind((address, 0))
        return _ip("addr", "show", "left")

    assert (address, prefix) in [(found["local"], found["prefixlen"]) for found in inside(work)[0]["addr_info"]]


def test_an_address_twice_is_an_error_unless_it_may_be_replaced(inside: Inside) -> None:
    def work(netlink: NetlinkSocket) -> str:
        index = _pair(netlink)
        add_address(netlink, index, "192.0.2.9", 24)
        add_address(netlink, index, "192.0.2.9", 24, replace=True)
        try:
            add_address(netlink, index, "192.0.2.9", 24)
        except HostFault as fault:
            return str(fault)
        return "no error"

    assert inside(work).startswith("add address 192.0.2.9/24: ")


@pytest.mark.parametrize(
    ("destination", "prefix", "gateway"), [("203.0.113.0", 24, "192.0.2.1"), ("2001:db8:5::", 48, "2001:db8::1")]
)
def test_a_route_goes_by_its_gateway_and_the_lower_metric_wins(
    inside: Inside, destination: str, prefix: int, gateway: str
) -> None:
    def work(netlink: NetlinkSocket) -> Any:
        index = _pair(netlink)
        add_address(netlink, index, "192.0.2.9", 24)
        add_address(netlink, index, "2001:db8::9", 64)
        add_route(netlink, destination, prefix, index=link_index(netlink, "eth0"), metric=500)
        add_route(netlink, destination, prefix, index=index, gateway=gateway, metric=100)
        return _ip("route", "get", f"{destination}7" if ":" in destination else "203.0.113.7")

    (route,) = inside(work)
    assert (route["dev"], route["gateway"]) == ("left", gateway)


@pytest.mark.parametrize(("default", "address"), [("0.0.0.0", "192.0.2.77"), ("::", "2001:db8::77")], ids=["4", "6"])
def test_with_a_local_route_every_address_is_this_hosts(inside: Inside, default: str, address: str) -> None:
    def work(netlink: NetlinkSocket) -> Any:
        add_route(netlink, default, 0, index=LOOPBACK_INDEX, local=True)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as there, socket.socket(family, socket.SOCK_DGRAM) as here:
            there.bind(("::" if ":" in address else "", 7))
            there.settimeout(60)
            here.sendto(b"x", (address, 7))
            return there.recv(10)

    assert inside(work) == b"x"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_last_route_says_unreachable(inside: Inside, family: socket.AddressFamily) -> None:
    def work(netlink: NetlinkSocket) -> str:
        set_link(netlink, link_index(netlink, "eth0"), up=False)
        add_unreachable(netlink, family)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(("192.0.2.1" if family == socket.AF_INET else "2001:db8:9::1", 7))
            except OSError as error:
                return str(error.strerror)
        return "no error"

    assert inside(work) == "No route to host"


def test_a_refusal_names_the_request(inside: Inside) -> None:
    def work(netlink: NetlinkSocket) -> str:
        try:
            set_link(netlink, 4711, up=True)
        except HostFault as fault:
            return str(fault)
        return "no error"

    assert inside(work).startswith("set link 4711 up: ")
