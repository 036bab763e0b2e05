"""64 bytes there and back over one TCP connection, beside asyncio's streams and a bare asyncio protocol."""

from __future__ import annotations

import asyncio
import time

from benchmarks.form import Measured
from benchmarks.loopback import ROUNDS, Server, echo_server, party
from benchmarks.rounds import take_turns
from towpath.connection import Connection, Parameters

_FIGURE = "exchanges_per_s"
_WORDS = b"x" * 64


def run(seconds: float) -> Measured:
    """Each party answers itself, in another process: both ends are programs."""
    with (
        echo_server(Server.TOWPATH) as ours,
        echo_server(Server.STREAMS) as theirs,
        echo_server(Server.PROTOCOL) as bare,
    ):
        parties = {
            "towpath": party(_FIGURE, seconds, lambda until: _towpath(ours, until)),
            "asyncio": party(_FIGURE, seconds, lambda until: _streams(theirs, until)),
            "asyncio_protocol": party(_FIGURE, seconds, lambda until: _protocol(bare, until)),
        }
        measured = take_turns("64 bytes there and back over one TCP connection on loopback", parties, ROUNDS)
    measured.compare("vs_asyncio", "towpath", "asyncio", _FIGURE)
    measured.compare("vs_asyncio_protocol", "towpath", "asyncio_protocol", _FIGURE)
    return measured


async def _towpath(port: int, until: float) -> float:
    count = 0
    async with Connection(f"127.0.0.1:{port}", Parameters.tcp()) as connection:
        while time.perf_counter() < until:
            await connection.send(_WORDS)
            await connection.receive(64, 64)
            count += 1
    return count


async def _streams(port: int, until: float) -> float:
    count = 0
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        writer.write(_WORDS)
        await writer.drain()
        await reader.readexactly(64)
        count += 1
    writer.close()
    await writer.wait_closed()
    return count


async def _protocol(port: int, until: float) -> float:
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    transport, client = await loop.create_connection(lambda: _Client(over, until), "127.0.0.1", port)
    await over
    transport.close()
    return client.count


class _Client(asyncio.Protocol):
    """Answers each answer with the next question, in the callback itself."""

    def __init__(self, over: asyncio.Future[None], until: float) -> None:
        self.count = 0
        self._over, self._until, self._got = over, until, 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(_WORDS)

    def data_received(self, data: bytes) -> None:
        self._got += len(data)
        if self._got < 64:
            return
        self._got = 0
        self.count += 1
        if time.perf_counter() < self._until:
            self._transport.write(_WORDS)
        elif not self._over.done():
            self._over.set_result(None)
