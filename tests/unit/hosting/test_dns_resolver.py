"""Which servers are asked, in which order, and what is done with what they say: real sockets on the loopback."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import pytest
from tests.support.timing import best_of_several, within

from towpath.dns_proxy.cache import Entry, Expired, WireCache, key_of
from towpath.dns_proxy.groups import Group, Groups
from towpath.errors import PeerViolation
from towpath.hosting import dns_resolver
from towpath.hosting.dns_exchange import Exchanges
from towpath.hosting.dns_resolver import NameResolver
from towpath.hosting.loop import IN, Loop
from towpath.names.dnssec.validator import Outcome
from towpath.names.upstream import Upstream, parse_upstream
from towpath.wire import dns, dns_scan

Behaviour = Callable[[bytes], bytes | None]


def good(query: bytes) -> bytes:
    return dns.answer(query, [dns.Record(dns.parse_query(query).name, "A", 60, dns.a("192.0.2.1"))])


def silent(_query: bytes) -> None:
    return None


def failing(query: bytes) -> bytes:
    return dns.answer(query, [], 2)


def absent(query: bytes) -> bytes:
    soa = dns.cname("ns.test") + dns.cname("root.test") + bytes(20)
    return dns.answer(query, [], 3, authorities=[dns.Record("test", "SOA", 60, soa)])


def malformed(query: bytes) -> bytes:
    return good(query)[:-2]


def folded(query: bytes) -> bytes:
    """Spells the name in small letters, as a server does that breaks on 0x20."""
    end = dns.parse_query(query).end
    answer = good(query)
    return answer[:12] + answer[12 : end - 4].lower() + answer[end - 4 :]


class World:
    """Servers that behave as they are told to, and a resolver."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.exchanges = Exchanges(self.loop)
        self.sockets: list[socket.socket] = []
        self.heard: list[list[bytes]] = []
        self.cache = WireCache()

    def server(self, behaviour: Behaviour) -> Upstream:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.bind(("127.0.0.1", 0))
        heard: list[bytes] = []
        self.sockets.append(made)
        self.heard.append(heard)

        def serve(_events: int) -> None:
            query, peer = made.recvfrom(65535)
            heard.append(query)
            answer = behaviour(query)
            if answer is not None:
                made.sendto(answer, peer)

        self.loop.watch(made.fileno(), IN, serve)
        return parse_upstream(f"127.0.0.1#{made.getsockname()[1]}")

    def resolver(self, *groups: Group) -> NameResolver:
        return NameResolver(
            self.loop,
            self.cache,
            self.exchanges,
            Groups(groups),
            groups[0],
            lambda _name, data, _end: dns_scan.scan(data),
        )

    def ask(self, resolver: NameResolver, name: str) -> tuple[Entry | None, str]:
        query = dns.query(name, "A", 7, edns=False)
        outcomes: list[tuple[Entry | None, str]] = []

        def done(entry: Entry | None, trouble: str) -> None:
            outcomes.append((entry, trouble))
            self.loop.stop()

        resolver.resolve(key_of(query, dns.parse_query(query)), name, done)
        if not outcomes:
            guard = self.loop.later(60, self.loop.stop)
            self.loop.run()
            guard.cancel()
        assert len(outcomes) == 1
        return outcomes[0]

    def close(self) -> None:
        self.exchanges.close()
        for one in self.sockets:
            one.close()
        self.loop.close()


@pytest.fixture
def world() -> Iterator[World]:
    with patch.object(dns_resolver, "_TRY", 0.2):
        made = World()
        yield made
        made.close()


@pytest.mark.parametrize("first", [silent, failing, malformed], ids=["silent", "failing", "malformed"])
def test_the_next_server_is_asked_when_one_is_of_no_use(world: World, first: Behaviour) -> None:
    resolver = world.resolver(Group((world.server(first), world.server(good))))
    entry, trouble = world.ask(resolver, "a.test")
    assert entry is not None, trouble
    assert entry.rcode == 0


def test_a_server_that_has_failed_twice_is_asked_last_for_a_while(world: World) -> None:
    resolver = world.resolver(Group((world.server(silent), world.server(good))))
    for at in range(4):
        assert world.ask(resolver, f"n{at}.test")[0] is not None
    assert [len(heard) for heard in world.heard] == [2, 4]


@best_of_several
def test_a_race_asks_two_at_once_and_the_first_wins(world: World) -> None:
    resolver = world.resolver(Group((world.server(silent), world.server(good)), mode="race"))
    took = []
    for _ in range(2):  # it fails twice and would be asked last from then on
        begun = time.monotonic()
        assert world.ask(resolver, f"n{len(world.cache)}.test")[0] is not None
        took.append(time.monotonic() - begun)
    assert world.heard[0]
    within(0.15, min(took))  # the silent server is not waited for


