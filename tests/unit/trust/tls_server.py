"""TLS servers on loopback for tests, with the talk that comes before STARTTLS where one is asked for."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from towpath.testing.pki import Identity

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def server_context(identity: Identity, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(*identity.write(folder))
    return context


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write((await reader.read(100)) or b"")


@contextmanager
def serving(context: ssl.SSLContext | None, talk: Talk | None = None, then: Talk | None = None) -> Iterator[int]:
    """A server in a thread of its own; gives its port.

    It talks in the clear, then over TLS if there is a context: `then`, or an echo.
    """
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    port: list[int] = []
    ready = threading.Event()
    stop = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError):
            if talk is not None:
                await talk(reader, writer)
            if context is not None:
                if talk is not None:
                    await writer.start_tls(context)
                await (then or _echo)(reader, writer)
        writer.close()

    async def run() -> None:
        immediate = context if talk is None else None
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=immediate) as server:
            port.append(server.sockets[0].getsockname()[1])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    ready.wait()
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def scripted(*steps: tuple[bytes, bytes]) -> Talk:
    """A talk that waits for each request (empty: waits for nothing) and gives its answer."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for request, answer in steps:
            if request:
                await reader.readuntil(request)
            writer.write(answer)
            await writer.drain()

    return talk
