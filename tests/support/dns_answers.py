"""A DNS server on loopback that answers as a test tells it to, over UDP and TCP on one port."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from towpath.names.client import Server
from towpath.wire import dns

__all__ = ["Asked", "Scripted", "extended_error", "serving", "soa"]


@dataclass(frozen=True)
class Asked:
    """One question as it arrived."""

    query: bytes
    protocol: str
    name: str
    kind: str


Script = Callable[[Asked], Iterable[bytes]]
"""The messages to answer with, none for silence."""


@dataclass
class Scripted:
    """The server, and what it was asked."""

    server: Server
    asked: list[Asked] = field(default_factory=list)

    @property
    def questions(self) -> list[str]:
        return [f"{asked.kind} {asked.name}" for asked in self.asked]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, script: Script, asked: list[Asked]) -> None:
        self._script, self._asked = script, asked
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self._transport is not None
        for message in self._script(_asked(data, "udp", self._asked)):
            self._transport.sendto(message, addr)


def _asked(query: bytes, protocol: str, log: list[Asked]) -> Asked:
    question = dns.parse_query(query)
    asked = Asked(query, protocol, question.name, dns.type_name(question.type))
    log.append(asked)
    return asked


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[Scripted]:
    """Runs a script on a free port of 127.0.0.1."""
    log: list[Asked] = []

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
            for message in script(_asked(query, "tcp", log)):
                writer.write(len(message).to_bytes(2, "big") + message)
            await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(converse, "127.0.0.1", 0, family=socket.AF_INET)
    port = listener.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(script, log), ("127.0.0.1", port))
    try:
        yield Scripted(Server("127.0.0.1", port), log)
    finally:
        transport.close()
        listener.close()
        await listener.wait_closed()


def soa(name: str, minimum: int, ttl: int = 3600) -> dns.Record:
    """The SOA record that comes with an absence."""
    numbers = b"".join(number.to_bytes(4, "big") for number in (1, 7200, 900, 86400, minimum))
    return dns.Record(name, "SOA", ttl, dns.cname("ns." + name) + dns.cname("admin." + name) + numbers)


def extended_error(message: bytes, code: int, text: str) -> bytes:
    """The answer with an Extended DNS Error."""
    option = code.to_bytes(2, "big") + text.encode()
    data = b"\0\x0f" + len(option).to_bytes(2, "big") + option
    count = int.from_bytes(message[10:12], "big") + 1
    opt = b"\0\0\x29\x04\xd0" + bytes(4) + len(data).to_bytes(2, "big") + data
    return message[:10] + count.to_bytes(2, "big") + message[12:] + opt
