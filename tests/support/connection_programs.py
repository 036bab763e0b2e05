"""Runs on a host of the Lab: ``python -m tests.support.connection_programs NAME ENDPOINT ...``; a line an event."""

from __future__ import annotations

import asyncio
import sys
import time

from towpath.connection import (
    BetterPath,
    Connection,
    ConnectionEvent,
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


if __name__ == "__main__":
    name, *words = sys.argv[1:]
    asyncio.run(until_dead(*words) if name == "until_dead" else once(*words))
