"""Messages of 64 bytes, each after its length, there and back over one TCP connection: one by one, and 32 in flight."""

from __future__ import annotations

import asyncio
import time

from benchmarks.form import Measured
from benchmarks.loopback import ROUNDS, Server, echo_server, party
from benchmarks.rounds import take_turns
from towpath.connection import Connection, Parameters
from towpath.protocols import LengthPrefix

_FIGURE = "messages_per_s"
_WORDS = b"x" * 64
_FLIGHT = 32


def run(seconds: float) -> Measured:
    """Each party answers itself, message by message, in another process. asyncio reads with ``readexactly``."""
    with echo_server(Server.TOWPATH_FRAMED) as ours, echo_server(Server.STREAMS_FRAMED) as theirs:
        parties = {
            "towpath": party(_FIGURE, seconds, lambda until: _towpath(ours, until)),
            "asyncio": party(_FIGURE, seconds, lambda until: _streams(theirs, until)),
            "towpath_in_flight": party(_FIGURE, seconds, lambda until: _towpath(ours, until, _FLIGHT)),
            "asyncio_in_flight": party(_FIGURE, seconds, lambda until: _streams(theirs, until, _FLIGHT)),
        }
        work = f"messages of 64 bytes with a length of 4, there and back; in flight: {_FLIGHT} at a time"
        measured = take_turns(work, parties, ROUNDS)
    measured.compare("vs_asyncio", "towpath", "asyncio", _FIGURE)
    measured.compare("vs_asyncio_in_flight", "towpath_in_flight", "asyncio_in_flight", _FIGURE)
    return measured


async def _towpath(port: int, until: float, flight: int = 1) -> float:
    count = 0
    async with Connection(f"127.0.0.1:{port}", Parameters.tcp(framers=[LengthPrefix()])) as connection:
        while time.perf_counter() < until:
            if flight == 1:
                await connection.send(_WORDS)
            else:
                with connection.batch():
                    for _ in range(flight):
                        await connection.send(_WORDS)
            for _ in range(flight):
                await connection.receive_message()
            count += flight
    return count


async def _streams(port: int, until: float, flight: int = 1) -> float:
    count = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        for _ in range(flight):
            writer.write(len(_WORDS).to_bytes(4, "big") + _WORDS)
        await writer.drain()
        for _ in range(flight):
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
        count += flight
    writer.close()
    await writer.wait_closed()
    return count
