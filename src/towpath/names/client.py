"""One question to some DNS servers, without input or output: messages, failures and the time in; messages to send out.

The transports differ only in what carries a message: a driver opens what a `Send` names and gives back whole messages.
A protocol that is not cut off at a datagram's size (TCP, TLS, HTTPS, QUIC) is any word but ``udp`` and ``mdns``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from towpath.errors import Misuse, PeerViolation
from towpath.names import reply as r
from towpath.names.reply import Reply
from towpath.wire import dns, dns_message

__all__ = ["Lookup", "QuerySettings", "Send", "Server"]

_AD_IN_QUERY = 0x20


class Server(NamedTuple):
    """A resolver: its address (an IPv6 one may have a zone), its port, and how it is spoken to first.

    `protocol` is "udp", "tcp", "mdns", "tls", "https" or "quic". For the last three `name` is what the certificate must
    be for (the address, where it is empty), and `path` that of https.
    """

    address: str
    port: int = 53
    protocol: str = "udp"
    name: str = ""
    path: str = ""

    def __str__(self) -> str:
        at = self.address if self.port in (53, 853, 443) else f"{self.address}#{self.port}"
        return f"{self.name} ({at})" if self.name else at


@dataclass(frozen=True, slots=True)
class QuerySettings:
    """How a question is asked; the defaults are those of resolv.conf(5).

    `timeout`: seconds for each try. `attempts`: how often each server is tried. `edns`: EDNS(0) with 1,232 bytes.
    `trust_ad`: ask for, and believe, the server's word that an answer is authentic. `mixed_case`: spell names in
    random case, which an answer must repeat (0x20); some servers break on it. `dnssec`: ask for signatures, and for
    answers that the server would not believe (DO and CD).
    """

    timeout: float = 5.0
    attempts: int = 2
    edns: bool = True
    trust_ad: bool = False
    mixed_case: bool = False
    dnssec: bool = False


class Send(NamedTuple):
    """Carry `message` to `server` by `protocol`; what comes back belongs to `number`."""

    number: int
    server: Server
    protocol: str
    message: bytes


class _Asked(NamedTuple):
    server: Server
    protocol: str
    id: int
    labels: dns_message.Labels
    edns: bool


class Lookup:
    """The state of one question.

    Call `start`, then `received`, `failed` and `wake` as things happen, and carry out what they return until
    `finished`. A try that was given up stays open: its answer still counts, until the lookup is finished; what comes
    later, or answers another question, is dropped and counted in `dropped`.

    >>> lookup = Lookup("www.example.test", "A", [Server("192.0.2.53")])
    >>> [(send.server.address, send.protocol) for send in lookup.start(0.0)]
    [('192.0.2.53', 'udp')]
    >>> lookup.deadline
    5.0
    """

    def __init__(
        self,
        name: str,
        kind: str | int,
        servers: Sequence[Server],
        settings: QuerySettings | None = None,
        *,
        below: Callable[[int], int] = secrets.randbelow,
    ) -> None:
        if not servers:
            raise Misuse("a question needs a server")
        self.name = name
        self.kind = dns_message.type_number(kind) if isinstance(kind, str) else kind
        self.settings = settings or QuerySettings()
        self.reply: Reply | None = None
        self.message: bytes | None = None
        """The whole message of `reply`."""
        self.answered: Send | None = None
        self.finished = False
        self.deadline = 0.0
        self.dropped = 0
        self.troubles: list[str] = []
        self._below = below
        self._tries: Iterator[Server] = iter(list(servers) * max(1, self.settings.attempts))
        self._open: dict[int, tuple[_Asked, Send]] = {}
        self._current = -1
        self._count = 0

    def start(self, now: float) -> list[Send]:
        """The first message. `now` in seconds, of any clock that only goes forward."""
        return self._next(now)

    def received(self, number: int, message: bytes, now: float) -> list[Send]:
        """A whole message came by the `Send` of that number."""
        found = self._open.get(number)
        if found is None or self.finished:
            self.dropped += 1
            return []
        asked, send = found
        if not _matches(message, asked, self.kind, exact=self.settings.mixed_case):
            self.dropped += 1
            return []
        try:
            reply = r.parse_reply(message)
        except PeerViolation as violation:
            return self._give_up(number, f"{asked.server}: {violation}", now)
        if not self.settings.trust_ad:
            reply = reply._replace(authenticated=False)
        self.message = message
        return self._judge(number, asked, send, reply, now)

    def failed(self, number: int, reason: str, now: float) -> list[Send]:
        """What a `Send` named could not be reached, or ended."""
        found = self._open.get(number)
        if found is None or self.finished:
            return []
        return self._give_up(number, f"{found[0].server}: {reason}", now)

    def wake(self, now: float) -> list[Send]:
        """The deadline passed, perhaps."""
        if self.finished or now < self.deadline:
            return []
        asked = self._open[self._current][0]
        self.troubles.append(f"{asked.server}: no answer in {self.settings.timeout:g} s")
        return self._next(now)

    def _judge(self, number: int, asked: _Asked, send: Send, reply: Reply, now: float) -> list[Send]:
        if reply.truncated and asked.protocol == "udp":
            del self._open[number]
            return self._ask(asked.server, "tcp", asked.edns, now)
        if asked.edns and reply.rcode in (r.FORMERR, r.NOTIMP, r.BADVERS):
            del self._open[number]
            return self._ask(asked.server, asked.protocol, False, now)
        decided = reply.rcode in (r.NOERROR, r.NXDOMAIN) or any(error.policy for error in reply.extended)
        self.reply, self.answered = reply, send
        if decided:
            self.finished = True
            return []
        return self._give_up(number, f"{asked.server}: answered with code {reply.rcode}", now)

    def _give_up(self, number: int, trouble: str, now: float) -> list[Send]:
        self.troubles.append(trouble)
        del self._open[number]
        # An older try that ends must not hurry the one that is under way.
        return self._next(now) if number == self._current else []

    def _next(self, now: float) -> list[Send]:
        server = next(self._tries, None)
        if server is None:
            self.finished = True
            return []
        return self._ask(server, server.protocol, self.settings.edns, now)

    def _ask(self, server: Server, protocol: str, edns: bool, now: float) -> list[Send]:
        identity = self._below(0x10000)
        name = self._spelled() if self.settings.mixed_case else self.name
        message = dns.query(name, self.kind, identity, edns, dnssec=self.settings.dnssec)
        if self.settings.trust_ad:
            message = message[:3] + bytes((message[3] | _AD_IN_QUERY,)) + message[4:]
        number = self._current = self._count
        self._count += 1
        send = Send(number, server, protocol, message)
        self._open[number] = (_Asked(server, protocol, identity, dns_message.labels_of(name), edns), send)
        self.deadline = now + self.settings.timeout
        return [send]

    def _spelled(self) -> str:
        return "".join(letter.upper() if self._below(2) else letter for letter in self.name)


def _matches(message: bytes, asked: _Asked, kind: int, *, exact: bool) -> bool:
    try:
        identity, labels, found = r.question_of(message)
    except PeerViolation:
        return False
    if identity != asked.id or found != kind:
        return False
    return labels == asked.labels if exact else dns_message.text(labels) == dns_message.text(asked.labels)
