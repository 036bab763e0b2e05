"""`towpath resolve` beside a server that gives reasons."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from tests.support.dns_answers import Asked, extended_error, serving

from towpath.wire import dns
from towpath.wire.dns import Record


def answers(asked: Asked) -> list[bytes]:
    if asked.name == "bad.test":
        return [extended_error(dns.answer(asked.query, [], 5), 15, "known\x1b[31m malware")]
    if asked.name == "broken.test":
        return [dns.answer(asked.query, [], 2)]
    if asked.name == "4.3.2.1.in-addr.arpa":
        return [dns.answer(asked.query, [Record(asked.name, asked.kind, 9, dns.cname("host.test"))])]
    if asked.kind == "TXT":
        return [dns.answer(asked.query, [Record(asked.name, "TXT", 9, b"\5words")])]
    if asked.kind == "TYPE4711":
        return [dns.answer(asked.query, [Record(asked.name, 4711, 9, b"\1\2")])]
    return [dns.answer(asked.query, [], 3)]


def resolve(*words: str) -> tuple[int, str, list[str]]:
    """The exit code, what was printed, and by which protocols the server was asked."""

    async def scenario() -> tuple[int, str, list[str]]:
        async with serving(answers) as server:
            where = f"127.0.0.1#{server.server.port}"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "towpath", "resolve", *words, "--server", where),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            assert process.returncode is not None
            return process.returncode, output.decode(), [asked.protocol for asked in server.asked]

    return asyncio.run(scenario())


def test_a_refusal_shows_the_resolvers_reason_and_cannot_steer_the_terminal() -> None:
    code, text, _ = resolve("bad.test")
    assert code == 2
    assert "Blocked: known\N{REPLACEMENT CHARACTER}[31m malware" in text
    assert "\x1b" not in text


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["broken.test"], 2, "answered with code 2"),
        (["nothing.test"], 1, "there is no such name"),
        (["some.test", "--type", "TXT"], 0, '"words"'),
        (["some.test", "--type", "type4711"], 0, "\\# 2 0102"),
        (["1.2.3.4", "--type", "PTR"], 0, "host.test"),
    ],
)
def test_what_is_printed(words: list[str], code: int, said: str) -> None:
    found, text, _ = resolve(*words)
    assert found == code
    assert said in text


def test_over_tcp_no_datagram_is_sent() -> None:
    _, _, protocols = resolve("some.test", "--type", "TXT", "--tcp")
    assert protocols == ["tcp"]


def test_json_has_the_error_and_its_reasons() -> None:
    code, text, _ = resolve("bad.test", "--type", "A", "--json")
    found = json.loads(text)
    assert code == 2
    assert "a resolver refuses to answer" in found["error"]
    assert found["answers"][0]["extended_errors"][0]["code"] == 15
    assert found["answers"][0]["status"] == "refused"


def test_servers_side_by_side_are_compared() -> None:
    async def scenario() -> tuple[int, str]:
        def other(asked: Asked) -> list[bytes]:
            return [dns.answer(asked.query, [Record(asked.name, "TXT", 5, b"\5other")])]

        async with serving(answers) as one, serving(other) as two:
            words = [f"--server=127.0.0.1#{server.server.port}" for server in (one, two)]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "towpath", "dns", "query", "some.test", "--type", "TXT", "--json"),
                *("--compare", *words),
                stdout=asyncio.subprocess.PIPE,
            )
            output, _ = await process.communicate()
            assert process.returncode is not None
            return process.returncode, output.decode()

    code, text = asyncio.run(scenario())
    found = json.loads(text)
    assert code == 1
    assert found["agree"] is False
    assert [one["answers"][0]["records"][0]["data"] for one in found["servers"]] == ['"words"', '"other"']


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("nowhere", "is not an address"),
        ("gopher://192.0.2.1", "no way to ask a DNS server"),
        ("tls://192.0.2.1/x", "only https has a path"),
    ],
)
def test_a_server_that_is_none_is_named(server: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "towpath", "resolve", "some.test", "--server", server], capture_output=True, text=True
    )
    assert done.returncode == 125
    assert said in done.stderr
    assert "Traceback" not in done.stderr
