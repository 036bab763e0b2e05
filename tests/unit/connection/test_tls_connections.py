"""TLS over connections: who is accepted, what is agreed, which alert says why not."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.unit.trust.tls_server import server_context

from towpath.connection import FINAL, Connection, Listener, Parameters
from towpath.errors import ConnectionFailed, Misuse, PeerViolation
from towpath.protocols import Lines, Tls
from towpath.testing import Pki
from towpath.trust import Anchors, Policy, TrustRefused
from towpath.trust.identities import ClientPolicy

HOST = "www.example.com"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(100))
    await reader.read()
    writer.close()


@asynccontextmanager
async def serving(context: ssl.SSLContext, talk: Talk = echo) -> AsyncIterator[int]:
    """A TLS server of the standard library; gives its port."""
    async with await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


def anchors(pki: Pki) -> Anchors:
    return Anchors.of(pki.root.certificate)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_what_was_agreed_stands_in_the_report(pki: Pki, tmp_path: Path, version: ssl.TLSVersion) -> None:
    server = server_context(pki.good(HOST), tmp_path)
    server.set_alpn_protocols(["news"])
    parameters = Parameters.tls(
        server_name=HOST, anchors=anchors(pki), alpn=["other", "news"], maximum=version, key_log=tmp_path / "keys"
    )

    async def body() -> None:
        async with serving(server) as port, Connection(f"127.0.0.1:{port}", parameters) as connection:
            await connection.send(b"hello")
            assert await connection.receive(5) == b"hello"
            details = connection.about(Tls)
            assert details is not None
            assert details.trust is not None
            assert details.trust.accepted
            assert (details.version, details.alpn) == (version.name.replace("_", "."), "news")
            (handshake,) = connection.report.handshakes
            assert handshake.protocol == "Tls"
            assert handshake.seconds > 0
            assert "CLIENT" in (tmp_path / "keys").read_text()

    run(body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("broken", "alert"),
    [("expired", "CERTIFICATE_EXPIRED"), ("untrusted-root", "UNKNOWN_CA"), ("no-use", "CERTIFICATE_UNKNOWN")],
)
def test_a_refused_server_is_told_why(
    pki: Pki, tmp_path: Path, version: ssl.TLSVersion, broken: str, alert: str
) -> None:
    server = server_context(pki.broken(broken).identity, tmp_path)
    parameters = Parameters.tls(server_name=HOST, anchors=anchors(pki), maximum=version)

    async def body() -> None:
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            peer = server.wrap_bio(incoming, outgoing, server_side=True)
            try:
                while data := await reader.read(1 << 16):
                    incoming.write(data)
                    try:
                        peer.do_handshake()
                        peer.read(1)
                    except ssl.SSLWantReadError:
                        pass
                    writer.write(outgoing.read())
                told.set_result("no alert")
            except ssl.SSLError as error:
                told.set_result(str(error.reason))
            writer.close()

        async with await asyncio.start_server(accept, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            connection = Connection(f"127.0.0.1:{port}", parameters)
            with pytest.raises(TrustRefused) as caught:
                await connection.ready()
            assert caught.value.result.failure is not None
            connection.cancel()
            assert (await told).endswith(alert)

    run(body)


def test_sessions_are_resumed_with_the_verdict_of_the_full_handshake(pki: Pki, tmp_path: Path) -> None:
    parameters = Parameters.tls(server_name=HOST, anchors=anchors(pki))
    resumed = []

    async def body() -> None:
        async with serving(server_context(pki.good(HOST), tmp_path)) as port:
            for _ in range(3):
                async with Connection(f"127.0.0.1:{port}", parameters) as connection:
                    await connection.send(b"x")
                    await connection.receive()
                    details = connection.about(Tls)
                    assert details is not None
                    assert details.trust is not None
                    assert details.trust.accepted
                    resumed.append(details.resumed)

    run(body)
    assert resumed == [False, True, True]


@pytest.mark.parametrize("shows", [True, False])
def test_a_listener_demands_certificates_of_its_clients(pki: Pki, tmp_path: Path, shows: bool) -> None:
    files = pki.good(HOST).write(tmp_path, "server")
    mine = pki.client().write(tmp_path, "client")
    clients = ClientPolicy(anchors(pki))
    server = Parameters.tls(identity=files, clients=clients, framers=[Lines()])
    client = Parameters.tls(server_name=HOST, anchors=anchors(pki), identity=mine if shows else None, framers=[Lines()])

    async def body() -> None:
        async with Listener("127.0.0.1:0", server) as listener:
            connection = Connection(str(listener.local), client)
            connection.start()
            taken = await listener.accept()
            if not shows:
                with pytest.raises(ConnectionFailed, match="certificate"):
                    await taken.ready()
                taken.cancel()
                connection.cancel()
                return
            async with taken, connection:
                await connection.send(b"who am I?")
                assert (await taken.receive_message()).content == b"who am I?"
                details = taken.about(Tls)
                assert details is not None
                assert details.trust is not None
                assert details.trust.accepted

    run(body)


def test_an_end_without_goodbye_is_no_end(pki: Pki, tmp_path: Path) -> None:
    """RFC 8446 section 6.1: a stream that was cut must not pass for one that is whole."""

    async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"half")
        await writer.drain()
        await reader.read(1)
        writer.transport.get_extra_info("socket").shutdown(1)
        await reader.read()

    async def body() -> None:
        async with serving(server_context(pki.good(HOST), tmp_path), cut) as port:
            connection = Connection(f"127.0.0.1:{port}", Parameters.tls(server_name=HOST, anchors=anchors(pki)))
            assert await connection.receive() == b"half"
            await connection.send(b"x")
            with pytest.raises(PeerViolation) as caught:
                await connection.receive()
            assert caught.value.fault == "tls-truncated"
            connection.cancel()

    run(body)


def test_a_peer_that_speaks_no_tls_is_named_in_plain_words(pki: Pki) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"SSH-2.0-news\r\n")
        await reader.read()
        writer.close()

    async def body() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            connection = Connection(f"127.0.0.1:{port}", Parameters.tls(server_name=HOST, anchors=anchors(pki)))
            with pytest.raises(ConnectionFailed, match="wrong version number"):
                await connection.ready()
            connection.cancel()

    run(body)


def test_half_of_a_conversation_may_end_before_the_other(pki: Pki, tmp_path: Path) -> None:
    server = Parameters.tls(identity=pki.good(HOST).write(tmp_path))
    client = Parameters.tls(server_name=HOST, anchors=anchors(pki), policy=Policy.apple)

    async def body() -> None:
        async with Listener("127.0.0.1:0", server) as listener:
            connection = Connection(str(listener.local), client)
            connection.start()
            async with await listener.accept() as taken, connection:
                await connection.send(b"all of it", context=FINAL)
                assert (await taken.receive_message()).content == b"all of it"
                await taken.send(b"thanks", context=FINAL)
                assert (await connection.receive_message()).content == b"thanks"

    run(body)


@pytest.mark.parametrize("parameters", [Parameters.tls(), Parameters.websocket(), Parameters.quic(alpn=["x"])])
def test_a_listener_without_a_certificate_is_a_mistake_at_once(parameters: Parameters) -> None:
    with pytest.raises(Misuse, match="shows a certificate, and none was given"):
        Listener("127.0.0.1:0", parameters)
