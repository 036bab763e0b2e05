"""One socket to a server of names, and what is asked over it: datagrams, a connection, or QUIC."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from towpath.hosting.loop import BOTH_EDGES, IN, Loop, Timer

if TYPE_CHECKING:
    from towpath.names.carriers import Carrier
    from towpath.names.quic_carrier import QuicCarrier
    from towpath.names.upstream import Upstream

__all__ = ["Ask", "Link", "Owner", "Port", "Quic", "Server", "Stream", "Told"]

_LARGEST = 65535
_AT_ONCE = 64

Told = Callable[[bytes | None, str], None]


class Server(NamedTuple):
    """One address of an upstream."""

    upstream: Upstream
    address: str

    def __str__(self) -> str:
        return str(self.upstream) if not self.upstream.name else f"{self.upstream} ({self.address})"


class Owner(Protocol):
    """Who makes links, and drops them when they have closed."""

    loop: Loop
    dropped: int
    """Answers that came too late, or to no question."""

    def identity(self) -> int: ...
    def remove(self, link: Link) -> None: ...


class Ask:
    """One question at one server; `told(answer, reason)` is called at most once, and not after `cancel`."""

    __slots__ = ("end", "exact", "identity", "link", "message", "told")

    def __init__(self, message: bytes, end: int, told: Told, exact: bool) -> None:
        self.exact = exact
        self.message = message
        self.end = end
        self.told: Told | None = told
        self.identity = 0
        self.link: Link | None = None

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


class Link:
    """A socket to a server, with what is asked over it."""

    def __init__(self, owner: Owner, server: Server, endpoint: socket.socket) -> None:
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


class Port(Link):
    """A connected datagram socket."""

    def __init__(self, owner: Owner, server: Server, endpoint: socket.socket) -> None:
        super().__init__(owner, server, endpoint)
        owner.loop.watch(endpoint.fileno(), IN, lambda _events: self._ready())

    def ask(self, ask: Ask) -> None:
        self._send(self.add(ask))

    def _ready(self) -> None:
        for answer in self._received():
            self.hear(answer)


class Stream(Link):
    """A connection, with a carrier between its bytes and the messages."""

    def __init__(self, owner: Owner, server: Server, endpoint: socket.socket, carrier: Carrier) -> None:
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


class Quic(Link):
    """A QUIC connection on a connected datagram socket."""

    def __init__(self, owner: Owner, server: Server, endpoint: socket.socket, carrier: QuicCarrier) -> None:
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
