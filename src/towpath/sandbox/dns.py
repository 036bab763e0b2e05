"""DNS of a run: port 53 of every address is answered here, from the host's resolvers, for allowed names only."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.hosting.loop import BOTH_EDGES, IN, Loop, Timer
from towpath.kernel.system import sockets
from towpath.sandbox.flows import Flow
from towpath.sandbox.uplink import HostUplink, Uplink
from towpath.wire import dns

if TYPE_CHECKING:
    from towpath.policy.policy import Decision
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger

__all__ = ["DnsService", "resolvers"]

_PORT = 53
_LARGEST = 65535
_AT_ONCE = 64
_TRY = 2.0
_ROUNDS = 2
_MOST_PENDING = 2048
_IDLE_TCP = 15.0
_NETWORK_ERROR = 23


def resolvers(path: str = "/etc/resolv.conf") -> list[str]:
    """The name servers of resolv.conf(5); without any, the local one."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        words = []
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"] or ["127.0.0.1"]


class _Query:
    """One question on its way: asked of one server after the other until an answer fits."""

    __slots__ = ("attempt", "data", "question", "reply", "socket", "timer")

    def __init__(self, data: bytes, question: dns.Question, reply: Callable[[bytes], None]) -> None:
        self.data = data
        self.question = question
        self.reply = reply
        self.attempt = 0
        self.socket: socket.socket | None = None
        self.timer: Timer | None = None


class DnsService:
    """Judges, forwards, screens and answers; what an answer says becomes evidence for the flows that follow."""

    def __init__(
        self,
        loop: Loop,
        judge: Judge,
        ledger: Ledger,
        servers: list[str],
        filtering: Filtering | None,
        uplink: Uplink | None = None,
    ) -> None:
        self._loop = loop
        self._judge = judge
        self._ledger = ledger
        self._servers = servers
        self._pending = 0
        self._filtering = filtering
        self._uplink = uplink or HostUplink()

    def listen(self, intake: socket.socket) -> None:
        self._loop.watch(intake.fileno(), IN, lambda _events: self._receive(intake))

    def listen_stream(self, listener: socket.socket) -> None:
        self._loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener))

    def _receive(self, intake: socket.socket) -> None:
        family = intake.family
        for _ in range(_AT_ONCE):
            try:
                data, ancillary, _flags, source = intake.recvmsg(_LARGEST, 128)
            except BlockingIOError:
                return
            except OSError:
                continue
            asked = sockets.packet_info(ancillary)
            if asked is None:
                continue

            def reply(answer: bytes, asked: bytes = asked, source: tuple[str, int] = source) -> None:
                try:
                    intake.sendmsg([answer], sockets.from_address(asked), 0, source)
                except OSError:
                    return  # the program has gone

            self._ask(data, reply, Flow("udp", socket.inet_pton(family, source[0]), source[1], asked, _PORT))

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, peer = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        family = listener.family
        here = client.getsockname()
        ends = (socket.inet_pton(family, peer[0]), peer[1], socket.inet_pton(family, here[0]), here[1])
        _StreamClient(self._loop, client, lambda data, reply: self._ask(data, reply, Flow("tcp", *ends), stream=True))

    def _ask(self, data: bytes, reply: Callable[[bytes], None], flow: Flow, *, stream: bool = False) -> None:
        try:
            question = dns.parse_query(data)
        except PeerViolation:
            return  # not a question: silence, as from a host that has no name server
        name = dns.policy_name(question)
        decision = self._judge.question(name)
        if decision.verdict == "deny":
            self._refuse(data, question, name, reply, flow, decision)
        elif self._filtering is None:
            self._ledger.question_passed(flow, name)
            self._forward(data, question, reply, stream=stream)
        else:

            def decided(refusal: Decision | None, silent: bool) -> None:
                if refusal is None:
                    self._ledger.question_passed(flow, name)
                    self._forward(data, question, reply, stream=stream)
                else:
                    answer = (lambda _answer: None) if silent else reply
                    self._refuse(data, question, name, answer, flow, refusal)

            self._filtering.question(flow, name, dns.type_name(question.type), decided)

    def _refuse(
        self,
        data: bytes,
        question: dns.Question,
        name: str,
        reply: Callable[[bytes], None],
        flow: Flow,
        decision: Decision,
    ) -> None:
        flow.name, flow.name_from = name, "question"
        self._ledger.question_refused(flow, decision, dns.type_name(question.type))
        reply(dns.refusal(data, question, f"refused by the network policy of this run: {decision.reason}"))

    def _forward(self, data: bytes, question: dns.Question, reply: Callable[[bytes], None], *, stream: bool) -> None:
        if self._pending >= _MOST_PENDING:
            reply(dns.failure(data, question, "too many questions at once", _NETWORK_ERROR))
            return
        self._pending += 1
        query = _Query(data, question, reply)
        if stream:
            self._try_stream(query)
        else:
            self._try(query)

    def _server(self, query: _Query) -> str:
        return self._servers[query.attempt % len(self._servers)]

    def _exhausted(self, query: _Query) -> bool:
        return query.attempt >= _ROUNDS * len(self._servers)

    def _give_up(self, query: _Query) -> None:
        text = f"no answer from {', '.join(self._servers)}"
        self._finish(query, dns.failure(query.data, query.question, text, _NETWORK_ERROR))

    def _try(self, query: _Query) -> None:
        while not self._exhausted(query):
            server = self._server(query)
            try:
                # A socket for each question: its port is as hard to guess as its id.
                outside = self._uplink.dial_datagram(6 if ":" in server else 4, server, _PORT)
                identity = os.urandom(2)
                outside.send(identity + query.data[2:])
            except OSError:
                query.attempt += 1
                continue
            self._await(query, outside, identity)
            return
        self._give_up(query)

    def _await(self, query: _Query, outside: socket.socket, identity: bytes) -> None:
        query.socket = outside
        query.timer = self._loop.later(_TRY, lambda: self._next(query))
        self._loop.watch(outside.fileno(), IN, lambda _events: self._answer(query, identity))

    def _next(self, query: _Query) -> None:
        self._drop_socket(query)
        query.attempt += 1
        self._try(query)

    def _drop_socket(self, query: _Query) -> None:
        if query.timer is not None:
            query.timer.cancel()
        if query.socket is not None:
            self._loop.forget(query.socket.fileno())
            query.socket.close()
            query.socket = None

    def _answer(self, query: _Query, identity: bytes) -> None:
        if query.socket is None:
            return
        try:
            data = query.socket.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            self._next(query)
            return
        if data[:2] == identity:
            answer = self._screen(query, data)
            if answer is not None:
                self._finish(query, answer)

    def _screen(self, query: _Query, data: bytes) -> bytes | None:
        """The answer as the program may see it; `None` for one that does not answer this question."""
        question = query.question
        data = query.data[:2] + data[2:]
        try:
            answer = dns.parse_answer(data)
            if (answer.name, answer.type) != (question.name, question.type):
                return None
            name = dns.policy_name(question)
            screened = self._judge.screen(name, data)
            if screened.data is not data:
                answer = dns.parse_answer(screened.data)
        except PeerViolation as violation:
            return dns.failure(query.data, question, f"the server's answer is malformed: {violation}")
        if screened.dropped:
            self._ledger.answer_dropped(name, screened.dropped)
        found = [
            (socket.inet_pton(socket.AF_INET6 if ":" in one.address else socket.AF_INET, one.address), one.ttl)
            for one in answer.addresses
        ]
        if found:
            self._judge.names.learn(name, found)
        return screened.data

    def _finish(self, query: _Query, answer: bytes) -> None:
        self._drop_socket(query)
        self._pending -= 1
        query.reply(answer)

    def _try_stream(self, query: _Query) -> None:
        """Over TCP: one connection for each question, which is rare enough."""
        while not self._exhausted(query):
            server = self._server(query)
            try:
                outside, code = self._uplink.dial_stream(6 if ":" in server else 4, server, _PORT)
            except OSError:  # out of descriptors
                query.attempt += 1
                continue
            if code in (0, 115):
                query.socket = outside
                query.timer = self._loop.later(_TRY * 2, lambda: self._next_stream(query))
                identity = os.urandom(2)
                _StreamServer(self._loop, outside, identity + query.data[2:], lambda data: self._streamed(query, data))
                return
            outside.close()
            query.attempt += 1
        self._give_up(query)

    def _next_stream(self, query: _Query) -> None:
        self._drop_socket(query)
        query.attempt += 1
        self._try_stream(query)

    def _streamed(self, query: _Query, data: bytes | None) -> None:
        answer = self._screen(query, data) if data else None
        if answer is None:
            self._next_stream(query)
        else:
            self._finish(query, answer)


