"""The context in the hands of HTTP clients: they connect through it, and their errors carry our reason."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from tests.unit.trust.tls_server import server_context, serving

from towpath.testing.pki import Identity, Pki, Recipe
from towpath.trust import Anchors, Policy
from towpath.trust.context import HandshakeRefused, TrustContext, ssl_context

PKI = Pki()
GOOD = PKI.good("127.0.0.1")
NO_USE = PKI.intermediate.issue(Recipe(names=("127.0.0.1",), usages=None))

Get = Callable[[str, TrustContext], Coroutine[None, None, int]]


async def with_aiohttp(url: str, context: TrustContext) -> int:
    aiohttp = pytest.importorskip("aiohttp")
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as answer:
        return int(answer.status)


async def with_httpx2(url: str, context: TrustContext) -> int:
    httpx2 = pytest.importorskip("httpx2")
    async with httpx2.AsyncClient(verify=context, trust_env=False) as client:
        return int((await client.get(url)).status_code)


async def with_httpx2_blocking(url: str, context: TrustContext) -> int:
    httpx2 = pytest.importorskip("httpx2")

    def get() -> int:
        with httpx2.Client(verify=context, trust_env=False) as client:
            return int(client.get(url).status_code)

    return await asyncio.to_thread(get)


def chain_of(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await writer.drain()


def ask(get: Get, identity: Identity, folder: Path) -> int:
    context = ssl_context(Policy.apple, Anchors.of(PKI.root.certificate))
    with serving(server_context(identity, folder), then=http) as port:
        return asyncio.run(get(f"https://127.0.0.1:{port}/", context))


@pytest.mark.parametrize("get", [with_aiohttp, with_httpx2, with_httpx2_blocking])
def test_a_good_server_answers_through_the_client(get: Get, tmp_path: Path) -> None:
    assert ask(get, GOOD, tmp_path) == 200


@pytest.mark.parametrize("get", [with_aiohttp, with_httpx2, with_httpx2_blocking])
def test_a_refused_server_gives_the_clients_error_with_our_reason(get: Get, tmp_path: Path) -> None:
    with pytest.raises(Exception, match="apple.usage") as caught:
        ask(get, NO_USE, tmp_path)
    assert any(isinstance(error, HandshakeRefused) for error in chain_of(caught.value))
