"""Service bindings decide how a host is reached: by QUIC where its HTTPS record offers that, else by TLS."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.timing import TooSlow, best_of_several

from towpath.connection import Connection, Parameters
from towpath.protocols import Lines
from towpath.testing import Dns, Lab, LabPlan, Pki
from towpath.trust import Anchors

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("modern.test", "plain.test", "service.modern.test")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A client, a host that speaks both, and a name server that says what it speaks."""
    plan = LabPlan().host("client").host("web", ipv4="198.51.100.7").host("dns", serves=[Dns()])
    for name in NAMES:
        plan = plan.record(name, "A", "198.51.100.7")
    plan = plan.record("modern.test", "HTTPS", "1 . alpn=h3,h2")
    plan = plan.record("moved.test", "HTTPS", "1 service.modern.test alpn=h3")
    with plan.start() as made:
        yield made


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@contextlib.contextmanager
def serving(lab: Lab, pki: Pki, folder: Path, *protocols: str) -> Iterator[None]:
    chain, key = pki.good(*NAMES, "moved.test").write(folder)
    command = [sys.executable, "-m", "tests.support.binding_server", str(chain), str(key), *protocols]
    pipe = subprocess.PIPE
    with lab["web"].popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "listening\n"
        yield
        process.stdin.close()
        assert process.wait(60) == 0


def reach(lab: Lab, pki: Pki, name: str, *, alone: bool = False) -> tuple[str, list[str], list[str]]:
    """The handshake that won, the attempts, and what was asked for the name's services."""
    anchors = Anchors.of(pki.root.certificate)
    tls = Parameters.tls(alpn=["h2"], anchors=anchors, framers=[Lines()])
    quic = Parameters.quic(alpn=["h3"], anchors=anchors, framers=[Lines()], otherwise=None if alone else tls)

    async def scenario() -> tuple[str, list[str], list[str]]:
        async with asyncio.timeout(60), Connection(f"{name}:443", quic) as connection:
            await connection.send(b"hello")
            assert (await connection.receive_message()).content == b"hello"
            report = connection.report
            attempts = [f"{attempt.endpoint} {attempt.outcome}" for attempt in report.attempts]
            bindings = [text for found in report.resolutions for text in found.endpoints if "h3" in text]
            return report.handshakes[0].protocol, attempts, bindings

    return lab["client"].call(lambda: asyncio.run(scenario()))


def by_quic_alone(protocol: str, attempts: list[str]) -> None:
    """TLS is tried beside it after a quarter of a second, which a busy machine may take."""
    if len(attempts) > 1 and attempts[0].endswith(("won", "cancelled")):
        raise TooSlow(f"QUIC was not the only one: {attempts}")
    assert protocol == "Quic"
    assert attempts == ["198.51.100.7:443 by quic won"]


@best_of_several
def test_quic_is_used_where_the_host_offers_it(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    with serving(lab, pki, tmp_path, "quic", "tls"):
        protocol, attempts, bindings = reach(lab, pki, "modern.test")
    assert bindings == ["1 modern.test h3,h2"]
    by_quic_alone(protocol, attempts)


def test_tls_is_used_where_it_does_not(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    with serving(lab, pki, tmp_path, "quic", "tls"):
        protocol, attempts, _ = reach(lab, pki, "plain.test")
    assert protocol == "Tls"
    assert attempts == ["198.51.100.7:443 won"]


def test_tls_wins_where_quic_is_offered_and_fails(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    with serving(lab, pki, tmp_path, "tls"):
        protocol, attempts, _ = reach(lab, pki, "modern.test")
    assert protocol == "Tls"
    assert attempts[1:] == ["198.51.100.7:443 won"]
    assert attempts[0] in ("198.51.100.7:443 by quic failed", "198.51.100.7:443 by quic cancelled")


@best_of_several
def test_a_binding_leads_to_another_host_and_the_name_stays_what_was_meant(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    with serving(lab, pki, tmp_path, "quic"):
        protocol, attempts, _ = reach(lab, pki, "moved.test")
    by_quic_alone(protocol, attempts)


def test_who_speaks_quic_alone_does_so_without_an_offer(lab: Lab, pki: Pki, tmp_path: Path) -> None:
    with serving(lab, pki, tmp_path, "quic"):
        protocol, _, _ = reach(lab, pki, "plain.test", alone=True)
    assert protocol == "Quic"
