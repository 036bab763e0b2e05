"""An echo server in a process of its own, and the clients that talk with it."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rounds import Party

__all__ = ["ROUNDS", "echo_server", "party"]

ROUNDS = 5


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        made = transport.get_extra_info("socket")
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(data)


class _Sink(asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        """Nothing is made of it."""


def _serve(listener: socket.socket, sink: bool, files: tuple[Path, Path] | None) -> None:
    context = None
    if files is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*files)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(_Sink if sink else _Echo, sock=listener, ssl=context, backlog=1024)
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def echo_server(*, sink: bool = False, files: tuple[Path, Path] | None = None) -> Iterator[int]:
    """The port of a running server: it sends back what comes, or with `sink` nothing; with TLS given `files`."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    process = multiprocessing.get_context("fork").Process(target=_serve, args=(listener, sink, files), daemon=True)
    process.start()
    port = listener.getsockname()[1]
    listener.close()
    try:
        yield port
    finally:
        process.kill()
        process.join()


def party(figure: str, seconds: float, work: Callable[[float], Awaitable[float]]) -> Party:
    """A party whose `work` runs until a moment of `time.perf_counter` and gives how much it did."""

    def once() -> Mapping[str, float]:
        async def run() -> float:
            begun = time.perf_counter()
            done = await work(begun + seconds / ROUNDS)
            return done / (time.perf_counter() - begun)

        return {figure: asyncio.run(run())}

    return once