def test_that_a_name_does_not_exist_is_an_answer(world: World) -> None:
    resolver = world.resolver(Group((world.server(absent), world.server(good))))
    entry, _ = world.ask(resolver, "a.test")
    assert entry is not None
    assert entry.rcode == 3
    assert len(world.heard[1]) == 0


def test_a_failure_of_all_servers_is_told_as_they_told_it(world: World) -> None:
    resolver = world.resolver(Group((world.server(failing), world.server(failing))))
    entry, _ = world.ask(resolver, "a.test")
    assert entry is not None
    assert entry.rcode == 2
    assert len(world.cache) == 0


def test_silence_of_all_servers_names_them(world: World) -> None:
    upstream = world.server(silent)
    entry, trouble = world.ask(world.resolver(Group((upstream,))), "a.test")
    assert entry is None
    assert f"{upstream}: no answer" in trouble


@pytest.mark.parametrize(("allow", "answered"), [(True, True), (False, False)])
def test_the_servers_for_every_name_stand_in_where_that_is_allowed(world: World, allow: bool, answered: bool) -> None:
    default = Group((world.server(good),))
    home = Group((world.server(silent),), ("home.test",), allow_failover=allow)
    entry, _ = world.ask(world.resolver(default, home), "printer.home.test")
    assert (entry is not None) == answered


@pytest.mark.parametrize(("expired", "answered"), [("allow", True), ("prohibit", False)])
def test_an_old_answer_is_better_than_none_where_that_is_allowed(
    world: World, expired: Expired, answered: bool
) -> None:
    world.cache.expired = expired
    resolver = world.resolver(Group((world.server(silent),)))
    query = dns.query("a.test", "A", 7, edns=False)
    world.cache.store(key_of(query, dns.parse_query(query)), dns_scan.scan(good(query)), int(time.monotonic()) - 100)
    entry, _ = world.ask(resolver, "a.test")
    assert (entry is not None) == answered


def test_who_asks_the_same_meanwhile_waits_for_the_same_answer(world: World) -> None:
    resolver = world.resolver(Group((world.server(good),)))
    query = dns.query("a.test", "A", 7, edns=False)
    others: list[Entry | None] = []
    for _ in range(5):
        key = key_of(query, dns.parse_query(query))
        resolver.resolve(key, "a.test", lambda entry, _trouble: others.append(entry))
    entry, _ = world.ask(resolver, "a.test")
    assert others == [entry] * 5
    assert len(world.heard[0]) == 1


@pytest.mark.parametrize(("behaviour", "answered"), [(good, True), (folded, False)])
def test_a_name_in_random_case_must_be_repeated(world: World, behaviour: Behaviour, answered: bool) -> None:
    resolver = world.resolver(Group((world.server(behaviour),)))
    resolver.mixed_case = True
    name = "a-long-name-of-many-letters.test"
    entry, _ = world.ask(resolver, name)
    assert (entry is not None) == answered
    assert dns.parse_query(world.heard[0][0]).name == name
    assert world.heard[0][0][12:40] != dns.query(name, "A", 7)[12:40]


def test_what_is_forgotten_is_answered_to_who_has_asked_and_not_kept(world: World) -> None:
    resolver = world.resolver(Group((world.server(good),)))
    query = dns.query("a.test", "A", 7, edns=False)
    early: list[Entry | None] = []
    resolver.resolve(key_of(query, dns.parse_query(query)), "a.test", lambda entry, _trouble: early.append(entry))
    resolver.forget()
    world.ask(resolver, "b.test")
    assert early
    assert early[0] is not None
    assert len(world.cache) == 1


def test_a_judged_answer_that_cannot_be_written_gives_way_to_the_next_server(world: World) -> None:
    servers = world.server(good), world.server(good)
    resolver = world.resolver(Group(servers, requires_dnssec=True))
    outcomes = [PeerViolation("dns-long", "65536 bytes once rewritten"), good(dns.query("a.test", "A", 7, edns=False))]
    judge = "towpath.hosting.dns_validation.Validation.judge"
    secure = Outcome("secure", "", 0, 60)
    with (
        patch.object(dns_resolver, "validated", side_effect=outcomes),
        patch(judge, lambda _self, _anchors, _server, _answer, judged: judged(secure)),
    ):
        entry, trouble = world.ask(resolver, "a.test")
    assert entry is not None, trouble
    assert [len(heard) for heard in world.heard] == [1, 1]


@pytest.mark.parametrize("behaviour", [good, absent, malformed], ids=["unsigned", "denied", "malformed"])
def test_what_a_server_says_without_keys_is_not_believed(world: World, behaviour: Behaviour) -> None:
    resolver = world.resolver(Group((world.server(behaviour),), requires_dnssec=True))
    resolver.by = "mine"
    entry, trouble = world.ask(resolver, "a.test")
    if entry is None:
        assert "malformed" in trouble
        return
    assert entry.rcode == 2
    assert entry.refusal.startswith("mine: DNSSEC: ")
    assert not any(entry.body[4:10])  # no record of what was said
