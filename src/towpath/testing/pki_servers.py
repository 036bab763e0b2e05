"""TLS servers for the test PKI: one for the good certificate and one for every broken one, each on its own port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from towpath.testing.pki import Pki

__all__ = ["PkiServer", "servers"]


@dataclass(frozen=True, slots=True)
class PkiServer:
    """Where one certificate is served, and the name that a client should ask it for."""

    name: str
    reference: str
    port: int


@asynccontextmanager
async def servers(pki: Pki, folder: Path, address: str = "127.0.0.1", port: int = 0) -> AsyncIterator[list[PkiServer]]:
    """Serves while the block runs: from `port` upwards, or on free ports with 0. Every server closes after a greeting.

    The certificates are in `folder`, written by `Pki.write()`. ::

        async with servers(pki, folder) as found:
            print({server.name: server.port for server in found})
    """
    async with AsyncExitStack() as stack:
        found = []
        for number, name in enumerate(["good", *pki.names()]):
            reference = "www.example.com" if name == "good" else pki.broken(name).reference
            try:
                context = _context(folder / f"{name}.pem", folder / f"{name}.key")
            except ssl.SSLError:
                # A certificate so broken that OpenSSL cannot even serve it is to be had as a file alone.
                continue
            listener = await asyncio.start_server(
                _greet,
                address,
                port + number if port else 0,
                ssl=context,
            )
            await stack.enter_async_context(listener)
            found.append(PkiServer(name, reference, listener.sockets[0].getsockname()[1]))
        yield found


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.close()


def _context(chain: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Weak keys and hashes are among the faults to be served.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(chain, key)
    return context
