"""Holds one QUIC connection and echoes a word over it for each line of its input.

``python -m tests.support.quic_roamer client WHERE ROOT`` or ``... server CHAIN KEY``
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from towpath.connection import Connection, ConnectionGroup, Listener, Parameters
from towpath.protocols import Lines
from towpath.trust import Anchors

__all__: list[str] = []


def say(words: str) -> None:
    sys.stdout.write(f"{words}\n")
    sys.stdout.flush()


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def server(chain: str, key: str) -> None:
    parameters = Parameters.quic(alpn=["news"], identity=(Path(chain), Path(key)), framers=[Lines()])
    async with Listener("0.0.0.0:443", parameters) as listener:
        serving = asyncio.create_task(listener.serve(echo))
        say("listening")
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        listener.cancel()
        await serving


async def client(where: str, root: str) -> None:
    anchors = Anchors.pem(Path(root))
    parameters = Parameters.quic(alpn=["news"], server_name="news.test", anchors=anchors, framers=[Lines()])
    async with ConnectionGroup(where, parameters) as group, group.open() as connection:
        while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
            await connection.send(line.strip().encode())
            say((await connection.receive_message()).content.decode())


if __name__ == "__main__":
    asyncio.run({"client": client, "server": server}[sys.argv[1]](*sys.argv[2:]))
