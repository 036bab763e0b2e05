"""Faults break what they say they break, for as long as they last."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from towpath.errors import HostFault, Misuse
from towpath.testing import Http, Https, Lab, LabHost, LabPlan, TcpEcho, UdpEcho
from towpath.testing.faults import Fault

PLAN = (
    LabPlan()
    .host("client")
    .host("news", serves=[Https(names=("news.test",)), Http(names=("news.test",)), TcpEcho(), UdpEcho(port=9000)])
    .host("slow", serves=[Http(names=("slow.test",), bytes_per_second=2000)])
)
OK, REFUSED, TIMED_OUT, RESET = 0, 7, 28, 35


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with PLAN.start() as lab:
        yield lab


def _fetch(lab: Lab, url: str = "https://news.test/", patience: str = "60") -> int:
    return lab["client"].run(["curl", "-sS", "-o", "/dev/null", "-m", patience, url]).returncode


@pytest.mark.parametrize(
    ("kind", "code"), [("silent", TIMED_OUT), ("reset", RESET), ("refuse", REFUSED), ("black-hole", TIMED_OUT)]
)
def test_a_broken_port_fails_in_its_way_and_then_works_again(lab: Lab, kind: Fault, code: int) -> None:
    with lab["news"].fault(kind, port=443):
        assert _fetch(lab, patience="0.5" if code == TIMED_OUT else "60") == code
        assert _fetch(lab, "http://news.test/") == OK
    assert _fetch(lab) == OK


@pytest.mark.parametrize("kind", ["silent", "refuse", "black-hole"])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["4", "6"])
def test_a_host_broken_as_a_whole_answers_no_datagram(lab: Lab, kind: Fault, family: socket.AddressFamily) -> None:
    news = lab["news"]
    with lab["client"].socket(family, socket.SOCK_DGRAM) as endpoint:
        endpoint.connect((news.address4 if family == socket.AF_INET else news.address6, 9000))
        endpoint.settimeout(60 if kind == "refuse" else 0.2)
        with news.fault(kind):
            endpoint.send(b"x")
            with pytest.raises(ConnectionRefusedError if kind == "refuse" else TimeoutError):
                endpoint.recv(10)
        endpoint.settimeout(60)
        endpoint.send(b"y")
        assert endpoint.recv(10) == b"y"


def test_a_black_hole_swallows_the_first_packet(lab: Lab) -> None:
    with lab["news"].fault("black-hole", port=7), lab["client"].socket() as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.connect((lab["news"].address4, 7))


def test_a_reset_is_no_refusal(lab: Lab) -> None:
    with lab["news"].fault("reset", port=7), lab["client"].socket() as connection:
        connection.settimeout(60)
        with pytest.raises(ConnectionResetError):
            _connect_and_read(connection, (lab["news"].address4, 7))


def _connect_and_read(connection: socket.socket, address: tuple[str, int]) -> bytes:
    connection.connect(address)
    return connection.recv(10)


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield


@pytest.mark.parametrize(("url", "faulty"), [("http://slow.test", False), ("http://news.test", True)])
def test_slow_is_as_slow_as_was_said(lab: Lab, url: str, faulty: bool) -> None:
    broken = lab["news"].fault("slow", port=80, bytes_per_second=2000) if faulty else _nothing()
    begun = time.monotonic()
    with broken:
        assert _fetch(lab, f"{url}/big?bytes=1000") == OK
    assert time.monotonic() - begun > 0.4


def test_a_narrow_link_takes_its_time(lab: Lab) -> None:
    begun = time.monotonic()
    with lab["news"].fault("rate", rate="10mbit"):
        assert _fetch(lab, "http://news.test/big?bytes=500000") == OK
    assert time.monotonic() - begun > 0.3


def test_all_packets_can_be_lost(lab: Lab) -> None:
    with lab["news"].fault("loss", percent=100):
        assert lab["client"].run(["ping", "-c1", "-W0.3", lab["news"].address4]).returncode == 1


def test_half_the_packets_can_be_lost(lab: Lab) -> None:
    with lab["news"].fault("loss", percent=50), lab["client"].socket(kind=socket.SOCK_DGRAM) as endpoint:
        endpoint.connect((lab["news"].address4, 9000))
        endpoint.settimeout(1)
        for _ in range(200):
            endpoint.send(b"x")
        answered = _count(endpoint)
    assert 10 < answered < 100  # a quarter survives both ways


def _count(endpoint: socket.socket) -> int:
    found = 0
    try:
        while endpoint.recv(10):
            found += 1
    except TimeoutError:
        pass
    return found


def test_a_pulled_cable_can_be_plugged_in_again_and_again(lab: Lab) -> None:
    for _ in range(2):
        with lab["news"].fault("link-down"):
            assert "NO-CARRIER" in lab["news"].run(["ip", "-o", "link", "show", "eth0"]).stdout
            for family, address in ((socket.AF_INET, lab["news"].address4), (socket.AF_INET6, lab["news"].address6)):
                with lab["client"].socket(family) as probe, pytest.raises(OSError, match="unreachable|No route"):
                    probe.connect((address, 7))
        assert _fetch(lab, f"https://{lab['news'].address4}/") == OK
        assert _fetch(lab, f"https://[{lab['news'].address6}]/") == OK


@pytest.mark.parametrize(
    ("kind", "port", "amount", "words"),
    [
        ("slow", 80, {}, "takes bytes_per_second, not nothing"),
        ("slow", 80, {"bytes_per_second": 0}, "are none"),
        ("reset", 80, {"percent": 3}, "takes no amount, not percent"),
        ("loss", None, {"percent": 0}, "is none"),
        ("link-down", 80, {}, "of a whole host"),
        ("delay", None, {"seconds": 1}, "only a host whose plan has a delay"),
        ("mtu-black-hole", None, {"bytes": 900}, "1280, which is the least of IPv6, to 1500"),
        ("silent", 81, {}, "serves nothing of its own on port 81"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    lab: Lab, kind: Fault, port: int | None, amount: dict[str, Any], words: str
) -> None:
    with pytest.raises(Misuse, match=words), lab["news"].fault(kind, port=port, **amount):
        pass


@pytest.mark.parametrize("family", [4, 6])
def test_packets_that_are_too_large_vanish_without_a_word(lab: Lab, family: int) -> None:
    client, news = lab["client"], lab["news"]
    where = news.address4 if family == 4 else news.address6

    def passes(size: int, patience: int = 60) -> bool:
        words = [
            "ping",
            "-M",
            "do",
            "-c",
            "1",
            "-W",
            str(patience),
            "-s",
            str(size - (28 if family == 4 else 48)),
            where,
        ]
        done = client.run(words)
        assert "Frag needed" not in done.stdout
        assert "too big" not in done.stdout.lower()
        return done.returncode == 0

    assert passes(1500)
    with news.fault("mtu-black-hole", bytes=1400):
        assert passes(1400)
        assert not passes(1401, 1)
    assert passes(1500)


def test_a_rate_that_tc_does_not_understand_is_an_error_in_its_words(lab: Lab) -> None:
    with pytest.raises(HostFault, match="tc"), lab["news"].fault("rate", rate="fast"):
        pass


def test_a_fault_is_mended_when_the_block_fails(lab: Lab) -> None:
    host: LabHost = lab["news"]
    with pytest.raises(ZeroDivisionError), host.fault("refuse", port=443):
        _ = 1 / 0
    assert _fetch(lab) == OK
