"""Contexts over real handshakes on loopback: asyncio, blocking sockets, and the seam to other libraries."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from towpath.errors import PeerViolation
from towpath.testing.pki import CLIENT, Identity, Pki, Recipe
from towpath.trust import Anchors, Evidence, Policy, TrustRefused, evaluate
from towpath.trust.context import HandshakeRefused, ssl_context
from towpath.trust.context import server_context as trust_server_context
from towpath.trust.handshake import Alert, Presented, alert_for, judge
from towpath.trust.identities import ClientPolicy

HOST = "www.example.com"


def server_context(identity: Identity, folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(*identity.write(folder))
    return context


@asynccontextmanager
async def served(identity: Identity, folder: Path, heard: list[BaseException | None]) -> AsyncIterator[int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_context(identity, folder))
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: heard.append(context.get("exception")))
    async with server:
        yield server.sockets[0].getsockname()[1]


async def exchange(port: int, context: ssl.SSLContext) -> tuple[bytes, object]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=HOST)
    writer.write(b"over tls")
    answer = await reader.read(100)
    trust = writer.get_extra_info("ssl_object").trust
    writer.close()
    return answer, trust


def test_asyncio_connects_and_the_verdict_is_on_the_ssl_object(pki: Pki, anchors: Anchors, tmp_path: Path) -> None:
    async def run() -> None:
        async with served(pki.good(), tmp_path, []) as port:
            answer, trust = await exchange(port, ssl_context(Policy.apple, anchors))
            assert answer == b"over tls"
            assert getattr(trust, "accepted")  # noqa: B009
            assert len(getattr(trust, "path")) == 3  # noqa: B009

    asyncio.run(run())


@pytest.mark.parametrize(
    "name",
    [
        "expired",
        "wrong-name",
        "common-name-only",
        "no-use",
        "900-days",
        "rsa-1024",
        "missing-intermediate",
        "self-signed",
    ],
)
def test_a_broken_server_ends_the_handshake_with_our_reason(
    pki: Pki, anchors: Anchors, tmp_path: Path, name: str
) -> None:
    broken = pki.broken(name)

    async def run() -> None:
        async with served(broken.identity, tmp_path, []) as port:
            with pytest.raises(HandshakeRefused) as caught:
                await exchange(port, ssl_context(Policy.apple, anchors))
            assert caught.value.failure is not None
            assert caught.value.failure.id == broken.rule
            assert caught.value.hint
            assert isinstance(caught.value, ssl.SSLCertVerificationError)

    asyncio.run(run())


@contextmanager
def served_blocking(identity: Identity, folder: Path) -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    context = server_context(identity, folder)

    def accept() -> None:
        plain, _ = listener.accept()
        try:
            with context.wrap_socket(plain, server_side=True) as secure:
                secure.recv(1)
        except OSError:
            plain.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


@pytest.mark.parametrize(("name", "rule"), [("good", ""), ("no-use", "apple.usage"), ("expired", "x509.validity")])
def test_blocking_sockets_are_judged_too(pki: Pki, anchors: Anchors, tmp_path: Path, name: str, rule: str) -> None:
    identity = pki.good() if name == "good" else pki.broken(name).identity
    context = ssl_context(Policy.apple, anchors)
    with served_blocking(identity, tmp_path) as port, socket.create_connection(("127.0.0.1", port)) as plain:
        if not rule:
            with context.wrap_socket(plain, server_hostname=HOST) as secure:
                assert secure.trust.accepted  # type: ignore[attr-defined]
            return
        with pytest.raises(HandshakeRefused, match=rule):
            context.wrap_socket(plain, server_hostname=HOST)


@pytest.mark.parametrize(
    ("name", "alert"),
    [
        ("missing-intermediate", Alert.UNKNOWN_CA),
        ("expired", Alert.CERTIFICATE_EXPIRED),
        ("wrong-name", Alert.BAD_CERTIFICATE),
        ("client-use", Alert.UNSUPPORTED_CERTIFICATE),
        ("must-staple", Alert.BAD_CERTIFICATE_STATUS_RESPONSE),
        ("no-use", Alert.CERTIFICATE_UNKNOWN),
    ],
)
def test_a_refusal_has_the_alert_that_fits(pki: Pki, anchors: Anchors, name: str, alert: Alert) -> None:
    failure = evaluate(pki.broken(name).identity.chain, HOST, Policy.apple, pki.at, anchors).failure
    assert failure is not None
    assert alert_for(failure) is alert


def test_pyopenssl_gives_chain_and_staple(pki: Pki, anchors: Anchors, tmp_path: Path) -> None:
    SSL = pytest.importorskip("OpenSSL.SSL")
    identity = pki.broken("must-staple").identity
    staple = pki.intermediate.staple(identity.certificate)
    chain, key = identity.write(tmp_path)
    server_side = SSL.Context(SSL.TLS_SERVER_METHOD)
    server_side.use_certificate_chain_file(str(chain))
    server_side.use_privatekey_file(str(key))
    server_side.set_ocsp_server_callback(lambda connection, data: staple)
    stapled: list[bytes] = []
    client_side = SSL.Context(SSL.TLS_CLIENT_METHOD)

    def remember(connection: object, data: bytes, extra: object) -> bool:
        stapled.append(data)
        return True

    client_side.set_ocsp_client_callback(remember)
    client, server = SSL.Connection(client_side, None), SSL.Connection(server_side, None)
    client.set_connect_state()
    client.request_ocsp()
    server.set_accept_state()
    pending = [client, server]
    for _ in range(20):
        for one, other in ((client, server), (server, client)):
            try:
                one.do_handshake()
            except SSL.WantReadError:
                pass
            else:
                if one in pending:
                    pending.remove(one)
            try:
                other.bio_write(one.bio_read(65_536))
            except SSL.WantReadError:
                pass
        if not pending:
            break
    presented = Presented.from_pyopenssl(client, staple=stapled[0])
    result = judge(presented, HOST, Policy.apple, anchors, evidence=Evidence(), now=lambda: pki.at)
    assert result.accepted, result.failures
    assert judge(Presented(presented.chain), HOST, Policy.apple, anchors, evidence=Evidence()).accepted
    without = Presented(presented.chain, asked_for_staple=True)
    assert not judge(without, HOST, Policy.apple, anchors, evidence=Evidence()).accepted


def test_a_peer_without_a_certificate_is_a_violation(anchors: Anchors) -> None:
    with pytest.raises(PeerViolation):
        judge(Presented(()), HOST, Policy.apple, anchors, evidence=Evidence())


def test_a_handshake_refusal_is_a_trust_refusal(pki: Pki, anchors: Anchors) -> None:
    refused = HandshakeRefused(evaluate(pki.broken("expired").identity.chain, HOST, None, pki.at, anchors))
    assert isinstance(refused, TrustRefused)
    assert str(refused).startswith("x509.validity: certificate 0: ")


@pytest.mark.parametrize(
    ("who", "accepted"), [("client", True), ("server", False), ("stranger", False), ("expired", False), ("none", False)]
)
def test_a_server_judges_its_clients(pki: Pki, anchors: Anchors, tmp_path: Path, who: str, accepted: bool) -> None:
    client = Recipe(names=("me@example.com",), usages=(CLIENT,))
    identities = {
        "client": pki.client(),
        "server": pki.good(),
        "stranger": pki.new_root("stranger").issue(client),
        "expired": pki.intermediate.issue(replace(client, starts=timedelta(days=-99))),
    }
    demanding = trust_server_context(*pki.good().write(tmp_path), ClientPolicy(anchors))
    context = ssl_context(Policy.apple, anchors)
    if who != "none":
        context.load_cert_chain(*identities[who].write(tmp_path, who))

    async def run() -> bytes:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                writer.write(await reader.read(100))
                await writer.drain()
            writer.close()

        asyncio.get_running_loop().set_exception_handler(lambda loop, problem: None)
        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=demanding) as server:
            port = server.sockets[0].getsockname()[1]
            try:
                return (await exchange(port, context))[0]
            except OSError:
                return b""

    assert asyncio.run(run()) == (b"over tls" if accepted else b"")


def test_quic_shows_its_chain_to_the_same_judge(pki: Pki, anchors: Anchors, tmp_path: Path) -> None:
    configuration = pytest.importorskip("aioquic.quic.configuration")
    connection = pytest.importorskip("aioquic.quic.connection")
    serving = configuration.QuicConfiguration(is_client=False, alpn_protocols=["x"])
    serving.load_cert_chain(*pki.good().write(tmp_path))
    asking = configuration.QuicConfiguration(alpn_protocols=["x"], server_name=HOST, verify_mode=ssl.CERT_NONE)
    client = connection.QuicConnection(configuration=asking)
    client.connect(("server", 1), now=0.0)
    server = connection.QuicConnection(
        configuration=serving, original_destination_connection_id=client.original_destination_connection_id
    )
    for step in range(6):
        for sender, receiver, source in ((client, server, ("client", 1)), (server, client, ("server", 1))):
            for datagram, _ in sender.datagrams_to_send(now=step / 10):
                receiver.receive_datagram(datagram, source, now=step / 10)
    presented = Presented.from_aioquic(client.tls)
    assert len(presented.chain) == 2
    assert judge(presented, HOST, Policy.apple, anchors, evidence=Evidence()).accepted
    assert not judge(presented, "other.example.com", Policy.apple, anchors, evidence=Evidence()).accepted


def test_a_server_met_again_with_the_same_chain_keeps_its_verdict_until_it_is_forgotten(
    pki: Pki, anchors: Anchors, tmp_path: Path
) -> None:
    context = ssl_context(Policy.apple, anchors)
    identity = pki.good()

    def meet(identity: Identity) -> object:
        with (
            served_blocking(identity, tmp_path) as port,
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as secure,
        ):
            return secure.trust  # type: ignore[attr-defined]

    first = meet(identity)
    assert meet(identity) is first
    assert meet(pki.good()) is not first
    context.forget()
    assert meet(identity) is not first
