"""The side of programs: questions as datagrams and over TCP, known ones answered in batches from the cache."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from towpath.hosting.loop import BOTH_EDGES, IN, Loop, Patience
from towpath.kernel.system import datagrams, sockets

if TYPE_CHECKING:
    from towpath.dns_proxy.cache import Entry, WireCache

__all__ = ["MOST_CLIENTS", "Asked", "DnsListener"]

PORT = 53
MOST_CLIENTS = 1024
"""Connections of programs; another one ends the one that was silent longest."""
_LARGEST = 65535
_IDLE = 15.0
_LONGEST_WRITE = 1 << 18
_NOTED_AGAIN = 30


class Asked(NamedTuple):
    """A question as it came: who asked whom, packed, and how the answer goes back.

    `epoch` is kept by who answers: what holds may have changed until there is an answer.
    """

    data: bytes
    transport: str
    source: bytes
    source_port: int
    address: bytes
    reply: Callable[[bytes], None]
    epoch: int = 0


class DnsListener:
    """Takes questions from sockets and puts those that the cache does not answer at once to `ask`.

    `direct()` says, once for each batch, whether the cache may answer without `ask`. `noted(entry)` hears of an entry
    that is still being given to programs, every half minute.
    """

    def __init__(
        self,
        loop: Loop,
        cache: WireCache,
        ask: Callable[[Asked], None],
        *,
        direct: Callable[[], bool] = lambda: True,
        noted: Callable[[Entry], None] = lambda _entry: None,
        accepts: Callable[[bytes], bool] = lambda _source: True,
    ) -> None:
        self.answered = 0
        """Questions that the cache answered at once."""
        self._loop = loop
        self._cache = cache
        self._ask = ask
        self._direct = direct
        self._noted = noted
        self._accepts = accepts
        self._clients: dict[_Client, None] = {}
        self._idle = Patience(loop, _IDLE)
        self._watched: list[socket.socket] = []

    def listen(self, intake: socket.socket) -> None:
        """Takes datagrams of a socket that `towpath.linux.sockets.dns_intake` made."""
        batch = datagrams.QuestionBatch(intake)
        self._watched.append(intake)
        self._loop.watch(intake.fileno(), IN, lambda _events: self._receive(intake, batch))

    def listen_stream(self, listener: socket.socket) -> None:
        self._watched.append(listener)
        self._loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener))

    def _receive(self, intake: socket.socket, batch: datagrams.QuestionBatch) -> None:
        second = int(time.monotonic())
        ready = self._cache.ready if self._direct() else {}
        slow: list[int] = []
        answers: list[tuple[int, bytes]] = []
        queries = batch.receive()
        find = ready.get
        for at, query in enumerate(queries):
            found = find(query[2:])
            if found is None:
                slow.append(at)
                continue
            if found.second == second:
                tail: bytes | None = found.tail
            else:
                tail = self._aged(found.entry, self._cache.tail(found, second), second)
                if tail is None:
                    slow.append(at)
                    continue
            found.hits += 1
            answers.append((at, query[:2] + tail))  # type: ignore[operator]
        self.answered += len(answers)
        batch.send(answers)
        for at in slow:
            self._one(intake, queries[at], *batch.source(at))

    def _aged(self, entry: Entry, tail: bytes | None, second: int) -> bytes | None:
        if tail is not None and second - entry.noted >= _NOTED_AGAIN:
            entry.noted = second
            self._noted(entry)
        return tail

    def _one(self, intake: socket.socket, data: bytes, source: bytes, port: int, asked: bytes) -> None:
        if not self._accepts(source):
            return
        back = (socket.inet_ntop(intake.family, source), port)

        def reply(answer: bytes) -> None:
            try:
                intake.sendmsg([answer], sockets.from_address(asked), 0, back)
            except OSError:
                return  # the program has gone

        self._ask(Asked(data, "udp", source, port, asked, reply))

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, peer = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        family = listener.family
        here = client.getsockname()
        source = socket.inet_pton(family, peer[0])
        if not self._accepts(source):
            client.close()
            return
        if len(self._clients) >= MOST_CLIENTS:
            next(iter(self._clients)).close()
        address = socket.inet_pton(family, here[0])
        made = _Client(self._loop, self._idle, client, self._clients)
        made.begin(lambda data: self._ask(Asked(data, "tcp", source, peer[1], address, made.reply)))

    def close(self) -> None:
        for client in list(self._clients):
            client.close()
        for one in self._watched:
            self._loop.forget(one.fileno())


class _Client:
    """A program's TCP connection to port 53: questions with a length before each (RFC 7766)."""

    def __init__(self, loop: Loop, idle: Patience, client: socket.socket, known: dict[_Client, None]) -> None:
        self._loop = loop
        self._idle = idle
        self._client: socket.socket | None = client
        self._known = known
        self._received = b""
        self._unsent = b""
        self._gathering = False
        """Answers that are there at once leave together."""
        self._ask: Callable[[bytes], None] = lambda _data: None
        known[self] = None

    def begin(self, ask: Callable[[bytes], None]) -> None:
        assert self._client is not None
        self._ask = ask
        self._idle.begin(self, self.close)
        self._loop.watch(self._client.fileno(), BOTH_EDGES, lambda _events: self._ready())
        self._ready()

    def _ready(self) -> None:
        self._flush()
        while self._client is not None:
            try:
                data = self._client.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self._received += data
            self._gathering = True
            while len(self._received) >= 2 and len(self._received) >= 2 + int.from_bytes(self._received[:2], "big"):
                end = 2 + int.from_bytes(self._received[:2], "big")
                question, self._received = self._received[2:end], self._received[end:]
                self._alive()
                self._ask(question)
            self._gathering = False
            self._flush()

    def _alive(self) -> None:
        """A whole question keeps a connection open; single bytes do not."""
        if self in self._known:
            del self._known[self]
            self._known[self] = None
            self._idle.end(self)
            self._idle.begin(self, self.close)

    def reply(self, answer: bytes) -> None:
        if self._client is None:
            return
        self._unsent += len(answer).to_bytes(2, "big") + answer
        if not self._gathering:
            self._flush()

    def _flush(self) -> None:
        if self._client is None:
            return
        try:
            while self._unsent:
                self._unsent = self._unsent[self._client.send(self._unsent) :]
        except BlockingIOError:
            if len(self._unsent) > _LONGEST_WRITE:
                self.close()  # a client that does not read its answers
        except OSError:
            self.close()

    def close(self) -> None:
        self._idle.end(self)
        self._known.pop(self, None)
        if self._client is not None:
            self._loop.forget(self._client.fileno())
            self._client.close()
            self._client = None
