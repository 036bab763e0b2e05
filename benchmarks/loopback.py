"""An echo server in a process of its own, and the clients that talk with it."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from benchmarks.rounds import Party
from towpath.connection import Connection, Listener, Parameters
from towpath.errors import EndOfStream
from towpath.protocols import LengthPrefix

__all__ = ["ROUNDS", "Server", "echo_server", "party"]

ROUNDS = 5


class Server(StrEnum):
    """Who answers: what a client has at its own end, or a bare protocol that costs the least."""

    PROTOCOL = "protocol"
    STREAMS = "streams"
    STREAMS_FRAMED = "streams-framed"
    TOWPATH = "towpath"
    TOWPATH_FRAMED = "towpath-framed"
    SINK = "sink"


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(data)


class _Sink(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        """Nothing is made of it."""


async def _streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _framed_streams(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            head = await reader.readexactly(4)
            writer.write(head + await reader.readexactly(int.from_bytes(head, "big")))
            await writer.drain()
    writer.close()


async def _bytes(connection: Connection) -> None:
    with contextlib.suppress(EndOfStream):
        while True:
            await connection.send(await connection.receive())


async def _messages(connection: Connection) -> None:
    with contextlib.suppress(EndOfStream):
        while True:
            await connection.send(await connection.receive_message())


async def _run(kind: Server, port: int, context: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    if kind in (Server.TOWPATH, Server.TOWPATH_FRAMED):
        framed = kind is Server.TOWPATH_FRAMED
        async with Listener(f"127.0.0.1:{port}", Parameters.tcp(framers=[LengthPrefix()] if framed else [])) as ours:
            await ours.serve(_messages if framed else _bytes)
    elif kind in (Server.STREAMS, Server.STREAMS_FRAMED):
        answer = _streams if kind is Server.STREAMS else _framed_streams
        await (await asyncio.start_server(answer, "127.0.0.1", port)).serve_forever()
    else:
        made = _Sink if kind is Server.SINK else _Echo
        await (await loop.create_server(made, "127.0.0.1", port, ssl=context, backlog=1024)).serve_forever()


def _serve(kind: Server, port: int, files: tuple[Path, Path] | None) -> None:
    context = None
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)
    asyncio.run(_run(kind, port, context))


@contextmanager
def echo_server(kind: Server = Server.PROTOCOL, files: tuple[Path, Path] | None = None) -> Iterator[int]:
    """The port of a running server that sends back what comes; a `SINK` sends nothing; with TLS given `files`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(kind, port, files), daemon=True)
    process.start()
    try:
        _wait(port)
        yield port
    finally:
        process.kill()
        process.join()


def _wait(port: int) -> None:
    """Until the server accepts."""
    until = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)


def party(figure: str, seconds: float, work: Callable[[float], Awaitable[float]]) -> Party:
    """A party whose `work` runs until a moment of `time.perf_counter` and gives how much it did."""

    def once() -> Mapping[str, float]:
        async def run() -> float:
            begun = time.perf_counter()
            done = await work(begun + seconds / ROUNDS)
            return done / (time.perf_counter() - begun)

        return {figure: asyncio.run(run())}

    return once
