"""One answer for everybody who asks the same: questions under way, which server is asked next, and what is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from towpath.dns_proxy.cache import Entry, WireCache
from towpath.dns_proxy.upstreams import Group, Groups, Standing
from towpath.errors import PeerViolation
from towpath.hosting.dns_exchange import NO_SOCKET, Ask, Exchanges, Server
from towpath.hosting.loop import Loop, Patience
from towpath.wire.dns_scan import Scanned, bare_question

__all__ = ["Admit", "NameResolver"]

_TRY = 2.0
_TRY_SECURE = 4.0
_LONGEST = 15.0
_ROUNDS = 2
_MOST_FLIGHTS = 2048
_FORMERR, _SERVFAIL, _NOTIMP = 1, 2, 4
_DO, _CD, _AD = 0x01, 0x10, 0x20

Admit = Callable[[str, bytes, int], Scanned]
"""Reads an answer to a question for a name that ends at an offset; raises `PeerViolation`."""
Done = Callable[[Entry | None, str], None]


class _Flight:
    __slots__ = ("asks", "bits", "begun", "key", "last", "name", "question", "servers", "troubles", "waiting")

    def __init__(self, key: bytes, name: str, servers: Iterator[Server]) -> None:
        self.key = key
        self.question = key[:-1]
        self.bits = key[-1]
        self.name = name
        self.servers = servers
        self.waiting: list[Done] = []
        self.asks: set[Ask] = set()
        self.troubles: list[str] = []
        self.last: Entry | None = None
        self.begun = time.monotonic()


class NameResolver:
    """Fills a cache from upstream servers.

    `admit` reads each answer and may change it; what it gives is kept and handed to everybody. `answered(server,
    seconds)` hears of each answer that decided.
    """

    def __init__(
        self,
        loop: Loop,
        cache: WireCache,
        exchanges: Exchanges,
        groups: Groups,
        admit: Admit,
        answered: Callable[[Server, float], None] = lambda _server, _seconds: None,
    ) -> None:
        self.cache = cache
        self.groups = groups
        self.exchanges = exchanges
        self._loop = loop
        self._admit = admit
        self._answered = answered
        self._flights: dict[tuple[bytes, int], _Flight] = {}
        self._standings: dict[Server, Standing] = {}
        self._patience = Patience(loop, _TRY)
        self._patience_secure = Patience(loop, _TRY_SECURE)

    @property
    def under_way(self) -> int:
        return len(self._flights)

    def resolve(self, key: bytes, name: str, done: Done, group: Group | None = None) -> None:
        """Asks for what a key says (see `towpath.dns_proxy.cache.key_of`), for a name in lower case.

        `done(entry, trouble)` is called once: with what was answered, even if that is a failure of the server's, or
        with `None` and the reason. A `group` of the caller's own is asked instead of the one for the name.
        """
        chosen = group or self.groups.of(name)
        identity = key, id(chosen)
        flight = self._flights.get(identity)
        if flight is not None:
            flight.waiting.append(done)
            return
        if chosen is None or not any(upstream.addresses for upstream in chosen.upstreams):
            done(None, "no server is known for this name")
            return
        if len(self._flights) >= _MOST_FLIGHTS:
            done(None, "too many questions at once")
            return
        flight = _Flight(key, name, self._order(chosen))
        flight.waiting.append(done)
        self._flights[identity] = flight
        for _ in range(2 if chosen.mode == "race" else 1):
            self._next(identity, flight)

    def renew(self, name_of: Callable[[bytes], str], may: Callable[[bytes], bool]) -> None:
        """Asks anew for what the cache wants renewed, as far as that may be asked for."""
        wanted, self.cache.to_renew = self.cache.to_renew, []
        for question, bits in wanted:
            if may(question):
                self.resolve(question + bits, name_of(question), lambda _entry, _trouble: None)

    def _order(self, group: Group) -> Iterator[Server]:
        """Servers that are well before those that are not, each twice."""
        now = time.monotonic()
        servers = _servers(group)
        if group.mode == "race":
            servers.sort(key=lambda server: self._standing(server).seconds)
        well = [server for server in servers if self._standing(server).well(now)]
        ill = [server for server in servers if server not in well]
        order = [*well, *ill] * _ROUNDS
        default = self.groups.default
        if group.allow_failover and default is not None and default is not group:
            order += _servers(default)
        return iter(order)

    def _standing(self, server: Server) -> Standing:
        return self._standings.setdefault(server, Standing())

    def _next(self, identity: tuple[bytes, int], flight: _Flight) -> None:
        if identity not in self._flights:
            return
        server = next(flight.servers, None)
        if server is None or time.monotonic() - flight.begun > _LONGEST:
            if not flight.asks:
                self._give_up(identity, flight)
            return
        self._ask(identity, flight, server, server.upstream.protocol)

    def _ask(self, identity: tuple[bytes, int], flight: _Flight, server: Server, protocol: str) -> None:
        question = flight.question
        message = bare_question(
            question[:-4],
            question[-4:],
            0,
            dnssec=bool(flight.bits & _DO),
            checking_disabled=bool(flight.bits & _CD),
            ad=bool(flight.bits & (_AD | _DO)),
        )
        begun = time.monotonic()
        patience = self._patience_secure if server.upstream.secure else self._patience

        def told(answer: bytes | None, reason: str) -> None:
            patience.end(ask)
            flight.asks.discard(ask)
            if answer is None:
                self._failed(identity, flight, server, reason)
            else:
                self._heard(identity, flight, server, protocol, answer, time.monotonic() - begun)

        def too_late() -> None:
            ask.cancel()
            flight.asks.discard(ask)
            self._failed(identity, flight, server, "no answer")

        ask = self.exchanges.ask(server, protocol, message, 12 + len(question), told)
        if ask.told is not None:
            flight.asks.add(ask)
            patience.begin(ask, too_late)

    def _failed(self, identity: tuple[bytes, int], flight: _Flight, server: Server, reason: str) -> None:
        if reason != NO_SOCKET:
            self._standing(server).failed(time.monotonic())
        flight.troubles.append(f"{server}: {reason}")
        self._next(identity, flight)

    def _heard(
        self,
        identity: tuple[bytes, int],
        flight: _Flight,
        server: Server,
        protocol: str,
        answer: bytes,
        seconds: float,
    ) -> None:
        if protocol == "udp" and answer[2] & 0x02:
            self._ask(identity, flight, server, "tcp")
            return
        self._standing(server).answered(seconds)
        try:
            scanned = self._admit(flight.name, answer, 12 + len(flight.question))
        except PeerViolation as violation:
            flight.troubles.append(f"{server}: its answer is malformed: {violation}")
            self._next(identity, flight)
            return
        if scanned.rcode in (0, 3):
            self._answered(server, seconds)
            self._finish(identity, flight, self.cache.store(flight.key, scanned, int(time.monotonic())), "")
            return
        flight.last = Entry(flight.key, scanned, int(time.monotonic()), 0)
        flight.troubles.append(f"{server}: answered with code {scanned.rcode}")
        self._next(identity, flight)

    def _give_up(self, identity: tuple[bytes, int], flight: _Flight) -> None:
        stale = self.cache.failed(flight.key)
        if stale is not None:
            self._finish(identity, flight, stale, "")
        elif flight.last is not None:
            self._finish(identity, flight, flight.last, "")
        else:
            self._finish(identity, flight, None, "; ".join(dict.fromkeys(flight.troubles)) or "no answer")

    def _finish(self, identity: tuple[bytes, int], flight: _Flight, entry: Entry | None, trouble: str) -> None:
        self._flights.pop(identity, None)
        for ask in flight.asks:
            ask.cancel()
            self._patience.end(ask)
            self._patience_secure.end(ask)
        flight.asks.clear()
        for done in flight.waiting:
            done(entry, trouble)


def _servers(group: Group) -> list[Server]:
    found: Sequence[Server] = [
        Server(upstream, address) for upstream in group.upstreams for address in upstream.addresses
    ]
    return list(found)
