"""Routers, switches, several cards, delays: what is plugged in where decides who reaches whom, and how fast."""

from __future__ import annotations

import socket
import time

import pytest
from tests.support.timing import best_of_several, within

from towpath.testing import Http, Lab, LabHost, LabPlan, TcpEcho


def _round_trip(client: LabHost, address: str) -> float:
    with client.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as connection:
        connection.settimeout(60)
        connection.connect((address, 7))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begun = time.monotonic()
        connection.sendall(b"x")
        assert connection.recv(10) == b"x"
        return time.monotonic() - begun


@pytest.fixture(scope="module")
def office() -> LabPlan:
    return (
        LabPlan()
        .router("building")
        .router("floor", on="building", ipv4="203.0.113.64/27", ipv6="2001:db8:77::/64")
        .switch("desks", on="floor")
        .host("alice", on="desks", serves=[TcpEcho()])
        .host("bob", on="desks", serves=[TcpEcho()])
        .host("server", on="floor", serves=[TcpEcho()])
        .host("outside", serves=[TcpEcho()])
    )


def test_hosts_reach_each_other_over_routers_and_switches(office: LabPlan) -> None:
    with office.start() as lab:
        for client in lab:
            for server in ("alice", "bob", "server", "outside"):
                for address in (lab[server].address4, lab[server].address6):
                    _round_trip(client, address)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8:dead::1"])
def test_hosts_behind_routers_hear_that_nobody_has_an_address(office: LabPlan, address: str) -> None:
    with office.start() as lab:
        ping = lab["alice"].run(["ping", "-c1", "-W60", address])
    assert "Unreachable" in ping.stdout or "unreachable" in ping.stdout


def test_each_router_is_one_hop(office: LabPlan) -> None:
    with office.start() as lab:
        ping = lab["outside"].run(["ping", "-c1", "-W60", lab["alice"].address4])
    assert "ttl=61" in ping.stdout  # of 64, less internet, building and floor


def test_only_those_on_one_switch_are_neighbours(office: LabPlan) -> None:
    with office.start() as lab:
        route = lab["alice"].run(["ip", "-o", "route", "get", lab["bob"].address4]).stdout
        assert " via " not in route
        assert " via " in lab["alice"].run(["ip", "-o", "route", "get", lab["server"].address4]).stdout


@pytest.mark.parametrize("family", ["4", "6"])
def test_a_delay_is_that_of_every_packet_each_way(family: str) -> None:
    plan = LabPlan().host("near").host("far", delay=0.03, serves=[TcpEcho(), Http()])
    with plan.start() as lab:
        address = lab["far"].address4 if family == "4" else lab["far"].address6
        assert _round_trip(lab["near"], address) >= 0.06
        url = f"http://{address}/" if family == "4" else f"http://[{address}]/"
        done = lab["near"].run(
            ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", f"{url}big?bytes=5000000", "-m", "60"]
        )
        assert done.stdout == "5000000", done.stderr


@best_of_several
def test_a_delay_can_come_and_go() -> None:
    with LabPlan().host("near").host("far", delay=0.0, serves=[TcpEcho()]).start() as lab:
        within(0.05, _round_trip(lab["near"], lab["far"].address4))
        with lab["far"].fault("delay", seconds=0.05):
            assert _round_trip(lab["near"], lab["far"].address4) >= 0.1
        within(0.05, _round_trip(lab["near"], lab["far"].address4))


def test_rate_and_loss_of_a_plan_hold_from_the_start() -> None:
    plan = LabPlan().host("near").host("far", rate="5mbit", loss=100.0, serves=[TcpEcho()])
    with plan.start() as lab:
        assert "rate 5Mbit" in lab["far"].run(["tc", "qdisc", "show", "dev", "eth0"]).stdout
        assert lab["near"].run(["ping", "-c1", "-W0.3", lab["far"].address4]).returncode == 1


def test_a_host_on_two_networks_falls_back_to_the_second() -> None:
    plan = (
        LabPlan()
        .switch("wifi")
        .switch("cellular")
        .host("phone", on=["wifi", "cellular"])
        .host("news", serves=[TcpEcho()])
    )
    with plan.start() as lab:
        phone, news = lab["phone"], lab["news"]
        assert "dev eth0" in phone.run(["ip", "route", "get", news.address4]).stdout
        _round_trip(phone, news.address4)
        assert phone.run(["ip", "link", "set", "eth0", "down"], administrator=True).returncode == 0
        assert "dev eth1" in phone.run(["ip", "route", "get", news.address4]).stdout
        _round_trip(phone, news.address4)


def test_addresses_of_the_plan_are_used() -> None:
    plan = LabPlan().host("fixed", ipv4="198.51.100.77", ipv6="2001:db8::77", serves=[TcpEcho()]).host("other")
    with plan.start() as lab:
        assert (lab["fixed"].address4, lab["fixed"].address6) == ("198.51.100.77", "2001:db8::77")
        _round_trip(lab["other"], "198.51.100.77")


def test_labs_do_not_see_each_other() -> None:
    plan = LabPlan().host("client").host("news", serves=[TcpEcho()])
    with plan.start() as one, Lab(plan) as other:
        _round_trip(one["client"], one["news"].address4)
        assert len(one["news"].log) == 1
        assert other["news"].log == []


def test_twenty_hosts_come_up() -> None:
    plan = LabPlan()
    for number in range(20):
        plan = plan.host(f"host{number}", serves=[TcpEcho()])
    with plan.start() as lab:
        _round_trip(lab["host0"], lab["host19"].address4)
