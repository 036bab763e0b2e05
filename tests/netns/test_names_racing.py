"""Names and races in a little internet: a black-holed family, refusals, multicast on a real link."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator

import pytest
from tests.support.timing import best_of_several, within

from towpath.connection.racing import Candidate, Raced, RaceMemory, candidates_for, race
from towpath.errors import NameUnknown
from towpath.names import Resolver
from towpath.testing import Banner, Dns, Http, Lab, LabPlan

PLAN = (
    LabPlan()
    .host("client")
    .host("web", serves=[Http(names=("web.test",))])
    .host("broken", serves=[Banner(port=22, names=("git.test",))])
    .host("dns", serves=[Dns()])
    .record("www.web.test", "CNAME", "web.test")
    .record("www.web.test", "A", "203.0.113.9")
    .record("modern.test", "A", "198.51.100.99")
    .record("modern.test", "HTTPS", "1 . alpn=h2,h3")
    .record("half.test", "AAAA", "2001:db8:dead::1")
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A client, a web host that is broken now and then, and a name server."""
    with PLAN.record("half.test", "A", "198.51.100.3").start() as lab:
        yield lab


async def dial(candidate: Candidate) -> str:
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if candidate.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, (candidate.address, candidate.port))
    return candidate.address


async def one_race(resolver: Resolver, name: str, port: int, memory: RaceMemory) -> Raced[str]:
    return await race(candidates_for(resolver, name, port), dial, memory=memory, key=name)


def two_races(name: str, port: int) -> list[tuple[int, float, float, list[str]]]:
    """Family of the winner, time to ready of the winner's attempt, duration, and outcomes of two races in turn."""

    async def scenario() -> list[tuple[int, float, float, list[str]]]:
        memory = RaceMemory()
        async with Resolver() as resolver:
            found = [await one_race(resolver, name, port, memory) for _ in range(2)]
        return [
            (
                raced.candidate.version,
                next(attempt.duration for attempt in raced.attempts if attempt.outcome == "won"),
                raced.duration,
                [attempt.outcome for attempt in raced.attempts],
            )
            for raced in found
        ]

    return asyncio.run(scenario())


@best_of_several
def test_a_black_holed_family_costs_a_quarter_second_once_and_nothing_after(lab: Lab) -> None:
    rule = f"nft 'add table inet hole; add chain inet hole in {{ type filter hook input priority -300; }}; \
add rule inet hole in ip6 daddr {lab['web'].address6} tcp dport 80 drop'"
    lab["web"].run(["sh", "-c", rule], administrator=True, check=True)
    try:
        first, second = lab["client"].call(two_races, "web.test", 80)
    finally:
        lab["web"].run(["nft", "delete", "table", "inet", "hole"], administrator=True, check=True)
    assert first[0] == second[0] == 4
    assert first[3] == ["cancelled", "won"]
    # 250 ms and the round trip; the rest is this machine's own business with others.
    assert first[2] >= 0.25
    within(0.4, first[2])
    assert second[3] == ["won"]
    within(0.1, second[2])


def test_a_family_without_a_route_costs_nothing(lab: Lab) -> None:
    first, _ = lab["client"].call(two_races, "half.test", 80)
    assert (first[0], first[3][-1]) == (4, "won")


async def dial_until_answered(candidate: Candidate) -> str:
    """Ready means here: the server has answered. Over IPv6 it is never asked, as if a handshake hung."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if candidate.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as connection:
        await loop.sock_connect(connection, (candidate.address, candidate.port))
        if candidate.version == 6:
            await asyncio.Event().wait()
        await loop.sock_sendall(connection, b"GET / HTTP/1.0\r\n\r\n")
        return (await loop.sock_recv(connection, 100)).decode()


def test_the_server_sees_a_loser_as_a_connection_that_ends_before_any_data(lab: Lab) -> None:
    def until_answered() -> list[str]:
        async def scenario() -> list[str]:
            async with Resolver() as resolver:
                raced = await race(candidates_for(resolver, "web.test", 80), dial_until_answered)
                return [raced.result[:8], *(attempt.outcome for attempt in raced.attempts)]

        return asyncio.run(scenario())

    before = len(lab["web"].log)
    assert lab["client"].call(until_answered) == ["HTTP/1.1", "cancelled", "won"]
    seen = lab["web"].log[before:]
    assert [(":" in record.peer, record.received > 0) for record in seen] == [(True, False), (False, True)]


def resolve(lab: Lab, *words: str) -> tuple[int, str]:
    done = lab["client"].run([sys.executable, "-m", "towpath", "resolve", *words])
    return done.returncode, done.stdout + done.stderr


def test_the_command_shows_answers_chain_and_server(lab: Lab) -> None:
    code, text = resolve(lab, "www.web.test", "--type", "AAAA")
    assert code == 0
    assert "www.web.test is an alias of web.test" in text
    assert lab["web"].address6 in text
    assert lab["dns"].address4 in text


def test_the_command_gives_json_with_services_and_the_race(lab: Lab) -> None:
    code, text = resolve(lab, "modern.test", "--json", "--explain")
    found = json.loads(text)
    assert code == 0
    assert found["services"][0]["alpn"] == ["h2", "h3"]
    assert found["order"][0]["address"] == "198.51.100.99"
    assert found["race"] == [{"after": 0.0, "candidate": "198.51.100.99:443"}]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["nothing.test"], 1),
        (["web.test", "--type", "MX"], 1),
        (["web.test", "--server", "198.51.100.250", "--type", "A"], 2),
        (["web.test", "--tcp"], 0),
        (["web.test", "--system"], 0),
        (["web.test", "--system", "--tcp"], 125),
    ],
)
def test_the_exit_code_says_what_came_of_it(lab: Lab, words: list[str], code: int) -> None:
    found, text = resolve(lab, *words)
    assert found == code, text


def test_a_name_of_the_link_is_never_asked_of_a_server(lab: Lab) -> None:
    def ask() -> str:
        async def scenario() -> str:
            async with Resolver() as resolver:
                with pytest.raises(NameUnknown):
                    await resolver.resolve("nobody.local", ["A"])
            return "unknown"

        return asyncio.run(scenario())

    assert lab["client"].call(ask) == "unknown"
    assert not any("local" in question for seen in lab["dns"].log for question in seen.requests)
