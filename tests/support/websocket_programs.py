"""Runs on a host of the Lab: ``python -m tests.support.websocket_programs serve|watch ADDRESS``; a line an event."""

from __future__ import annotations

import asyncio
import sys
import time

from towpath.connection import Connection, Listener, Parameters
from towpath.errors import TowpathError
from towpath.protocols import AuthenticatedWebSocket, WebSocket

SECRET = b"sixteen bytes or more"


def say(*words: object) -> None:
    print(*words, time.monotonic(), flush=True)  # noqa: T201


async def serve(where: str) -> None:
    """Echoes to whoever knows the secret."""

    async def echo(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    async with Listener(
        where, Parameters.websocket(secure=False, framers=[AuthenticatedWebSocket(SECRET)])
    ) as listener:
        say("listening")
        await listener.serve(echo)


async def watch(where: str) -> None:
    """Holds an idle connection until it ends."""
    impatient = AuthenticatedWebSocket(SECRET, interval=0.5, patience=2.0)
    async with Connection(f"ws://{where}/", Parameters.websocket(framers=[impatient])) as connection:
        await connection.send(WebSocket.text("word"))
        say("ready", (await connection.receive_message()).content.decode())
        try:
            await connection.receive_message()
        except TowpathError as error:
            say("ended", type(error).__name__)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "serve" else watch(sys.argv[2]))
