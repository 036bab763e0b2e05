"""Messages of 1 KB over one WebSocket, there and back, each party with its own client and its own server."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.form import Measured
from benchmarks.loopback import ROUNDS, party
from benchmarks.rounds import Absent, Party, take_turns
from towpath.connection import Connection, Listener, Parameters

_FIGURE = "messages_per_s"
_WORDS = b"x" * 1024
_FLIGHT = 32

Serve = Callable[[int], Awaitable[None]]
Talk = Callable[[int, float, int], Awaitable[float]]


def run(seconds: float) -> Measured:
    """No compression on any side; one process each. One by one, the kernel's wake-ups are most of the time."""
    with ExitStack() as stack:
        parties: dict[str, Party] = {}
        for name, serve, talk in (
            ("towpath", _towpath_server, _towpath),
            ("websockets", _websockets_server, _websockets),
            ("picows", _picows_server, _picows),
        ):
            reason = _absence(name)
            port = stack.enter_context(_server(serve)) if reason is None else 0
            for words, flight in (("", _FLIGHT), ("_one_by_one", 1)):
                parties[name + words] = _party(seconds, talk, port, flight) if reason is None else _absent(reason)
        work = f"messages of 1 KB over one WebSocket on loopback, echoed, {_FLIGHT} in flight or one by one"
        measured = take_turns(work, parties, ROUNDS)
    for peer in ("websockets", "picows"):
        measured.compare(f"vs_{peer}", "towpath", peer, _FIGURE)
        measured.compare(f"vs_{peer}_one_by_one", "towpath_one_by_one", f"{peer}_one_by_one", _FIGURE)
    return measured


def _party(seconds: float, talk: Talk, port: int, flight: int) -> Party:
    return party(_FIGURE, seconds, lambda until: talk(port, until, flight))


def _absent(reason: str) -> Party:
    def absent() -> dict[str, float]:
        raise Absent(reason)

    return absent


def _absence(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except ImportError:
        return f"{module} is not installed: pip install {module}, or make peers"
    return None


@contextmanager
def _server(serve: Serve) -> Iterator[int]:
    """A server in a process of its own; gives its port once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    process = multiprocessing.get_context("fork").Process(target=_run, args=(serve, port), daemon=True)
    process.start()
    try:
        deadline = time.monotonic() + 5
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
        yield port
    finally:
        process.kill()
        process.join()


def _run(serve: Serve, port: int) -> None:
    async def main() -> None:
        await serve(port)

    asyncio.run(main())


async def _towpath_server(port: int) -> None:
    async def answer(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    async with Listener(f"127.0.0.1:{port}", Parameters.websocket(secure=False)) as listener:
        await listener.serve(answer)


async def _towpath(port: int, until: float, flight: int) -> float:
    count = 0
    async with Connection(f"ws://127.0.0.1:{port}/", Parameters.websocket()) as connection:
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


async def _websockets_server(port: int) -> None:
    from websockets.asyncio.server import ServerConnection, serve

    async def answer(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    async with serve(answer, "127.0.0.1", port, compression=None) as server:
        await server.serve_forever()


async def _websockets(port: int, until: float, flight: int) -> float:
    from websockets.asyncio.client import connect

    count = 0
    async with connect(f"ws://127.0.0.1:{port}/", compression=None, proxy=None) as connection:
        while time.perf_counter() < until:
            for _ in range(flight):
                await connection.send(_WORDS)
            for _ in range(flight):
                await connection.recv()
            count += flight
    return count


async def _picows_server(port: int) -> None:
    picows: Any = importlib.import_module("picows")

    class Echo(picows.WSListener):  # type: ignore[misc]
        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())

    server = await picows.ws_create_server(lambda request: Echo(), "127.0.0.1", port)
    await server.serve_forever()


async def _picows(port: int, until: float, flight: int) -> float:
    picows: Any = importlib.import_module("picows")

    class Client(picows.WSListener):  # type: ignore[misc]
        count = 0

        def on_ws_connected(self, transport: Any) -> None:
            self._left = flight
            self._ask(transport)

        def on_ws_frame(self, transport: Any, frame: Any) -> None:
            frame.get_payload_as_bytes()
            self.count += 1
            self._left -= 1
            if self._left:
                return
            self._left = flight
            if time.perf_counter() < until:
                self._ask(transport)
            else:
                transport.disconnect()

        def _ask(self, transport: Any) -> None:
            for _ in range(flight):
                transport.send(picows.WSMsgType.BINARY, _WORDS)

    transport, client = await picows.ws_connect(Client, f"ws://127.0.0.1:{port}/")
    await transport.wait_disconnected()
    return int(client.count)
