"""The stream of changes, on a machine that exists in memory: what is one change and what is none."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TypeVar

import pytest

from towpath.errors import Misuse
from towpath.kernel.network import Metered, NetworkFacts
from towpath.path import Path, PathMonitor, PathPolicy, PathRequirements, PathStatus, watch_interfaces
from towpath.testing import NetworkTwin

T = TypeVar("T")
PATIENCE = 60.0


def twin_with(*names: str) -> NetworkTwin:
    twin = NetworkTwin()
    for name in names:
        twin.add_link(name)
    return twin


async def following(stream: AsyncIterator[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await anext(stream)


def test_the_first_change_comes_at_once_and_adds_all_there_is() -> None:
    async def watch() -> list[str]:
        async with aclosing(watch_interfaces(twin_with("a", "b"))) as changes:
            return [interface.name for interface in (await following(changes)).added]

    assert asyncio.run(watch()) == ["a", "b"]


def test_a_machine_without_interfaces_has_a_first_change_too() -> None:
    async def watch() -> int:
        async with aclosing(watch_interfaces(NetworkTwin())) as changes:
            return len((await following(changes)).interfaces)

    assert asyncio.run(watch()) == 0


def test_c4_a_burst_of_thirteen_notices_is_one_change() -> None:
    async def watch() -> None:
        twin = twin_with("a")
        async with aclosing(watch_interfaces(twin)) as changes:
            await following(changes)
            waiting = asyncio.create_task(following(changes))
            for number in range(13):
                twin.add_address("a", f"192.0.2.{number + 1}/24")
                await asyncio.sleep(0)  # so that it is heard before the next comes
            ((_, after),) = (await waiting).changed
            assert len(after.addresses) == 13
            twin.add_link("b")
            change = await following(changes)
            assert [interface.name for interface in change.added] == ["b"]
            assert not change.changed

    asyncio.run(watch())


def test_notices_that_keep_coming_prolong_the_pause_but_not_for_ever() -> None:
    async def watch() -> int:
        twin = twin_with("a")
        added = 0

        async def disturb() -> None:
            nonlocal added
            while True:
                twin.add_address("a", f"10.{added >> 8}.{added & 255}.1/32")
                added += 1
                await asyncio.sleep(0)

        async with aclosing(watch_interfaces(twin, quiet=0.05, patience=0.1)) as changes:
            await following(changes)
            disturbing = asyncio.create_task(disturb())
            ((_, after),) = (await following(changes)).changed
            disturbing.cancel()
            return len(after.addresses)

    assert asyncio.run(watch()) > 1


class ReadTwin(NetworkTwin):
    """Tells when it has been read."""

    def __init__(self) -> None:
        super().__init__()
        self.was_read = asyncio.Event()

    def read(self) -> NetworkFacts:
        self.was_read.set()
        return super().read()


def test_what_comes_and_goes_within_a_burst_is_no_change() -> None:
    async def watch() -> list[str]:
        twin = ReadTwin()
        async with aclosing(watch_interfaces(twin, quiet=0.01)) as changes:
            await following(changes)
            twin.was_read.clear()
            waiting = asyncio.create_task(following(changes))
            twin.add_link("flash")
            twin.remove_link("flash")
            await twin.was_read.wait()
            twin.add_link("stays")
            return [interface.name for interface in (await waiting).added]

    assert asyncio.run(watch()) == ["stays"]


def test_a_busy_consumer_gets_what_happened_meanwhile_as_one_change() -> None:
    async def watch() -> None:
        twin = twin_with("a")
        async with aclosing(watch_interfaces(twin, quiet=0)) as changes:
            await following(changes)
            for name in ("b", "c"):
                twin.add_link(name)
                await asyncio.sleep(0)
            assert [interface.name for interface in (await following(changes)).added] == ["b", "c"]

    asyncio.run(watch())


@pytest.mark.parametrize(("quiet", "patience"), [(-0.1, 1.0), (2.0, 1.0)])
def test_a_pause_that_cannot_be_is_refused(quiet: float, patience: float) -> None:
    async def watch() -> None:
        await anext(watch_interfaces(NetworkTwin(), quiet=quiet, patience=patience))

    with pytest.raises(Misuse, match="quiet must be from 0 to patience"):
        asyncio.run(watch())


@pytest.mark.parametrize("waits", [False, True], ids=["after the first change", "while it waits"])
def test_a_stream_that_is_left_keeps_no_descriptor(waits: bool) -> None:
    async def watch() -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        changes = watch_interfaces(twin_with("a"))
        await following(changes)
        assert sorted(os.listdir("/proc/self/fd")) != before
        if waits:
            waiting = asyncio.create_task(following(changes))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await changes.aclose()
        assert sorted(os.listdir("/proc/self/fd")) == before

    asyncio.run(watch())


def laptop() -> NetworkTwin:
    twin = NetworkTwin()
    twin.add_link("wire")
    twin.add_address("wire", "192.0.2.9/24")
    twin.add_default_route("wire", "192.0.2.1")
    twin.add_link("modem", device_type="wwan")
    twin.add_address("modem", "198.51.100.9/24")
    twin.add_default_route("modem", "198.51.100.1", metric=700)
    return twin


def names(path: Path) -> list[str]:
    return [interface.name for interface in path.interfaces]


def test_a_monitor_gives_the_path_on_start_and_then_each_that_differs() -> None:
    async def watch() -> None:
        twin = laptop()
        async with aclosing(aiter(PathMonitor(network=twin, policy=PathPolicy()))) as paths:
            assert names(await following(paths)) == ["wire", "modem"]
            twin.set_link("wire", carrier=False)
            assert names(await following(paths)) == ["modem"]
            twin.add_link("unrelated", kind="veth")
            twin.set_link("wire")
            assert names(await following(paths)) == ["wire", "modem"]

    asyncio.run(watch())


def unplug(twin: NetworkTwin) -> None:
    twin.set_link("wire", carrier=False)


def remove(twin: NetworkTwin) -> None:
    twin.remove_link("wire")


@pytest.mark.parametrize("harm", [unplug, remove])
def test_c5_a_path_comes_back_when_one_that_is_tolerated_appears(harm: Callable[[NetworkTwin], None]) -> None:
    policy = PathPolicy.parse("[types.cellular]\nexpensive = true\n", "paths.toml")

    async def watch() -> None:
        twin = laptop()
        monitor = PathMonitor(PathRequirements(prohibit_expensive=True), network=twin, policy=policy)
        async with aclosing(aiter(monitor)) as paths:
            assert names(await following(paths)) == ["wire"]
            harm(twin)
            lost = await following(paths)
            assert lost.status is PathStatus.UNSATISFIED
            assert lost.reason is not None
            twin.add_link("air", wireless=True)
            twin.add_address("air", "203.0.113.9/24")
            twin.add_default_route("air", "203.0.113.1")
            assert names(await following(paths)) == ["air"]

    asyncio.run(watch())


def test_an_interface_that_becomes_metered_is_one_change_of_the_interfaces_and_of_the_path() -> None:
    async def watch() -> None:
        twin = laptop()
        monitor = PathMonitor(PathRequirements(prohibit_expensive=True), network=twin, policy=PathPolicy())
        async with aclosing(aiter(monitor)) as paths, aclosing(watch_interfaces(twin)) as changes:
            assert names(await following(paths)) == ["wire", "modem"]
            await following(changes)
            for metered, expected in ((Metered.YES, ["modem"]), (None, ["wire", "modem"])):
                twin.set_metered("wire", metered)
                ((_, after),) = (await following(changes)).changed
                assert (after.name, after.metered) == ("wire", metered)
                assert names(await following(paths)) == expected

    asyncio.run(watch())
