"""Connections beside nginx as it comes from Debian: streams, TLS, client certificates, WebSocket through its proxy."""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.peers import need

from towpath.connection import FINAL, Connection, Listener, Parameters
from towpath.errors import TowpathError
from towpath.protocols import Tls, WebSocket
from towpath.testing import Pki
from towpath.testing.pki import Recipe
from towpath.trust import Anchors

HOST = "www.example.com"
REQUEST = f"GET /page.txt HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode()


@pytest.fixture(scope="module")
def pki() -> Pki:
    need("nginx")
    return Pki()


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def nginx(folder: Path, server: str) -> AsyncIterator[int]:
    """nginx with one server, in the words of its settings; gives its port."""
    port = free_port()
    (folder / "page.txt").write_bytes(b"0123456789" * 20_000)
    settings = folder / "nginx.conf"
    paths = " ".join(f"{kind}_temp_path {folder};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    settings.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log stderr notice;\n"
        f"events {{}}\nhttp {{ access_log off; {paths}\n"
        f"server {{ listen 127.0.0.1:{port} {server} root {folder}; }} }}\n"
    )
    process = await asyncio.create_subprocess_exec(
        *("nginx", "-e", "stderr", "-c", str(settings)), stderr=PIPE, stdout=DEVNULL, env={**os.environ}
    )
    assert process.stderr is not None
    said = b""
    try:
        async for line in process.stderr:
            said += line
            if b"getrlimit" in line:  # the last that it says before it serves
                break
        else:
            raise AssertionError(said.decode())
        draining = asyncio.create_task(process.stderr.read())
        yield port
    finally:
        process.kill()
        await process.wait()
    await draining


def tls(pki: Pki, folder: Path, more: str = "") -> str:
    chain, key = pki.good(HOST).write(folder)
    return f"ssl; ssl_certificate {chain}; ssl_certificate_key {key}; {more}"


async def page(port: int, parameters: Parameters) -> tuple[bytes, Connection]:
    async with Connection(f"127.0.0.1:{port}", parameters) as connection:
        await connection.send(REQUEST)
        return (await connection.receive_message()).content, connection


def test_a_page_comes_whole_and_its_end_is_seen(pki: Pki, tmp_path: Path) -> None:
    async def body() -> None:
        async with nginx(tmp_path, ";") as port:
            answer, _ = await page(port, Parameters.tcp())
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert answer.endswith(b"0123456789" * 20_000)

    run(body)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_tls_is_agreed_judged_and_resumed(pki: Pki, tmp_path: Path, version: str) -> None:
    async def body() -> None:
        server = tls(pki, tmp_path, f"ssl_protocols {version}; ssl_session_cache shared:s:1m;")
        parameters = Parameters.tls(server_name=HOST, anchors=Anchors.of(pki.root.certificate), alpn=["http/1.1"])
        async with nginx(tmp_path, server) as port:
            resumed = []
            for _ in range(2):
                answer, connection = await page(port, parameters)
                assert answer.endswith(b"0123456789" * 20_000)
                details = connection.about(Tls)
                assert details is not None
                assert (details.version, details.alpn) == (version, "http/1.1")
                resumed.append(details.resumed)
        assert resumed == [False, True]

    run(body)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_of_two_identities_the_one_is_shown_whose_authority_nginx_names(pki: Pki, tmp_path: Path, version: str) -> None:
    stranger = pki.new_root("somebody else's root")
    theirs = stranger.issue(Recipe(names=("client@example.com",), lasts=timedelta(days=180))).write(tmp_path, "theirs")
    ours = pki.client().write(tmp_path, "ours")
    root = tmp_path / "root.pem"
    root.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))

    async def body() -> None:
        demand = f"ssl_protocols {version}; ssl_client_certificate {root}; ssl_verify_client on; ssl_verify_depth 3;"
        parameters = Parameters.tls(
            server_name=HOST, anchors=Anchors.of(pki.root.certificate), identities=[theirs, ours]
        )
        async with nginx(tmp_path, tls(pki, tmp_path, demand)) as port:
            answer, connection = await page(port, parameters)
            assert answer.startswith(b"HTTP/1.1 200 ")
            details = connection.about(Tls)
            assert details is not None
            assert details.acceptable == (pki.root.certificate.subject.rfc4514_string(),)
            anonymous = Parameters.tls(server_name=HOST, anchors=Anchors.of(pki.root.certificate))
            with_none, _ = await page(port, anonymous)
            assert b"No required SSL certificate was sent" in with_none

    run(body)


def test_websocket_goes_through_its_proxy(pki: Pki, tmp_path: Path) -> None:
    async def body() -> None:
        async with Listener("127.0.0.1:0", Parameters.websocket(secure=False)) as listener:

            async def echo() -> None:
                async with await listener.accept() as behind:
                    async for message in behind:
                        await behind.send(message)

            port = str(listener.local).rpartition(":")[2]
            proxy = (
                f"location / {{ proxy_pass http://127.0.0.1:{port}; proxy_http_version 1.1; proxy_set_header Upgrade "
                '$http_upgrade; proxy_set_header Connection "upgrade"; }'
            )
            async with nginx(tmp_path, tls(pki, tmp_path, proxy)) as front:
                parameters = Parameters.websocket(tls=Tls(server_name=HOST, anchors=Anchors.of(pki.root.certificate)))
                echoing = asyncio.create_task(echo())
                async with Connection(f"wss://127.0.0.1:{front}/feed", parameters) as connection:
                    await connection.send(WebSocket.text("through a proxy"))
                    assert (await connection.receive_message()).content == b"through a proxy"
                    await connection.send(context=FINAL)
                    with pytest.raises(TowpathError):
                        await connection.receive_message()
                await echoing

    run(body)
