"""Questions to servers and their answers: pooled sockets on the loop, as few as do, never more than a limit.

A datagram socket is shared by the questions of a moment, each with an id of its own drawn at random; it is used for a
few seconds, then another with another port takes its place (RFC 5452). Questions over a connection are pipelined.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from towpath.hosting.dns_links import Ask, Link, Port, Quic, Server, Stream, Told
from towpath.kernel.system import sockets
from towpath.names.carriers import Carrier, StreamCarrier

if TYPE_CHECKING:
    from towpath.hosting.loop import Loop
    from towpath.names.quic_carrier import QuicCarrier
    from towpath.names.upstream import Upstream

__all__ = ["MOST_SOCKETS", "NO_SOCKET", "Exchanges"]

MOST_SOCKETS = 512
NO_SOCKET = "no socket is free"
_PORTS = 8
"""Datagram sockets to one server that are kept in use: a spoofed answer has to guess which of them was used."""
_PORT_ASKS = 256
_PORT_AGE = 5.0
IDLE = 5.0
_SWEEP = 1.0

MakeCarrier = Callable[["Upstream"], Carrier]
MakeQuic = Callable[["Upstream", str], "QuicCarrier"]


class Dial(Protocol):
    """How sockets to servers are made; `towpath.linux.sockets` does."""

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket: ...
    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]: ...


class Exchanges:
    """Asks servers. At most `most` sockets are open; each closes when it was idle for 5 s.

    `carriers` makes what speaks the protocols that need more than a length before each message.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        most: int = MOST_SOCKETS,
        dial: Dial | None = None,
        carriers: dict[str, MakeCarrier] | None = None,
        quic: MakeQuic | None = None,
    ) -> None:
        self._quic = quic
        self.loop = loop
        self.dropped = 0
        """Answers that came too late, or to no question."""
        self._most = most
        self._dial: Dial = dial or sockets
        self._carriers: dict[str, MakeCarrier] = {"tcp": lambda _upstream: StreamCarrier(), **(carriers or {})}
        self._ports: dict[Server, list[Port]] = {}
        self._streams: dict[tuple[Server, str], Stream | Quic] = {}
        self._links: dict[Link, None] = {}
        self._random = b""
        self._sweeping = False

    @property
    def open(self) -> int:
        """How many sockets are open."""
        return len(self._links)

    def identity(self) -> int:
        """A number that nobody can guess, 0 to 65535."""
        if not self._random:
            self._random = os.urandom(4096)
        found = int.from_bytes(self._random[:2], "big")
        self._random = self._random[2:]
        return found

    def ask(self, server: Server, protocol: str, message: bytes, end: int, told: Told, *, exact: bool = False) -> Ask:
        """Sends a question, which ends at `end` of `message`, with an id of its own.

        `told` is called once, never before this returns. An `exact` answer repeats the very letters of the name.
        """
        ask = Ask(message, end, told, exact)
        try:
            if protocol == "udp":
                self._port(server).ask(ask)
            else:
                self._stream(server, protocol).ask(ask)
        except OSError as error:
            words = NO_SOCKET if error.errno == errno.EMFILE else error.strerror or str(error)
            self.loop.soon(lambda: ask.settle(None, words))
        return ask

    def _room(self) -> None:
        """The oldest idle socket gives way; where none is idle, nothing is opened."""
        if len(self._links) < self._most:
            return
        for link in self._links:
            if not link.asks:
                link.close("")
                return
        raise OSError(errno.EMFILE, "too many sockets")

    def _port(self, server: Server) -> Port:
        ports = self._ports.setdefault(server, [])
        now = time.monotonic()
        young = [port for port in ports if now - port.made < _PORT_AGE and len(port.asks) < _PORT_ASKS]
        if len(young) >= _PORTS:
            return young[self.identity() % len(young)]
        try:
            self._room()
            endpoint = self._dial.dial_datagram(_version(server), server.address, server.upstream.port)
        except OSError:
            if not young:
                raise
            return young[self.identity() % len(young)]
        port = Port(self, server, endpoint)
        ports.append(port)
        self._add(port)
        return port

    def _stream(self, server: Server, protocol: str) -> Stream | Quic:
        known = self._streams.get((server, protocol))
        if known is not None:
            return known
        self._room()
        stream: Stream | Quic
        if protocol == "quic":
            assert self._quic is not None
            endpoint = self._dial.dial_datagram(_version(server), server.address, server.upstream.port)
            stream = Quic(self, server, endpoint, self._quic(server.upstream, server.address))
        else:
            endpoint, code = self._dial.dial_stream(_version(server), server.address, server.upstream.port)
            if code not in (0, errno.EINPROGRESS):
                endpoint.close()
                raise OSError(code, os.strerror(code))
            stream = Stream(self, server, endpoint, self._carriers[protocol](server.upstream))
        self._streams[server, protocol] = stream
        self._add(stream)
        return stream

    def _add(self, link: Link) -> None:
        self._links[link] = None
        if not self._sweeping:
            self._sweeping = True
            self.loop.later(_SWEEP, self._sweep)

    def remove(self, link: Link) -> None:
        """A link has closed."""
        self._links.pop(link, None)
        if isinstance(link, Port):
            ports = self._ports.get(link.server, [])
            if link in ports:
                ports.remove(link)
        else:
            for key, known in self._streams.items():
                if known is link:
                    del self._streams[key]
                    return

    def _sweep(self) -> None:
        now = time.monotonic()
        for link in list(self._links):
            idle = now - link.used >= IDLE
            if not link.asks and (idle or (isinstance(link, Port) and now - link.made >= _PORT_AGE)):
                link.close("")
        self._sweeping = bool(self._links)
        if self._sweeping:
            self.loop.later(_SWEEP, self._sweep)

    def close(self) -> None:
        """Closes every socket; nobody is told."""
        for link in list(self._links):
            for ask in link.asks.values():
                ask.told = None
            link.close("")


def _version(server: Server) -> int:
    return 6 if ":" in server.address else 4
