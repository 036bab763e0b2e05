"""Bonjour between two hosts on one segment: real multicast, real processes."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from towpath.errors import Misuse
from towpath.names import Bonjour, BonjourChange, BonjourService, Resolver
from towpath.testing import Lab, LabHost, LabPlan

PLAN = LabPlan().switch("office").host("one", on="office").host("two", on="office")
TYPE = "_towpath-test._tcp"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two hosts on a switch."""
    with PLAN.start() as lab:
        yield lab


@contextlib.contextmanager
def advertised(host: LabHost, name: str, port: int) -> Iterator[str]:
    """A process on the host that announces a service; gives the name it got. It says goodbye at the end."""
    command = [sys.executable, "-m", "tests.support.bonjour_advertiser", name, str(port)]
    with host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdin
        assert process.stdout
        yield process.stdout.readline().strip()
        process.stdin.close()
        assert process.wait(60) == 0


async def first(kind: str) -> BonjourChange:
    async with Bonjour() as bonjour, aclosing(bonjour.browse(TYPE)) as changes:
        return await anext(change async for change in changes if change.kind == kind)


def test_a_service_is_found_with_all_that_it_says(lab: Lab) -> None:
    with advertised(lab["one"], "Front door", 8080) as name:
        assert name == f"Front door.{TYPE}.local"
        found = lab["two"].call(lambda: asyncio.run(first("added"))).service
    assert (found.name, found.type, found.domain, found.port) == ("Front door", TYPE, "local", 8080)
    assert found.host == "advertiser.local"
    assert dict(found.text) == {"path": b"/a"}
    assert lab["one"].address4 in found.addresses


def test_a_name_that_is_taken_is_numbered(lab: Lab) -> None:
    with advertised(lab["one"], "Same", 1) as one, advertised(lab["two"], "Same", 2) as other:
        assert one == f"Same.{TYPE}.local"
        assert other != one
        assert other.startswith("Same")


def test_a_goodbye_removes_the_service(lab: Lab) -> None:
    async def scenario() -> list[str]:
        found: list[str] = []
        async with Bonjour() as bonjour:
            service = BonjourService("Here", TYPE, host="me.local", port=7, addresses=("192.0.2.7",))
            async with Bonjour() as other, aclosing(other.browse(TYPE)) as changes:
                async with bonjour.advertise(service):
                    found.append((await anext(changes)).kind)
                found.append((await anext(changes)).kind)
        return found

    assert lab["two"].call(lambda: asyncio.run(scenario())) == ["added", "removed"]


def test_the_hosts_name_resolves_by_multicast(lab: Lab) -> None:
    async def scenario() -> list[str]:
        async with Resolver() as resolver:
            found = await resolver.resolve("advertiser.local", ["A"])
            return [f"{address.address} {address.source}" for address in found.addresses]

    with advertised(lab["one"], "Front door", 8080):
        assert lab["two"].call(lambda: asyncio.run(scenario())) == [f"{lab['one'].address4} mdns"]


@pytest.mark.parametrize(
    "service",
    [
        BonjourService("x", TYPE, port=0),
        BonjourService("x", "nonsense", port=1),
        BonjourService("x", TYPE, port=1, text={"": b""}),
        BonjourService("x", TYPE, port=1, text={"a=b": b""}),
        BonjourService("x", TYPE, port=1, text={"a": bytes(254)}),
    ],
    ids=["port", "type", "no-key", "equals", "long"],
)
def test_what_cannot_be_announced_is_misuse(lab: Lab, service: BonjourService) -> None:
    async def scenario() -> None:
        async with Bonjour() as bonjour, bonjour.advertise(service):
            raise AssertionError

    with pytest.raises(Misuse):
        lab["one"].call(lambda: asyncio.run(scenario()))


def test_outside_of_its_block_it_is_misuse() -> None:
    async def scenario() -> None:
        with pytest.raises(Misuse):
            async with Bonjour().advertise(BonjourService("x", TYPE, port=1)):
                raise AssertionError
        with pytest.raises(Misuse):
            await anext(Bonjour().browse(TYPE))

    asyncio.run(scenario())
