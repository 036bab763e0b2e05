"""Echoes lines over QUIC, TLS or both on port 443 until its input ends.

``python -m tests.support.binding_server CHAIN KEY quic tls``
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

from towpath.connection import Connection, Listener, Parameters
from towpath.protocols import Lines

__all__: list[str] = []


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


async def main(chain: str, key: str, *protocols: str) -> None:
    files = Path(chain), Path(key)
    known = {
        "quic": Parameters.quic(alpn=["h3"], identity=files, framers=[Lines()]),
        "tls": Parameters.tls(alpn=["h2"], identity=files, framers=[Lines()]),
    }
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(Listener("0.0.0.0:443", known[word])) for word in protocols]
        serving = [asyncio.create_task(listener.serve(echo)) for listener in listeners]
        sys.stdout.write("listening\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        for listener in listeners:
            listener.cancel()
        await asyncio.gather(*serving)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
