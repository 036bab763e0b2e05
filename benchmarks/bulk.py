"""One direction, as fast as it goes, in pieces of 64 KiB over one TCP connection."""

from __future__ import annotations

import asyncio
import time

from benchmarks.form import Measured
from benchmarks.loopback import ROUNDS, Server, echo_server, party
from benchmarks.rounds import take_turns
from towpath.connection import Connection, Parameters

_FIGURE = "megabytes_per_s"
_PIECE = bytes(1 << 16)


def run(seconds: float) -> Measured:
    """The server reads and forgets."""
    with echo_server(Server.SINK) as port:

        async def towpath(until: float) -> float:
            count = 0
            async with Connection(f"127.0.0.1:{port}", Parameters.tcp()) as connection:
                while time.perf_counter() < until:
                    await connection.send(_PIECE)
                    count += 1
            return count * len(_PIECE) / 1e6

        async def streams(until: float) -> float:
            count = 0
            _reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while time.perf_counter() < until:
                writer.write(_PIECE)
                await writer.drain()
                count += 1
            writer.close()
            await writer.wait_closed()
            return count * len(_PIECE) / 1e6

        parties = {"towpath": party(_FIGURE, seconds, towpath), "asyncio": party(_FIGURE, seconds, streams)}
        measured = take_turns("bytes in one direction over one TCP connection on loopback", parties, ROUNDS)
    measured.compare("vs_asyncio", "towpath", "asyncio", _FIGURE)
    return measured
