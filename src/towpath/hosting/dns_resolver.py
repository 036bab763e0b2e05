"""One answer for everybody who asks the same: questions under way, which server is asked next, and what is kept."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING

from towpath.dns_proxy.cache import Entry, WireCache
from towpath.dns_proxy.groups import Group, Groups, Standing
from towpath.errors import PeerViolation
from towpath.hosting.dns_exchange import NO_SOCKET, Exchanges
from towpath.hosting.dns_links import Ask, Server
from towpath.hosting.dns_validation import Validation
from towpath.hosting.loop import Loop, Patience
from towpath.wire.dns import extended_error, parse_answer
from towpath.wire.dns_message import flat, labels_of
from towpath.wire.dns_scan import Scanned, bare_question, scan, validated

if TYPE_CHECKING:
    from towpath.names.dnssec.validator import Outcome

__all__ = ["Admit", "NameResolver"]

_TRY = 2.0
_TRY_SECURE = 4.0
_LONGEST = 15.0
_ROUNDS = 2
_MOST_FLIGHTS = 2048
_DO, _CD, _AD = 0x01, 0x10, 0x20
_A_IN = b"\0\1\0\1"
_SERVFAIL = 2
_BOGUS_TTL = 5
"""Seconds for which a bogus answer is not asked for again (RFC 4035 section 4.7)."""

Admit = Callable[[str, bytes, int], Scanned]
"""Reads an answer to a question for a name that ends at an offset; raises `PeerViolation`."""
_Identity = tuple[bytes, Hashable, int]
Done = Callable[[Entry | None, str], None]


class _Flight:
    __slots__ = (
        "anchors", "asks", "begun", "bits", "bogus", "checks", "doubted", "keep", "key", "last", "name", "question",
        "screen", "servers", "troubles", "waiting",
    )  # fmt: skip

    def __init__(self, key: bytes, name: str, servers: Iterator[Server], keep: bool, screen: bool) -> None:
        self.keep = keep
        self.screen = screen
        self.anchors: tuple[str, ...] | None = None
        """Of what is to be validated."""
        self.checks = 0
        self.bogus: Outcome | None = None
        self.doubted: set[Server] = set()
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

    `system` are the servers by which others are found that have a name alone. `admit` reads each answer and may change
    it; what it gives is kept and handed to everybody. `answered(server, seconds)` hears of each answer that decided.
    """

    def __init__(
        self,
        loop: Loop,
        cache: WireCache,
        exchanges: Exchanges,
        groups: Groups,
        system: Group,
        admit: Admit,
        answered: Callable[[Server, float], None] = lambda _server, _seconds: None,
    ) -> None:
        self.cache = cache
        self.groups = groups
        self.exchanges = exchanges
        self._loop = loop
        self._admit = admit
        self._answered = answered
        self.system = system
        self.mixed_case = False
        self.by = ""
        """Who is named where an answer is not believed."""
        self._located: dict[str, tuple[tuple[str, ...], float]] = {}
        self._known_groups: dict[Group, Group] = {}
        self._epoch = 0
        self._flights: dict[_Identity, _Flight] = {}
        self._validation = Validation(self._ask_for_keys)
        self._standings: dict[Server, Standing] = {}
        self._patience = Patience(loop, _TRY)
        self._patience_secure = Patience(loop, _TRY_SECURE)

    @property
    def under_way(self) -> int:
        return len(self._flights)

    def resolve(
        self,
        key: bytes,
        name: str,
        done: Done,
        group: Group | None = None,
        *,
        keep: bool = True,
        screen: bool = True,
    ) -> None:
        """Asks for what a key says (see `towpath.dns_proxy.cache.key_of`), for a name in lower case.

        `done(entry, trouble)` is called once: with what was answered, even if that is a failure of the server's, or
        with `None` and the reason. A `group` of the caller's own is asked instead of the one for the name. What is not
        to `keep` is for this question alone; what is not to `screen` is no answer for a program.
        """
        chosen = group or self.groups.of(name)
        if chosen is not None and any(not upstream.addresses for upstream in chosen.upstreams):
            self._find_servers(chosen, lambda found: self._resolve(key, name, done, found, keep, screen))
        else:
            self._resolve(key, name, done, chosen, keep, screen)

    def _resolve(self, key: bytes, name: str, done: Done, chosen: Group | None, keep: bool, screen: bool) -> None:
        identity = key, id(chosen), self._epoch
        if self._joins(identity, done):
            return
        if chosen is None or not any(upstream.addresses for upstream in chosen.upstreams):
            done(None, "no server is known for this name")
            return
        flight = _Flight(key, name, self._order(chosen), keep, screen)
        if chosen.requires_dnssec and not key[-1] & _CD:
            flight.anchors = chosen.trust_anchors
        self._begin(identity, flight, done, 2 if chosen.mode == "race" else 1)

    def _ask_for_keys(self, server: Server, name: str, kind: int, done: Done) -> None:
        key = flat(labels_of(name)) + kind.to_bytes(2, "big") + b"\0\1" + bytes((_DO | _CD,))
        identity = key, server, self._epoch
        if not self._joins(identity, done):
            self._begin(identity, _Flight(key, name, iter([server] * _ROUNDS), False, False), done, 1)

    def _joins(self, identity: _Identity, done: Done) -> bool:
        """The same is asked already, or more would be too much."""
        flight = self._flights.get(identity)
        if flight is not None:
            flight.waiting.append(done)
        elif len(self._flights) >= _MOST_FLIGHTS:
            done(None, "too many questions at once")
        else:
            return False
        return True

    def _begin(self, identity: _Identity, flight: _Flight, done: Done, at_once: int) -> None:
        flight.waiting.append(done)
        self._flights[identity] = flight
        for _ in range(at_once):
            self._next(identity, flight)

    def forget(self) -> None:
        """What is on its way is for those alone who have asked already."""
        for flight in self._flights.values():
            flight.keep = False
        self._epoch += 1
        self._validation.forget()

    def renew(self, name_of: Callable[[bytes], str], may: Callable[[bytes], bool]) -> None:
        """Asks anew for what the cache wants renewed, as far as that may be asked for."""
        wanted, self.cache.to_renew = self.cache.to_renew, []
        for question, bits in wanted:
            if may(question):
                self.resolve(question + bits, name_of(question), lambda _entry, _trouble: None)

    def _find_servers(self, group: Group, found: Callable[[Group | None], None]) -> None:
        """Looks up where the servers are that have a name alone, by the servers of the system."""
        missing = {upstream.name for upstream in group.upstreams if not upstream.addresses}
        now = time.monotonic()
        waiting = {name for name in missing if self._located.get(name, ((), 0.0))[1] <= now}

        def one_found(name: str, entry: Entry | None) -> None:
            ttl = 5.0
            addresses: tuple[str, ...] = ()
            if entry is not None:
                answer = parse_answer(b"\0\0" + entry.body)
                addresses = tuple(one.address for one in answer.addresses)
                ttl = max(ttl, float(entry.expires - entry.stored))
            self._located[name] = addresses, time.monotonic() + ttl
            waiting.discard(name)
            if not waiting:
                found(self._located_group(group))

        if not waiting:
            found(self._located_group(group))
        for name in list(waiting):
            question = flat(labels_of(name)) + _A_IN
            self._resolve(
                question + b"\0",
                name,
                lambda entry, _trouble, name=name: one_found(name, entry),  # type: ignore[misc]
                self.system,
                False,
                False,
            )

    def _located_group(self, group: Group) -> Group:
        upstreams = [
            upstream
            if upstream.addresses
            else upstream._replace(addresses=self._located.get(upstream.name, ((), 0))[0])
            for upstream in group.upstreams
        ]
        known = group._replace(upstreams=tuple(upstreams))
        return self._known_groups.setdefault(known, known)

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

    def _next(self, identity: _Identity, flight: _Flight) -> None:
        if identity not in self._flights:
            return
        server = next((server for server in flight.servers if server not in flight.doubted), None)
        if server is None or time.monotonic() - flight.begun > _LONGEST:
            if not flight.asks and not flight.checks:
                self._give_up(identity, flight)
            return
        self._ask(identity, flight, server, server.upstream.protocol)

    def _ask(self, identity: _Identity, flight: _Flight, server: Server, protocol: str) -> None:
        question = flight.question
        bits = flight.bits if flight.anchors is None else _DO | _CD
        message = bare_question(
            _spelled(question[:-4], os.urandom(32)) if self.mixed_case else question[:-4],
            question[-4:],
            0,
            dnssec=bool(bits & _DO),
            checking_disabled=bool(bits & _CD),
            ad=bool(bits & (_AD | _DO)),
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

        ask = self.exchanges.ask(server, protocol, message, 12 + len(question), told, exact=self.mixed_case)
        if ask.told is not None:
            flight.asks.add(ask)
            patience.begin(ask, too_late)

    def _failed(self, identity: _Identity, flight: _Flight, server: Server, reason: str) -> None:
        if reason != NO_SOCKET:
            self._standing(server).failed(time.monotonic())
        flight.troubles.append(f"{server}: {reason}")
        self._next(identity, flight)

    def _heard(
        self,
        identity: _Identity,
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
        if flight.anchors is not None and answer[3] & 0x0F in (0, 3):
            self._validate(identity, flight, flight.anchors, server, answer, seconds)
        else:
            self._take(identity, flight, server, answer, seconds)

    def _validate(
        self,
        identity: _Identity,
        flight: _Flight,
        anchors: tuple[str, ...],
        server: Server,
        answer: bytes,
        seconds: float,
    ) -> None:
        def judged(outcome: Outcome) -> None:
            flight.checks -= 1
            if self._flights.get(identity) is not flight:
                return
            if outcome.status == "bogus":
                flight.bogus = outcome
                flight.doubted.add(server)
                flight.troubles.append(f"{server}: {outcome.reason}")
                self._next(identity, flight)
                return
            authentic = outcome.status == "secure"
            try:
                made = validated(answer, authentic=authentic, dnssec=bool(flight.bits & _DO), most_ttl=outcome.ttl)
            except PeerViolation as violation:
                self._malformed(identity, flight, server, violation)
                return
            self._take(identity, flight, server, made, seconds)

        flight.checks += 1
        try:
            self._validation.judge(anchors, server, answer, judged)
        except PeerViolation as violation:
            flight.checks -= 1
            self._malformed(identity, flight, server, violation)

    def _malformed(self, identity: _Identity, flight: _Flight, server: Server, violation: PeerViolation) -> None:
        flight.troubles.append(f"{server}: its answer is malformed: {violation}")
        self._next(identity, flight)

    def _take(self, identity: _Identity, flight: _Flight, server: Server, answer: bytes, seconds: float) -> None:
        """An answer that may be believed."""
        try:
            end = 12 + len(flight.question)
            scanned = self._admit(flight.name, answer, end) if flight.screen else scan(answer)
        except PeerViolation as violation:
            self._malformed(identity, flight, server, violation)
            return
        if scanned.rcode in (0, 3):
            self._answered(server, seconds)
            second = int(time.monotonic())
            if flight.keep:
                entry = self.cache.store(flight.key, scanned, second)
            else:
                entry = Entry(flight.key, scanned, second, scanned.ttl)
            self._finish(identity, flight, entry, "")
            return
        flight.last = Entry(flight.key, scanned, int(time.monotonic()), 0)
        flight.troubles.append(f"{server}: answered with code {scanned.rcode}")
        self._next(identity, flight)

    def _give_up(self, identity: _Identity, flight: _Flight) -> None:
        stale = self.cache.failed(flight.key) if flight.keep else None
        if stale is not None:
            self._finish(identity, flight, stale, "")
        elif flight.bogus is not None:
            self._finish(identity, flight, self._bogus(flight, flight.bogus), "")
        elif flight.last is not None:
            self._finish(identity, flight, flight.last, "")
        else:
            self._finish(identity, flight, None, "; ".join(dict.fromkeys(flight.troubles)) or "no answer")

    def _bogus(self, flight: _Flight, outcome: Outcome) -> Entry:
        """SERVFAIL and the reason, for a few seconds."""
        body = b"\x80" + bytes((0x80 | _SERVFAIL,)) + b"\0\1" + bytes(6) + flight.question
        scanned = Scanned(body, (), _BOGUS_TTL, _SERVFAIL, False, extended_error(outcome.code, outcome.reason))
        second = int(time.monotonic())
        if flight.keep:
            entry = self.cache.store(flight.key, scanned, second, own=True)
        else:
            entry = Entry(flight.key, scanned, second, _BOGUS_TTL)
        entry.refusal = f"{self.by}: DNSSEC: {outcome.reason}"
        return entry

    def _finish(self, identity: _Identity, flight: _Flight, entry: Entry | None, trouble: str) -> None:
        self._flights.pop(identity, None)
        for ask in flight.asks:
            ask.cancel()
            self._patience.end(ask)
            self._patience_secure.end(ask)
        flight.asks.clear()
        for done in flight.waiting:
            done(entry, trouble)


def _spelled(name: bytes, noise: bytes) -> bytes:
    """The name with each letter in random case (draft-vixie-dnsext-dns0x20)."""
    bits = int.from_bytes(noise, "big")
    return bytes(byte ^ 0x20 if 0x61 <= byte <= 0x7A and bits >> at & 1 else byte for at, byte in enumerate(name))


def _servers(group: Group) -> list[Server]:
    found: Sequence[Server] = [
        Server(upstream, address) for upstream in group.upstreams for address in upstream.addresses
    ]
    return list(found)
