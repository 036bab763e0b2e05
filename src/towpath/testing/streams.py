"""One accepted connection, plain or TLS, with what a broken server does to it."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from dataclasses import dataclass, field

from towpath.testing.records import Record

__all__ = ["AskedTls", "Seen", "Stream", "TlsStream", "Trouble"]

_CHUNK = 1 << 16
_TICK = 0.02
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Trouble:
    """What is wrong with a service at the moment; it can change under an open connection."""

    kind: str | None = None
    bytes_per_second: int | None = None


@dataclass(slots=True)
class Seen:
    """A `Record` in the making."""

    service: str
    port: int
    peer: str
    sni: str | None = None
    host: str | None = None
    requests: list[str] = field(default_factory=list)
    received: int = 0
    sent: int = 0
    established: bool = True

    def record(self) -> Record:
        return Record(
            self.service,
            self.port,
            self.peer,
            self.sni,
            self.host,
            tuple(self.requests),
            self.received,
            self.sent,
            self.established,
        )


class Stream:
    """A connection read and written by a service; every byte is counted in `seen`."""

    def __init__(self, connection: socket.socket, seen: Seen, trouble: Trouble) -> None:
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self.seen = seen
        self.trouble = trouble

    async def receive(self) -> bytes:
        """Some bytes, or b"" at the end."""
        data = await self._loop.sock_recv(self._connection, _CHUNK)
        self.seen.received += len(data)
        return data

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            rate = self.trouble.bytes_per_second
            part = view[: max(1, int(rate * _TICK))] if rate else view
            await self._send(bytes(part))
            self.seen.sent += len(part)
            view = view[len(part) :]
            if rate and view:
                await asyncio.sleep(len(part) / rate)

    async def _send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._connection, data)

    async def finish(self) -> None:
        """Says that nothing more will be sent."""
        try:
            self._connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def reset(self) -> None:
        """Ends the connection with RST."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)

    def close(self) -> None:
        self._connection.close()


class AskedTls(ssl.SSLObject):
    """A server's side of TLS that remembers the name it was asked for."""

    asked: str | None = None

    @staticmethod
    def remember(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
        """A callback for `ssl.SSLContext.sni_callback`."""
        if isinstance(connection, AskedTls):
            connection.asked = name


class TlsStream(Stream):
    """The same over TLS; `handshake` comes first."""

    def __init__(self, connection: socket.socket, seen: Seen, trouble: Trouble, context: ssl.SSLContext) -> None:
        super().__init__(connection, seen, trouble)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        seen.established = False

    async def handshake(self) -> None:
        """Raises `ssl.SSLError` or `ConnectionError` when it fails; the client's alert or ours has been sent then."""
        while True:
            try:
                try:
                    self._tls.do_handshake()
                finally:
                    self.seen.sni = getattr(self._tls, "asked", None)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    raise ConnectionResetError("ended in the handshake") from None
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                self.seen.established = True
                return

    async def receive(self) -> bytes:
        while True:
            try:
                data = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            else:
                self.seen.received += len(data)
                return data

    async def _send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def finish(self) -> None:
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass
        await self._flush()
        await super().finish()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._connection, self._outgoing.read())

    async def _fill(self) -> bool:
        data = await self._loop.sock_recv(self._connection, _CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return bool(data)
