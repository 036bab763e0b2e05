"""Channels over TLS, HTTPS and QUIC on asyncio: the carriers, with sockets and a clock."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import TYPE_CHECKING

from towpath.errors import Misuse
from towpath.names.carriers import Carrier, StreamCarrier
from towpath.names.channel import Channel, address_of
from towpath.names.channel import dial as dial_plain
from towpath.names.tls_carrier import TlsCarrier, tls_context

if TYPE_CHECKING:
    from towpath.names.client import Server
    from towpath.names.quic_carrier import QuicCarrier

__all__ = ["SecureDial"]

_CHUNK = 1 << 16
_SECURE = ("tls", "https", "quic")


class SecureDial:
    """A `Dial` that trusts `authority` (a PEM file) in place of the system's authorities, and shows `identity`.

    Other protocols are dialled as always. Raises `OSError` for a file that cannot be used.
    """

    def __init__(self, authority: str = "", identity: str = "") -> None:
        self._files = authority, identity
        self._dot = tls_context(authority, identity, ("dot",))
        self._h2 = tls_context(authority, identity, ("h2",))

    async def __call__(self, server: Server, protocol: str) -> Channel:
        if protocol not in _SECURE:
            return await dial_plain(server, protocol)
        family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
        kind = socket.SOCK_DGRAM if protocol == "quic" else socket.SOCK_STREAM
        endpoint = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            await asyncio.get_running_loop().sock_connect(endpoint, address_of(server, family))
        except BaseException:
            endpoint.close()
            raise
        name = server.name or server.address
        if protocol == "quic":
            from towpath.names.quic_carrier import QuicCarrier

            return _QuicChannel(endpoint, QuicCarrier(name, endpoint.getpeername(), *self._files))
        if protocol == "tls":
            return _SecureStream(endpoint, TlsCarrier(self._dot, name, StreamCarrier()))
        from towpath.names.https_carrier import HttpsCarrier

        host = f"[{name}]" if ":" in name else name
        authority = host if server.port == 443 else f"{host}:{server.port}"
        return _SecureStream(endpoint, TlsCarrier(self._h2, name, HttpsCarrier(authority, server.path), "h2"))


class _Arrivals:
    """Messages that have come, and what kept others from coming."""

    def __init__(self) -> None:
        self._found: deque[bytes] = deque()

    def add(self, messages: list[bytes]) -> None:
        self._found.extend(messages)

    def take(self, lost: list[tuple[int, str]], ended: str) -> bytes | None:
        """The next message. Raises `ConnectionError` when there will be none."""
        if self._found:
            return self._found.popleft()
        if lost:
            raise ConnectionError(lost[0][1])
        if ended:
            raise ConnectionError(ended)
        return None


class _SecureStream:
    def __init__(self, endpoint: socket.socket, carrier: Carrier) -> None:
        self._endpoint = endpoint
        self._carrier = carrier
        self._arrivals = _Arrivals()
        carrier.start()

    async def send(self, message: bytes) -> None:
        self._carrier.ask(message)
        await self._flush()

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            found = self._arrivals.take(self._carrier.lost(), self._carrier.ended)
            if found is not None:
                return found
            data = await loop.sock_recv(self._endpoint, _CHUNK)
            self._arrivals.add(self._carrier.received(data))
            await self._flush()

    async def _flush(self) -> None:
        data = self._carrier.outgoing()
        if data:
            await asyncio.get_running_loop().sock_sendall(self._endpoint, data)

    def close(self) -> None:
        self._endpoint.close()


class _QuicChannel:
    def __init__(self, endpoint: socket.socket, carrier: QuicCarrier) -> None:
        self._endpoint = endpoint
        self._carrier = carrier
        self._arrivals = _Arrivals()
        self._started = False

    async def send(self, message: bytes) -> None:
        loop = asyncio.get_running_loop()
        if not self._started:
            self._started = True
            self._carrier.start(loop.time())
        self._carrier.ask(message)
        await self._flush()

    async def receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        if not self._started:
            raise Misuse("nothing was asked yet")
        while True:
            found = self._arrivals.take(self._carrier.lost(), self._carrier.ended)
            if found is not None:
                return found
            deadline = self._carrier.deadline
            try:
                async with asyncio.timeout_at(deadline):
                    data = await loop.sock_recv(self._endpoint, _CHUNK)
                self._arrivals.add(self._carrier.received(data, loop.time()))
            except TimeoutError:
                self._arrivals.add(self._carrier.wake(loop.time()))
            await self._flush()

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        for data in self._carrier.outgoing(loop.time()):
            await loop.sock_sendall(self._endpoint, data)

    def close(self) -> None:
        self._endpoint.close()
