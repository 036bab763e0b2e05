"""DTLS 1.2 and TLS with a shared key beside OpenSSL's own client and server, each way."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.peers import need

from towpath.connection import Connection, Listener, Parameters
from towpath.protocols import Dtls, Lines, TlsPsk
from towpath.testing import Pki
from towpath.trust import Anchors

HOST = "www.example.com"
KEY = bytes(range(32))


@pytest.fixture(scope="module")
def pki() -> Pki:
    need("openssl")
    return Pki()


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.asynccontextmanager
async def openssl(*words: str) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec("openssl", *words, stdin=PIPE, stdout=PIPE, stderr=STDOUT)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until(process: Process, word: bytes) -> None:
    assert process.stdout is not None
    async for line in process.stdout:
        if word in line:
            return
    raise AssertionError(f"openssl never said {word!r}")


async def type_in(process: Process, line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    await process.stdin.drain()


@pytest.mark.parametrize("listens", [(), ("-listen",)], ids=["plain", "with cookies"])
def test_a_dtls_client_talks_to_openssl(pki: Pki, tmp_path: Path, listens: tuple[str, ...]) -> None:
    chain, key = pki.good(HOST).write(tmp_path)
    port = free_port(socket.SOCK_DGRAM)
    client = Parameters.dtls(server_name=HOST, anchors=Anchors.of(pki.root.certificate))
    words = ("-accept", f"127.0.0.1:{port}", "-cert", str(chain), "-key", str(key), "-cert_chain", str(chain))

    async def body() -> None:
        async with openssl("s_server", "-dtls1_2", *listens, *words, "-mtu", "1200") as server:
            await until(server, b"ACCEPT")
            async with Connection(f"127.0.0.1:{port}", client) as connection:
                details = connection.about(Dtls)
                assert details is not None
                assert details.version == "DTLSv1.2"
                assert details.trust is not None
                assert details.trust.accepted
                await connection.send(b"from us\n")
                await until(server, b"from us")
                await type_in(server, b"from them\n")
                assert (await connection.receive_message()).content == b"from them\n"

    run(body)


def test_a_dtls_server_talks_to_openssl(pki: Pki, tmp_path: Path) -> None:
    server = Parameters.dtls(identity=pki.good(HOST).write(tmp_path))

    async def body() -> None:
        async with Listener("127.0.0.1:0", server) as listener:
            words = ("-connect", str(listener.local), "-servername", HOST)
            async with openssl("s_client", "-dtls1_2", *words) as client, await listener.accept() as taken:
                await type_in(client, b"from them\n")
                assert (await taken.receive_message()).content == b"from them\n"
                await taken.send(b"from us\n")
                await until(client, b"from us")

    run(body)


def test_a_client_with_a_shared_key_talks_to_openssl(pki: Pki) -> None:
    port = free_port(socket.SOCK_STREAM)
    client = Parameters.tcp(framers=[TlsPsk(KEY, identity="player"), Lines()])
    words = ("-accept", f"127.0.0.1:{port}", "-nocert", "-psk", KEY.hex(), "-psk_identity", "player", "-tls1_2")

    async def body() -> None:
        async with openssl("s_server", *words) as server:
            await until(server, b"ACCEPT")
            async with Connection(f"127.0.0.1:{port}", client) as connection:
                await connection.send(b"from us")
                await until(server, b"from us")
                await type_in(server, b"from them\n")
                assert (await connection.receive_message()).content == b"from them"

    run(body)


def test_a_server_with_a_shared_key_talks_to_openssl(pki: Pki) -> None:
    server = Parameters.tcp(framers=[TlsPsk(lookup={"player": KEY}.get), Lines()])

    async def body() -> None:
        async with Listener("127.0.0.1:0", server) as listener:
            words = ("-connect", str(listener.local), "-psk", KEY.hex(), "-psk_identity", "player", "-tls1_2")
            async with openssl("s_client", *words) as client, await listener.accept() as taken:
                await type_in(client, b"from them\n")
                assert (await taken.receive_message()).content == b"from them"
                await taken.send(b"from us")
                await until(client, b"from us")

    run(body)
