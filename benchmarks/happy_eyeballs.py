"""How long a connection takes when the preferred address family leads nowhere, without and with what was learned."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping

from benchmarks.form import Measured
from benchmarks.rounds import Absent, take_turns
from towpath.connection.racing import Candidate, RaceMemory, candidates_for, race
from towpath.names import Resolver
from towpath.testing import Dns, Http, Lab, LabHost, LabPlan

_NAME, _PORT = "good.test", 80
_FEWEST, _MOST = 3, 15
_DELAY = 0.25
_HOLE = (
    "add table inet hole; add chain inet hole in {{ type filter hook input priority -300; }}; "
    "add rule inet hole in ip6 daddr {address} tcp dport 80 drop"
)
_PLAN = LabPlan().host("client").host("web", serves=[Http(names=(_NAME,))]).host("dns", serves=[Dns()])


def run(seconds: float) -> Measured:
    """Each party resolves the name and connects, in a fresh process on the client; its start is not counted."""
    rounds = min(_MOST, max(_FEWEST, round(seconds / 2)))
    with _PLAN.start() as lab:
        _black_hole(lab)
        client = lab["client"]
        work = "resolve a name and connect by TCP, its IPv6 address black-holed, attempts 250 ms apart"
        parties = {
            "towpath": _party(client, _towpath),
            "towpath_learned": _party(client, _towpath_learned),
            "asyncio": _party(client, _asyncio),
            "anyio": _party(client, _anyio),
        }
        measured = take_turns(work, parties, rounds)
    measured.results["goal"] = {"seconds": _DELAY}
    measured.compare("vs_asyncio", "towpath", "asyncio", "seconds", less_is_better=True)
    measured.compare("vs_anyio", "towpath", "anyio", "seconds", less_is_better=True)
    measured.compare("vs_limit", "towpath", "goal", "seconds", less_is_better=True)
    return measured


def _black_hole(lab: Lab) -> None:
    rules = _HOLE.format(address=lab["web"].address6)
    lab["web"].run(["nft", rules], administrator=True, check=True)


def _party(client: LabHost, work: Callable[[], Awaitable[float]]) -> Callable[[], Mapping[str, float]]:
    def once() -> Mapping[str, float]:
        return {"seconds": client.call(lambda: asyncio.run(_finished(work)))}

    return once


async def _finished(work: Callable[[], Awaitable[float]]) -> float:
    return await work()


async def _dial(candidate: Candidate) -> socket.socket:
    family = socket.AF_INET6 if candidate.version == 6 else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (candidate.address, candidate.port))
    except BaseException:
        connection.close()
        raise
    return connection


async def _race(resolver: Resolver, memory: RaceMemory) -> float:
    begun = time.perf_counter()
    raced = await race(candidates_for(resolver, _NAME, _PORT), _dial, memory=memory, key=_NAME)
    taken = time.perf_counter() - begun
    raced.result.close()
    return taken


async def _towpath() -> float:
    async with Resolver() as resolver:
        return await _race(resolver, RaceMemory())


async def _towpath_learned() -> float:
    """The second connection of one program: the family that failed is known, and the name is cached."""
    memory = RaceMemory()
    async with Resolver() as resolver:
        await _race(resolver, memory)
        return await _race(resolver, memory)


async def _asyncio() -> float:
    begun = time.perf_counter()
    _, writer = await asyncio.open_connection(_NAME, _PORT, happy_eyeballs_delay=_DELAY)
    taken = time.perf_counter() - begun
    writer.close()
    return taken


async def _anyio() -> float:
    try:
        import anyio
    except ImportError:
        raise Absent("anyio is not installed: make peers") from None
    begun = time.perf_counter()
    stream = await anyio.connect_tcp(_NAME, _PORT, happy_eyeballs_delay=_DELAY)
    taken = time.perf_counter() - begun
    await stream.aclose()
    return taken
