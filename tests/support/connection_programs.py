"""Runs on a host of the Lab: ``python -m tests.support.connection_programs NAME ENDPOINT ...``; a line an event."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine

from towpath.connection import (
    BetterPath,
    Connection,
    ConnectionEvent,
    Listener,
    Liveness,
    Parameters,
    PathChanged,
    StateChanged,
    Tcp,
    ViabilityChanged,
)
from towpath.errors import ConnectionFailed
from towpath.path import PathRequirements


def say(*words: object) -> None:
    print(*words, time.monotonic(), flush=True)  # noqa: T201


def tell(event: ConnectionEvent) -> None:
    match event:
        case StateChanged(state, error):
            say("state", state, type(error).__name__)
        case ViabilityChanged(viable):
            say("viable", viable)
        case BetterPath(available):
            say("better", available)
        case PathChanged(path):
            say("path", path.status)


async def until_dead(endpoint: str, seconds: str, sends: str, multipath: str) -> None:
    """Holds a connection, idle or sending each second, until it is declared dead."""
    liveness = Liveness(float(seconds))
    parameters = Parameters.tcp(options=Tcp(multipath=multipath == "multipath")).but(liveness=liveness)
    async with Connection(endpoint, parameters) as connection:
        await connection.send(b"x")
        await connection.receive()
        say("ready")
        try:
            while True:
                if sends == "sending":
                    await connection.send(b"x")
                receiving = asyncio.ensure_future(connection.receive())
                await asyncio.wait([receiving], timeout=1)
                if not receiving.done():
                    receiving.cancel()
                else:
                    receiving.result()
                    await asyncio.sleep(1)
        except ConnectionFailed as error:
            say("dead", error.errno)


async def once(endpoint: str, interface: str = "", price: str = "any") -> None:
    """Connects when it can, says what happens, and echoes a word for each line of its input until that ends."""
    requirements = PathRequirements(required_interface=interface or None, prohibit_expensive=price == "cheap")
    connection = Connection(endpoint, Parameters.tcp().but(path=requirements))
    connection.observe(tell)
    loop = asyncio.get_running_loop()
    try:
        await connection.ready()
    except ConnectionFailed as error:
        say("failed", type(error.__cause__).__name__)
        connection.cancel()
        return
    async with connection:
        for found in connection.report.resolutions:
            say("resolved", found.source, *found.endpoints)
        while await loop.run_in_executor(None, sys.stdin.readline):
            await connection.send(b"word")
            say("answer", (await connection.receive(4, 4)).decode())


async def by(endpoint: str, requirement: str, interface: str) -> None:
    """Connects with a requirement on the path, and says from where."""
    paths = {
        "none": PathRequirements(),
        "required": PathRequirements(required_interface=interface),
        "prohibited": PathRequirements(prohibited_interfaces=frozenset({interface})),
    }
    path = paths[requirement]
    try:
        async with Connection(endpoint, Parameters.tcp().but(path=path)) as connection:
            await connection.send(b"word")
            say("from", connection.local, (await connection.receive(4, 4)).decode())
    except ConnectionFailed as error:
        say("failed", error.errno)


def opened_fast(kind: str) -> int:
    """How many connections of this network namespace began with data, by the kernel's own count."""
    with open("/proc/net/netstat") as file:
        lines = [line.split() for line in file]
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        if kind in names:
            return int(values[names.index(kind)])
    raise KeyError(kind)


async def fast(endpoint: str) -> None:
    """Connects twice with fast open: the first time brings the cookie, the second uses it."""
    for _ in range(2):
        async with Connection(endpoint, Parameters.tcp(options=Tcp(fast_open=True))) as connection:
            await connection.send(b"word")
            say("answer", (await connection.receive(4, 4)).decode(), opened_fast("TCPFastOpenActive"))


async def serve(endpoint: str) -> None:
    """Echoes, and says how many connections began with data, until its input ends."""
    async with Listener(endpoint, Parameters.tcp(options=Tcp(fast_open=True))) as listener:
        say("listening")

        async def echo(connection: Connection) -> None:
            async with connection:
                async for message in connection:
                    await connection.send(message)
            say("served", opened_fast("TCPFastOpenPassive"))

        async def take() -> None:
            async with asyncio.TaskGroup() as clients:
                while True:
                    clients.create_task(echo(await listener.accept()))

        reading = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        taking = asyncio.create_task(take())
        await asyncio.wait([reading, taking], return_when=asyncio.FIRST_COMPLETED)
        if taking.done():
            taking.result()
        taking.cancel()


_PROGRAMS: dict[str, Callable[..., Coroutine[None, None, None]]] = {
    program.__name__: program for program in (until_dead, once, by, fast, serve)
}

if __name__ == "__main__":
    name, *words = sys.argv[1:]
    asyncio.run(_PROGRAMS[name](*words))