def _framed(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


class _StreamClient:
    """A program's TCP connection to port 53: questions with a length before each (RFC 7766)."""

    def __init__(
        self, loop: Loop, client: socket.socket, ask: Callable[[bytes, Callable[[bytes], None]], None]
    ) -> None:
        self._loop = loop
        self._client: socket.socket | None = client
        self._ask = ask
        self._received = b""
        self._timer = loop.later(_IDLE_TCP, self._close)
        loop.watch(client.fileno(), BOTH_EDGES, lambda _events: self._ready())
        self._ready()

    def _ready(self) -> None:
        while self._client is not None:
            try:
                data = self._client.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._close()
                return
            self._received += data
            while len(self._received) >= 2 and len(self._received) >= 2 + int.from_bytes(self._received[:2], "big"):
                end = 2 + int.from_bytes(self._received[:2], "big")
                question, self._received = self._received[2:end], self._received[end:]
                self._ask(question, self._reply)

    def _reply(self, answer: bytes) -> None:
        if self._client is None:
            return
        try:
            if self._client.send(_framed(answer)) != len(answer) + 2:
                self._close()  # a client that does not read its answers
        except OSError:
            self._close()

    def _close(self) -> None:
        self._timer.cancel()
        if self._client is not None:
            self._loop.forget(self._client.fileno())
            self._client.close()
            self._client = None


class _StreamServer:
    """One question to a server over TCP; `answered` gets the message with the right id, or `None`."""

    def __init__(
        self, loop: Loop, outside: socket.socket, question: bytes, answered: Callable[[bytes | None], None]
    ) -> None:
        self._loop = loop
        self._outside = outside
        self._unsent = _framed(question)
        self._identity = question[:2]
        self._received = b""
        self._answered = answered
        loop.watch(outside.fileno(), BOTH_EDGES, lambda _events: self._ready())

    def _ready(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._outside.send(self._unsent) :]
            while True:
                data = self._outside.recv(_LARGEST)
                self._received += data
                wanted = 2 + int.from_bytes(self._received[:2], "big") if len(self._received) >= 2 else 2
                if len(self._received) >= wanted > 2:
                    message = self._received[2:wanted]
                    self._answered(message if message[:2] == self._identity else None)
                    return
                if not data:
                    self._answered(None)
                    return
        except BlockingIOError:
            return
        except OSError:
            self._answered(None)
