"""Questions to servers and their answers: pooled sockets on the loop, as few as do, never more than a limit.

A datagram socket is shared by the questions of a moment, each with an id of its own drawn at random; it is used for a
few seconds, then another with another port takes its place (RFC 5452). Questions over a connection are pipelined.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from towpath.hosting.loop import BOTH_EDGES, IN, Loop, Timer
from towpath.kernel.system import sockets
from towpath.names.carriers import Carrier, StreamCarrier

if TYPE_CHECKING:
    from towpath.names.quic_carrier import QuicCarrier
    from towpath.names.upstream import Upstream

__all__ = ["MOST_SOCKETS", "NO_SOCKET", "Ask", "Exchanges", "Server"]

MOST_SOCKETS = 512
NO_SOCKET = "no socket is free"
_LARGEST = 65535
_AT_ONCE = 64
_PORTS = 8
"""Datagram sockets to one server that are kept in use: a spoofed answer has to guess which of them was used."""
_PORT_ASKS = 256
_PORT_AGE = 5.0
IDLE = 5.0
_SWEEP = 1.0

Told = Callable[[bytes | None, str], None]
MakeCarrier = Callable[["Upstream"], Carrier]
MakeQuic = Callable[["Upstream", str], "QuicCarrier"]


class Server(NamedTuple):
    """One address of an upstream."""

    upstream: Upstream
    address: str

    def __str__(self) -> str:
        return str(self.upstream) if not self.upstream.name else f"{self.upstream} ({self.address})"


class Dial(Protocol):
    """How sockets to servers are made; `towpath.linux.sockets` does."""

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket: ...
    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]: ...


class Ask:
    """One question at one server; `told(answer, reason)` is called at most once, and not after `cancel`."""

    __slots__ = ("end", "exact", "identity", "link", "message", "told")

    def __init__(self, message: bytes, end: int, told: Told, exact: bool) -> None:
        self.exact = exact
        self.message = message
        self.end = end
        self.told: Told | None = told
        self.identity = 0
        self.link: _Link | None = None

    def settle(self, answer: bytes | None, reason: str = "") -> None:
        told, self.told = self.told, None
        if told is not None:
            told(answer, reason)

    def cancel(self) -> None:
        """Its answer is not wanted any more."""
        self.told = None
        if self.link is not None:
            self.link.asks.pop(self.identity, None)
            self.link = None

    def fits(self, answer: bytes) -> bool:
        """Whether a message answers this very question."""
        end = self.end
        if len(answer) < end or not answer[2] & 0x80 or answer[4:6] != b"\0\1":
            return False
        asked, found = self.message[12:end], answer[12:end]
        return asked == found or (
            not self.exact and asked[:-4].lower() == found[:-4].lower() and asked[-4:] == found[-4:]
        )


class _Link:
    """A socket to a server, with what is asked over it."""

    def __init__(self, owner: Exchanges, server: Server, endpoint: socket.socket) -> None:
        self.asks: dict[int, Ask] = {}
        self.server = server
        self.made = self.used = time.monotonic()
        self._owner = owner
        self._endpoint = endpoint

    def add(self, ask: Ask) -> bytes:
        """Gives the question an id that no other on this socket has."""
        identity = self._owner.identity()
        while identity in self.asks:
            identity = self._owner.identity()
        ask.identity, ask.link = identity, self
        self.asks[identity] = ask
        self.used = time.monotonic()
        return identity.to_bytes(2, "big") + ask.message[2:]

    def hear(self, answer: bytes) -> None:
        """An answer: to a question that is open here, or it is dropped."""
        ask = self.asks.get(answer[0] << 8 | answer[1]) if len(answer) >= 12 else None
        if ask is None or not ask.fits(answer):
            self._owner.dropped += 1
            return
        del self.asks[ask.identity]
        ask.link = None
        self.used = time.monotonic()
        ask.settle(answer)

    @property
    def open(self) -> bool:
        return self._endpoint.fileno() >= 0

    def _received(self) -> Iterator[bytes]:
        """What has come, a bounded number of times; the link closes where its socket has failed."""
        for _ in range(_AT_ONCE):
            try:
                data = self._endpoint.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOTCONN:
                    self.close(error.strerror or str(error))
                return
            yield data
            if not self.open:
                return

    def _send(self, data: bytes) -> None:
        """Sends a datagram, which may be lost; the link closes where its socket has failed."""
        try:
            self._endpoint.send(data)
        except BlockingIOError:
            pass  # as lost as any datagram
        except OSError as error:
            self.close(error.strerror or str(error))

    def lose(self, lost: list[tuple[int, str]]) -> None:
        """These questions will have no answer."""
        for identity, reason in lost:
            ask = self.asks.pop(identity, None)
            if ask is not None:
                ask.link = None
                ask.settle(None, reason)

    def close(self, reason: str) -> None:
        self._owner.remove(self)
        self._owner.loop.forget(self._endpoint.fileno())
        self._endpoint.close()
        asks, self.asks = self.asks, {}
        for ask in asks.values():
            ask.link = None
        if asks:
            self._owner.loop.soon(lambda: _settle(asks.values(), reason))


def _settle(asks: Iterable[Ask], reason: str) -> None:
    for ask in asks:
        ask.settle(None, reason)


class _Port(_Link):
    """A connected datagram socket."""

    def __init__(self, owner: Exchanges, server: Server, endpoint: socket.socket) -> None:
        super().__init__(owner, server, endpoint)
        owner.loop.watch(endpoint.fileno(), IN, lambda _events: self._ready())

    def ask(self, ask: Ask) -> None:
        self._send(self.add(ask))

    def _ready(self) -> None:
        for answer in self._received():
            self.hear(answer)


class _Stream(_Link):
    """A connection, with a carrier between its bytes and the messages."""

    def __init__(self, owner: Exchanges, server: Server, endpoint: socket.socket, carrier: Carrier) -> None:
        super().__init__(owner, server, endpoint)
        self._carrier = carrier
        self._unsent = b""
        self._flushing = False
        owner.loop.watch(endpoint.fileno(), BOTH_EDGES, lambda _events: self._ready())
        carrier.start()

    def ask(self, ask: Ask) -> None:
        self._carrier.ask(self.add(ask))
        if not self._flushing:
            self._flushing = True
            self._owner.loop.soon(self._flush_asked)

    def _flush_asked(self) -> None:
        """The questions of a moment leave together."""
        self._flushing = False
        if self.open:
            self._flush()

    def _flush(self) -> None:
        self._unsent += self._carrier.outgoing()
        try:
            while self._unsent:
                self._unsent = self._unsent[self._endpoint.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.close(error.strerror or str(error))

    def _ready(self) -> None:
        count = 0
        for data in self._received():
            count += 1
            for answer in self._carrier.received(data):
                self.hear(answer)
                if not self.open:
                    return
            self.lose(self._carrier.lost())
            if not data or self._carrier.ended:
                self._flush()
                self.close(self._carrier.ended or "the server ended the connection")
                return
        if self.open and count == _AT_ONCE:
            self._owner.loop.soon(lambda: self._ready() if self.open else None)
        if self.open:
            self._flush()


class _Quic(_Link):
    """A QUIC connection on a connected datagram socket."""

    def __init__(self, owner: Exchanges, server: Server, endpoint: socket.socket, carrier: QuicCarrier) -> None:
        super().__init__(owner, server, endpoint)
        self._carrier = carrier
        self._timer: Timer | None = None
        owner.loop.watch(endpoint.fileno(), IN, lambda _events: self._ready())
        carrier.start(time.monotonic())
        self._flush()

    def ask(self, ask: Ask) -> None:
        self._carrier.ask(self.add(ask))
        self._flush()

    def _ready(self) -> None:
        for data in self._received():
            self._take(self._carrier.received(data, time.monotonic()))
        self._flush()

    def _take(self, answers: list[bytes]) -> None:
        for answer in answers:
            self.hear(answer)
        if not self.open:
            return
        self.lose(self._carrier.lost())
        if self._carrier.ended and self.open:
            self.close(self._carrier.ended)

    def _flush(self) -> None:
        for data in self._carrier.outgoing(time.monotonic()) if self.open else ():
            self._send(data)
            if not self.open:
                return
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._carrier.deadline
        self._timer = None if deadline is None else self._owner.loop.later(deadline - time.monotonic(), self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self.open:
            self._take(self._carrier.wake(time.monotonic()))
            self._flush()

    def close(self, reason: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._carrier.ended:
            self._carrier.close()
            for data in self._carrier.outgoing(time.monotonic()):
                try:
                    self._endpoint.send(data)
                except OSError:
                    break
        super().close(reason)


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
        self._ports: dict[Server, list[_Port]] = {}
        self._streams: dict[tuple[Server, str], _Stream | _Quic] = {}
        self._links: dict[_Link, None] = {}
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

    def _port(self, server: Server) -> _Port:
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
        port = _Port(self, server, endpoint)
        ports.append(port)
        self._add(port)
        return port

    def _stream(self, server: Server, protocol: str) -> _Stream | _Quic:
        known = self._streams.get((server, protocol))
        if known is not None:
            return known
        self._room()
        stream: _Stream | _Quic
        if protocol == "quic":
            assert self._quic is not None
            endpoint = self._dial.dial_datagram(_version(server), server.address, server.upstream.port)
            stream = _Quic(self, server, endpoint, self._quic(server.upstream, server.address))
        else:
            endpoint, code = self._dial.dial_stream(_version(server), server.address, server.upstream.port)
            if code not in (0, errno.EINPROGRESS):
                endpoint.close()
                raise OSError(code, os.strerror(code))
            stream = _Stream(self, server, endpoint, self._carriers[protocol](server.upstream))
        self._streams[server, protocol] = stream
        self._add(stream)
        return stream

    def _add(self, link: _Link) -> None:
        self._links[link] = None
        if not self._sweeping:
            self._sweeping = True
            self.loop.later(_SWEEP, self._sweep)

    def remove(self, link: _Link) -> None:
        """A link has closed."""
        self._links.pop(link, None)
        if isinstance(link, _Port):
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
            if not link.asks and (idle or (isinstance(link, _Port) and now - link.made >= _PORT_AGE)):
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
