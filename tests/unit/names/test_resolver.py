"""The resolver against real DNS servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.support.dns_answers import Asked, extended_error, serving, soa

from towpath.errors import Misuse, NameRefused, NameUnknown, NoAnswer, ResolutionFailed
from towpath.names import Answer, AnswerCache, QuerySettings, Resolver, Server, SystemFiles, SystemResolver
from towpath.wire import dns
from towpath.wire.dns import Record

QUICK = QuerySettings(timeout=0.2, attempts=1)
ADDRESSES = {"A": dns.a("192.0.2.1"), "AAAA": dns.aaaa("2001:db8::1")}


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def known(asked: Asked, ttl: int = 60) -> Iterable[bytes]:
    """Every name has an address of each family, and no service bindings."""
    records = [Record(asked.name, asked.kind, ttl, ADDRESSES[asked.kind])] if asked.kind in ADDRESSES else []
    yield dns.answer(asked.query, records, authorities=[] if records else [soa("test", 30)])


def empty_system(folder: Path, resolver: str = "", hosts: str = "") -> SystemFiles:
    (folder / "resolv.conf").write_text(resolver)
    (folder / "hosts").write_text(hosts)
    return SystemFiles(folder / "resolv.conf", folder / "hosts")


@pytest.fixture
def system(tmp_path: Path) -> SystemFiles:
    return empty_system(tmp_path)


def statuses(answers: Iterable[Answer]) -> dict[str, str]:
    return {answer.kind: str(answer.status) for answer in answers}


def test_questions_go_out_together_and_each_answer_says_how_it_came(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with serving(known) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            found = await resolver.resolve("www.good.test", ["HTTPS", "AAAA", "A"])
            assert dns_server.questions == ["HTTPS www.good.test", "AAAA www.good.test", "A www.good.test"]
            assert {address.address for address in found.addresses} == {"192.0.2.1", "2001:db8::1"}
            assert statuses(found.answers) == {"HTTPS": "empty", "AAAA": "found", "A": "found"}
            for answer in found.answers:
                assert (answer.source, answer.protocol, answer.server) == ("dns", "udp", str(dns_server.server))
                assert answer.duration > 0

    asyncio.run(scenario())


def test_what_does_not_fit_a_datagram_comes_over_tcp(system: SystemFiles) -> None:
    def large(asked: Asked) -> Iterable[bytes]:
        if asked.protocol == "udp":
            yield dns.answer(asked.query, [], truncated=True)
        else:
            yield dns.answer(asked.query, [Record(asked.name, "A", 60, dns.a(f"192.0.2.{at}")) for at in range(200)])

    async def scenario() -> None:
        async with serving(large) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            found = await resolver.resolve("many.test", ["A"])
            assert len(found.addresses) == 200
            assert found.answers[0].protocol == "tcp"

    asyncio.run(scenario())


@pytest.mark.parametrize("kinds", [["A"], ["AAAA", "A"]])
def test_a_name_that_does_not_exist(system: SystemFiles, kinds: list[str]) -> None:
    async def scenario() -> None:
        async with (
            serving(lambda asked: [dns.answer(asked.query, [], 3, authorities=[soa("test", 30)])]) as dns_server,
            Resolver(system=system, servers=[dns_server.server]) as resolver,
        ):
            for _ in range(2):
                with pytest.raises(NameUnknown, match="there is no such name"):
                    await resolver.resolve("nothing.test", kinds)
            assert len(dns_server.questions) == len(kinds)

    asyncio.run(scenario())


def test_an_absence_without_a_lifetime_is_asked_for_again(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with (
            serving(lambda asked: [dns.answer(asked.query, [], 3)]) as dns_server,
            Resolver(system=system, servers=[dns_server.server]) as resolver,
        ):
            for _ in range(2):
                with pytest.raises(NameUnknown):
                    await resolver.resolve("nothing.test", ["A"])
            assert len(dns_server.questions) == 2

    asyncio.run(scenario())


def test_a_refusal_carries_the_words_of_who_refused(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with (
            serving(lambda asked: [extended_error(dns.answer(asked.query, [], 3), 15, "known malware")]) as dns_server,
            Resolver(system=system, servers=[dns_server.server]) as resolver,
        ):
            with pytest.raises(NameRefused) as raised:
                await resolver.resolve("bad.test")
            assert raised.value.extended == "Blocked: known malware"
            assert "--server" in str(raised.value.hint)
            assert "known malware" in str(raised.value)

    asyncio.run(scenario())


def test_servers_that_fail_are_a_failure_and_not_an_absence(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with (
            serving(lambda asked: [dns.answer(asked.query, [], 2)]) as dns_server,
            Resolver(system=system, servers=[dns_server.server], query=QUICK) as resolver,
        ):
            with pytest.raises(ResolutionFailed, match="code 2") as raised:
                await resolver.resolve("broken.test")
            assert type(raised.value) is ResolutionFailed

    asyncio.run(scenario())


def test_silence_ends_in_time(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with (
            serving(lambda asked: []) as dns_server,
            Resolver(system=system, servers=[dns_server.server], query=QUICK) as resolver,
        ):
            with pytest.raises(NoAnswer, match=r"no answer in 0\.2 s"):
                await resolver.resolve("slow.test")

    asyncio.run(scenario())


def test_the_next_server_answers_for_one_that_is_down(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with serving(known) as dns_server:
            down = Server("127.0.0.1", 1)
            async with Resolver(system=system, servers=[down, dns_server.server]) as resolver:
                found = await resolver.resolve("www.good.test", ["A"])
                assert found.answers[0].server == str(dns_server.server)
                assert found.answers[0].troubles == ("127.0.0.1#1: Connection refused",)
                assert found.duration < 4

    asyncio.run(scenario())


def test_forged_answers_beside_the_true_one_are_dropped(system: SystemFiles) -> None:
    def forged(asked: Asked) -> Iterable[bytes]:
        true = next(iter(known(asked)))
        for at in range(1, 100):
            yield (int.from_bytes(true[:2], "big") ^ at).to_bytes(2, "big") + true[2:-4] + b"\6\6\6\6"
        yield true

    async def scenario() -> None:
        async with serving(forged) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            found = await resolver.resolve("www.good.test", ["A"])
            assert [address.address for address in found.addresses] == ["192.0.2.1"]

    asyncio.run(scenario())


def test_the_rest_of_a_chain_that_a_server_leaves_out_is_asked_for(system: SystemFiles) -> None:
    def partly(asked: Asked) -> Iterable[bytes]:
        number = int(asked.name[1])
        if number < 3:
            yield dns.answer(asked.query, [Record(asked.name, "CNAME", 30, dns.cname(f"n{number + 1}.test"))])
        else:
            yield from known(asked)

    async def scenario() -> None:
        async with serving(partly) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            found = await resolver.resolve("n1.test", ["A"])
            assert [alias.target for alias in found.aliases] == ["n2.test", "n3.test"]
            assert [(address.address, address.ttl) for address in found.addresses] == [("192.0.2.1", 30)]

    asyncio.run(scenario())


def test_an_endless_chain_ends(system: SystemFiles) -> None:
    def endless(asked: Asked) -> Iterable[bytes]:
        yield dns.answer(asked.query, [Record(asked.name, "CNAME", 30, dns.cname("x" + asked.name))])

    async def scenario() -> None:
        async with serving(endless) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            with pytest.raises(ResolutionFailed, match="more than 16 aliases"):
                await resolver.resolve("n.test", ["A"])
            assert len(dns_server.questions) == 16

    asyncio.run(scenario())


# The cache


def test_an_answer_is_kept_for_its_time(system: SystemFiles) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with (
            serving(known) as dns_server,
            Resolver(system=system, servers=[dns_server.server], clock=clock) as resolver,
        ):
            await resolver.resolve("www.good.test", ["A"])
            clock.now += 59
            again = await resolver.resolve("WWW.good.test.", ["A"])
            assert (again.answers[0].source, again.addresses[0].ttl) == ("cache", 1)
            clock.now += 1
            assert (await resolver.resolve("www.good.test", ["A"])).answers[0].source == "dns"
            assert len(dns_server.questions) == 2

    asyncio.run(scenario())


def test_an_expired_answer_serves_at_once_when_that_is_allowed(system: SystemFiles) -> None:
    async def scenario() -> None:
        clock = Clock()
        async with (
            serving(known) as dns_server,
            Resolver(system=system, servers=[dns_server.server], clock=clock) as resolver,
        ):
            await resolver.resolve("www.good.test", ["A"])
            clock.now += 61
            answers = [answer async for answer in resolver.stream("www.good.test", ["A"], expired="allow")]
            assert [str(answer.source) for answer in answers] == ["stale", "dns"]
            clock.now += 61
            stale = await resolver.resolve("www.good.test", ["A"], expired="allow")
            assert [address.source for address in stale.addresses] == ["stale"]
            clock.now += 86_400 + 61
            assert (await resolver.resolve("www.good.test", ["A"], expired="allow")).answers[0].source == "dns"

    asyncio.run(scenario())


def test_an_expired_answer_does_not_wait_for_the_fresh_one(system: SystemFiles) -> None:
    def once(asked: Asked) -> Iterable[bytes]:
        return [] if silent else known(asked)

    silent = False

    async def scenario() -> None:
        nonlocal silent
        clock = Clock()
        async with (
            serving(once) as dns_server,
            Resolver(system=system, servers=[dns_server.server], clock=clock) as resolver,
        ):
            await resolver.resolve("www.good.test", ["A"])
            clock.now += 61
            silent = True
            async with asyncio.timeout(4):  # a query is given five
                stale = await resolver.resolve("www.good.test", ["A"], expired="allow")
            assert stale.answers[0].source == "stale"

    asyncio.run(scenario())


def test_the_cache_is_bounded_and_forgets_the_least_used() -> None:
    from towpath.names.resolution import AnswerStatus, Source

    cache = AnswerCache(2, clock=lambda: 0.0)
    for name in ("one", "two"):
        cache.put(Answer(name, "A", AnswerStatus.UNKNOWN, Source.DNS, negative_ttl=9))
    assert cache.get("one", "A") is not None
    cache.put(Answer("three", "A", AnswerStatus.UNKNOWN, Source.DNS, negative_ttl=9))
    assert [cache.get(name, "A") is None for name in ("one", "two", "three")] == [False, True, False]
    cache.put(Answer("four", "A", AnswerStatus.FAILED, Source.DNS, negative_ttl=9))
    assert cache.get("four", "A") is None


def test_the_same_question_is_under_way_once(system: SystemFiles) -> None:
    async def scenario() -> None:
        async with serving(known) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            await asyncio.gather(*(resolver.resolve("www.good.test", ["A"]) for _ in range(20)))
            assert len(dns_server.questions) == 1

    asyncio.run(scenario())


# The system's files


def test_search_domains_are_tried_before_or_after_by_the_number_of_dots(tmp_path: Path) -> None:
    def corporate(asked: Asked) -> Iterable[bytes]:
        return known(asked) if asked.name.endswith("corp.test") else [dns.answer(asked.query, [], 3)]

    async def scenario() -> None:
        system = empty_system(tmp_path, "search other.test corp.test\noptions ndots:2\n")
        async with serving(corporate) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            assert (await resolver.resolve("wiki", ["A"])).name == "wiki.corp.test"
            assert dns_server.questions == ["A wiki.other.test", "A wiki.corp.test"]
            del dns_server.asked[:]
            assert (await resolver.resolve("a.b.wiki", ["A"])).name == "a.b.wiki.corp.test"
            assert dns_server.questions[0] == "A a.b.wiki"
            with pytest.raises(NameUnknown):
                await resolver.resolve("wiki.", ["A"])

    asyncio.run(scenario())


def test_the_hosts_file_comes_before_dns(tmp_path: Path) -> None:
    async def scenario() -> None:
        system = empty_system(tmp_path, hosts="192.0.2.7 www.good.test www\n")
        async with serving(known) as dns_server, Resolver(system=system, servers=[dns_server.server]) as resolver:
            found = await resolver.resolve("www", ["HTTPS", "AAAA", "A"])
            assert [(address.address, address.source) for address in found.addresses] == [("192.0.2.7", "hosts")]
            assert dns_server.questions == []

    asyncio.run(scenario())


def test_another_server_may_know_another_world(tmp_path: Path) -> None:
    def elsewhere(asked: Asked) -> Iterable[bytes]:
        yield dns.answer(asked.query, [Record(asked.name, "A", 60, dns.a("198.51.100.9"))])

    async def scenario() -> None:
        async with serving(known) as here, serving(elsewhere) as there:
            system = empty_system(tmp_path, "nameserver 192.0.2.1\n")
            servers = {"192.0.2.1": here.server, "192.0.2.2": there.server}
            from towpath.names.channel import Channel, dial

            async def to_loopback(server: Server, protocol: str) -> Channel:
                return await dial(servers[server.address], protocol)

            async with Resolver(system=system, dial=to_loopback) as resolver:
                assert (await resolver.resolve("www.good.test", ["A"])).addresses[0].address == "192.0.2.1"
                empty_system(tmp_path, "nameserver 192.0.2.2\n# moved\n")
                assert (await resolver.resolve("www.good.test", ["A"])).addresses[0].address == "198.51.100.9"

    asyncio.run(scenario())


def test_servers_take_turns_where_that_is_configured(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving(known) as one, serving(known) as two:
            system = empty_system(tmp_path, "options rotate\n")
            async with Resolver(system=system, servers=[one.server, two.server]) as resolver:
                for at in range(4):
                    await resolver.resolve(f"n{at}.test", ["A"])
            assert (one.questions, two.questions) == (["A n0.test", "A n2.test"], ["A n1.test", "A n3.test"])

    asyncio.run(scenario())


def test_names_in_mixed_case_are_answered_alike(system: SystemFiles) -> None:
    async def scenario() -> None:
        settings = QuerySettings(mixed_case=True)
        async with (
            serving(known) as dns_server,
            Resolver(system=system, servers=[dns_server.server], query=settings) as resolver,
        ):
            found = await resolver.resolve("a-long-enough-name.to-be-mixed.test", ["A"])
            assert found.answers[0].name == "a-long-enough-name.to-be-mixed.test"
            assert b"a-long-enough-name" not in dns_server.asked[0].query

    asyncio.run(scenario())


@pytest.mark.parametrize(("name", "kinds"), [("a..b", ["A"]), ("www.good.test", ["NONSENSE"]), ("www.good.test", [])])
def test_what_cannot_be_asked_is_misuse(system: SystemFiles, name: str, kinds: list[str]) -> None:
    async def scenario() -> None:
        async with Resolver(system=system) as resolver:
            with pytest.raises(Misuse):
                await resolver.resolve(name, kinds)

    asyncio.run(scenario())


def test_the_systems_own_resolver_has_the_same_interface() -> None:
    async def scenario() -> None:
        found = await SystemResolver().resolve("localhost", ["HTTPS", "A"])
        assert [(address.address, address.source) for address in found.addresses] == [("127.0.0.1", "getaddrinfo")]
        assert statuses(found.answers) == {"HTTPS": "empty", "A": "found"}
        with pytest.raises(NameUnknown):
            await SystemResolver().resolve("a..b", ["A"])

    asyncio.run(scenario())
