"""The race on asyncio, and candidates from real answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest
from tests.support.dns_answers import Asked, serving, soa

from towpath.connection.racing import (
    Candidate,
    Candidates,
    RaceFailed,
    RaceMemory,
    RaceSettings,
    candidates_for,
    kinds_for,
    literal,
    race,
)
from towpath.errors import NameUnknown
from towpath.names import Resolver
from towpath.path import PathMonitor
from towpath.testing import NetworkTwin
from towpath.wire import dns
from towpath.wire.dns import Record

ONE, TWO, THREE = (Candidate(f"192.0.2.{at}", 443) for at in (1, 2, 3))
QUICK = RaceSettings(attempt_delay=0.01)


def test_losers_are_cancelled_and_stand_in_the_report() -> None:
    async def scenario() -> None:
        cancelled = asyncio.Event()

        async def dial(candidate: Candidate) -> str:
            if candidate == ONE:
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.set()
            if candidate == TWO:
                raise ConnectionRefusedError(111, "Connection refused")
            return candidate.address

        raced = await race(literal(ONE, TWO, THREE), dial, settings=QUICK)
        assert (raced.result, raced.candidate) == ("192.0.2.3", THREE)
        assert [attempt.outcome for attempt in raced.attempts] == ["cancelled", "failed", "won"]
        assert isinstance(raced.attempts[1].error, ConnectionRefusedError)
        assert cancelled.is_set()

    asyncio.run(scenario())


def test_when_all_fail_the_error_names_every_attempt() -> None:
    async def dial(candidate: Candidate) -> str:
        raise ConnectionRefusedError(111, "Connection refused")

    async def scenario() -> None:
        with pytest.raises(RaceFailed) as raised:
            await race(literal(ONE, TWO), dial)
        assert str(raised.value) == "192.0.2.1:443: Connection refused; 192.0.2.2:443: Connection refused"
        assert [attempt.candidate for attempt in raised.value.attempts] == [ONE, TWO]
        assert raised.value.errno == 111
        assert raised.value.hint == "towpath path 192.0.2.1 says which way it would go"

    asyncio.run(scenario())


def test_who_is_ready_in_the_same_moment_and_lost_is_discarded() -> None:
    async def scenario() -> None:
        gate = asyncio.Event()
        discarded: list[str] = []
        begun = 0

        async def dial(candidate: Candidate) -> str:
            nonlocal begun
            begun += 1
            if begun == 2:
                gate.set()
            await gate.wait()
            return candidate.address

        raced = await race(literal(ONE, TWO), dial, settings=QUICK, discard=discarded.append)
        assert sorted([raced.result, *discarded]) == ["192.0.2.1", "192.0.2.2"]

    asyncio.run(scenario())


def test_a_cancelled_race_cancels_its_dials_and_its_resolving() -> None:
    async def scenario() -> None:
        ended: list[str] = []
        begun = asyncio.Event()

        async def resolving() -> AsyncIterator[Candidates]:
            try:
                yield Candidates((ONE,), frozenset({"A"}))
                await asyncio.Event().wait()
            finally:
                ended.append("resolving")

        async def dial(candidate: Candidate) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.append("dial")
            return ""

        task = asyncio.create_task(race(resolving(), dial))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert sorted(ended) == ["dial", "resolving"]

    asyncio.run(scenario())


def test_the_family_that_failed_is_not_tried_first_again() -> None:
    async def scenario() -> None:
        memory = RaceMemory()

        async def dial(candidate: Candidate) -> str:
            if candidate.version == 6:
                raise OSError(101, "Network is unreachable")
            return candidate.address

        both = Candidate("::1", 443), Candidate("127.0.0.1", 443)
        first = await race(literal(*both), dial, memory=memory, key="good.test")
        second = await race(literal(*both), dial, memory=memory, key="good.test")
        assert [attempt.candidate.version for attempt in first.attempts] == [6, 4]
        assert [attempt.candidate.version for attempt in second.attempts] == [4]

    asyncio.run(scenario())


# Candidates of a name


def records(*found: Record) -> dict[tuple[str, str], list[Record]]:
    by_question: dict[tuple[str, str], list[Record]] = {}
    for record in found:
        by_question.setdefault((record.name, str(record.type)), []).append(record)
    return by_question


def of(name: str, kind: str, data: bytes) -> Record:
    return Record(name, kind, 60, data)


async def last_candidates(zone: dict[tuple[str, str], list[Record]], port: int = 443) -> tuple[list[str], list[str]]:
    """The candidates once everything is known, and the questions that were asked."""

    def script(asked: Asked) -> Iterable[bytes]:
        found = zone.get((asked.name, asked.kind), [])
        yield dns.answer(asked.query, found, authorities=[] if found else [soa("test", 60)])

    async with serving(script) as server, Resolver(servers=[server.server]) as resolver:
        known: Candidates | None = None
        resolving = candidates_for(resolver, "www.good.test", port, alpn=["h2", "http/1.1"], quic=["h3"])
        async for known in resolving:
            assert known.problem is None
        assert known is not None
        assert not known.awaited
        return [f"{found} {'+'.join(found.alpn)}" for found in known.found], server.questions


BOTH = (
    of("www.good.test", "A", dns.a("192.0.2.1")),
    of("www.good.test", "AAAA", dns.aaaa("2001:db8::1")),
)


@pytest.mark.parametrize(
    ("zone", "expected"),
    [
        (
            records(of("www.good.test", "A", dns.a("192.0.2.1"))),
            ["192.0.2.1:443 h2+http/1.1"],
        ),
        (
            records(
                of("www.good.test", "A", dns.a("192.0.2.1")),
                of("www.good.test", "HTTPS", dns.https(1, alpn=["h3", "h2"])),
            ),
            ["192.0.2.1:443 by quic h3", "192.0.2.1:443 h2+http/1.1", "192.0.2.1:443 h2+http/1.1"],
        ),
        (
            records(
                of("www.good.test", "HTTPS", dns.https(1, "svc.good.test", alpn=["h2"], ipv4hint=["192.0.2.66"])),
                of("svc.good.test", "A", dns.a("192.0.2.2")),
            ),
            ["192.0.2.2:443 h2+http/1.1"],
        ),
        (
            records(
                of("www.good.test", "HTTPS", dns.https(0, "alias.test")),
                of("alias.test", "A", dns.a("192.0.2.3")),
            ),
            ["192.0.2.3:443 h2+http/1.1"],
        ),
        (
            records(
                of("www.good.test", "A", dns.a("192.0.2.1")),
                of("www.good.test", "HTTPS", b"\0\1\0" + b"\0\1\0\x04\x03foo" + b"\0\2\0\0"),
            ),
            ["192.0.2.1:443 h2+http/1.1"],
        ),
    ],
    ids=["no-binding", "quic-and-tcp", "target-and-hint-replaced", "alias", "no-protocol-in-common"],
)  # fmt: skip
def test_candidates_are_what_services_and_addresses_say(
    zone: dict[tuple[str, str], list[Record]], expected: list[str]
) -> None:
    found, _ = asyncio.run(last_candidates(zone))
    assert found == expected


def test_another_port_is_part_of_the_services_name() -> None:
    _, questions = asyncio.run(last_candidates(records(*BOTH), 8443))
    assert set(questions) == {"HTTPS _8443._https.www.good.test", "AAAA www.good.test", "A www.good.test"}


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        (["192.0.2.9/24"], ("HTTPS", "A")),
        (["2001:db8::9/64"], ("HTTPS", "AAAA")),
        (["192.0.2.9/24", "2001:db8::9/64"], ("HTTPS", "AAAA", "A")),
        ([], ("HTTPS", "AAAA", "A")),
    ],
)
def test_only_families_that_the_path_supports_are_asked_for(addresses: list[str], expected: tuple[str, ...]) -> None:
    twin = NetworkTwin()
    twin.add_link("card")
    for address in addresses:
        twin.add_address("card", address)
        twin.add_default_route("card", "2001:db8::1" if ":" in address else "192.0.2.1")
    assert kinds_for(PathMonitor(network=twin).current()) == expected


@pytest.mark.parametrize("host", ["192.0.2.7", "fe80::1%lo"])
def test_an_address_is_its_own_candidate(host: str) -> None:
    async def scenario() -> list[Candidates]:
        async with Resolver(servers=[]) as resolver:
            return [known async for known in candidates_for(resolver, host, 443, alpn=["h2"])]

    assert asyncio.run(scenario()) == [Candidates((Candidate(host, 443, "tcp", ("h2",), 1),))]


def test_expired_answers_begin_a_race_at_once_and_fresh_ones_replace_them() -> None:
    now = 0.0

    async def scenario() -> list[tuple[str, list[str], bool]]:
        nonlocal now
        zone = {"A": [of("www.good.test", "A", dns.a("192.0.2.1"))]}

        def script(asked: Asked) -> Iterable[bytes]:
            yield dns.answer(asked.query, zone.get(asked.kind, []))

        async with serving(script) as server, Resolver(servers=[server.server], clock=lambda: now) as resolver:
            await resolver.resolve("www.good.test", ["A"])
            now = 61.0
            zone["A"] = [of("www.good.test", "A", dns.a("192.0.2.2"))]
            resolving = candidates_for(resolver, "www.good.test", 443, kinds=["A"], expired="allow")
            return [
                ("+".join(found.address for found in known.found), sorted(known.awaited), known.renewing)
                async for known in resolving
            ]

    assert asyncio.run(scenario()) == [("192.0.2.1", [], True), ("192.0.2.2", [], False)]


def test_a_name_that_does_not_exist_is_said_so() -> None:
    async def scenario() -> None:
        async with (
            serving(lambda asked: [dns.answer(asked.query, [], 3)]) as server,
            Resolver(servers=[server.server]) as resolver,
        ):

            async def dial(candidate: Candidate) -> str:
                raise AssertionError

            with pytest.raises(NameUnknown):
                await race(candidates_for(resolver, "nothing.test", 443), dial)

    asyncio.run(scenario())
