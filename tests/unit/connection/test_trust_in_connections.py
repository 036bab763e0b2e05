"""TLS, DTLS and QUIC judge through `towpath.trust`, as client and as server, and the report has the verdict."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from towpath.connection import Connection, ConnectionGroup, GroupListener, Listener, MessageContext, Parameters, State
from towpath.errors import ConfigInvalid, ConnectionFailed, PeerViolation, TowpathError
from towpath.protocols import QuicClosed, Tls
from towpath.testing import Pki
from towpath.testing.pki import CLIENT, Recipe
from towpath.trust import Anchors, Policy, TrustRefused
from towpath.trust.identities import ClientPolicy

HOST = "www.example.com"
ANY = "127.0.0.1:0"
PROTOCOLS = ["tls", "dtls", "quic"]
BROKEN = [
    ("expired", 45),
    ("untrusted-root", 48),
    ("missing-intermediate", 48),
    ("wrong-name", 42),
    ("no-use", 46),
]
"""Names of the test PKI, each with the alert that says why (RFC 8446 section 6.2)."""


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def anchors(pki: Pki) -> Anchors:
    return Anchors.of(pki.root.certificate)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


def parameters(protocol: str, **settings: Any) -> Parameters:
    if protocol == "quic":
        return Parameters.quic(alpn=["news"], **settings)
    return {"tls": Parameters.tls, "dtls": Parameters.dtls}[protocol](**settings)


def verdict(connection: Connection) -> Any:
    (handshake,) = connection.report.handshakes
    details: Any = handshake.about
    return details.trust


async def meet(protocol: str, server: Parameters, client: Parameters) -> tuple[Exception | None, Exception | None, Any]:
    """What a client and a server make of each other: the error of each, and the server's verdict."""
    if protocol == "quic":
        async with GroupListener(ANY, server) as groups:
            group = ConnectionGroup(str(groups.local), client)
            asked = asyncio.create_task(outcome(group.ready()))
            taken = await groups.accept()
            theirs = await outcome(taken.ready())
            if theirs is None:
                # Its own handshake is over before the server has judged it: it learns of that afterwards.
                ours = await asked
                trust = verdict(taken.datagrams)
            else:
                await asked
                ours = await outcome(group.datagrams.receive_message())
                trust = None
            group.force_cancel()
            taken.force_cancel()
            return ours, theirs, trust
    async with Listener(ANY, server) as listener:
        connection = Connection(str(listener.local), client)
        asked = asyncio.create_task(outcome(connection.ready()))
        answer = await listener.accept()
        theirs = await outcome(answer.ready())
        ours = await asked
        if theirs is not None and ours is None:
            ours = await outcome(connection.receive_message())
        trust = verdict(answer) if theirs is None else None
        connection.force_cancel()
        answer.force_cancel()
        return ours, theirs, trust


async def outcome(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    except (TowpathError, OSError) as error:
        return error
    return None


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_good_server_is_accepted_and_the_report_says_by_which_rules(pki: Pki, tmp_path: Path, protocol: str) -> None:
    server = parameters(protocol, identity=pki.good(HOST).write(tmp_path))
    client = parameters(protocol, server_name=HOST, anchors=anchors(pki))

    async def body() -> None:
        async with Listener(ANY, server) as listener:
            connection = Connection(str(listener.local), client)
            await connection.send(b"x", context=MessageContext(idempotent=True))
            taken = await listener.accept()
            await asyncio.gather(taken.ready(), connection.ready())
            trust = verdict(connection)
            assert trust.accepted
            assert trust.policy == Policy.apple.name
            assert len(list(trust)) > 10
            taken.force_cancel()
            connection.force_cancel()

    run(body)


@pytest.mark.parametrize(("broken", "alert"), BROKEN)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_broken_server_is_refused_by_its_rule_and_told_by_the_right_alert(
    pki: Pki, tmp_path: Path, protocol: str, broken: str, alert: int
) -> None:
    case = pki.broken(broken)
    server = parameters(protocol, identity=case.identity.write(tmp_path))
    client = parameters(protocol, server_name=case.reference, anchors=anchors(pki))

    async def body() -> None:
        ours, theirs, _ = await meet(protocol, server, client)
        assert isinstance(ours, TrustRefused)
        assert ours.failure is not None
        assert ours.failure.id == case.rule
        assert told(theirs) == alert

    run(body)


def told(error: Exception | None) -> int:
    """The alert in an error, which TLS libraries name."""
    if isinstance(error, QuicClosed):
        return error.alert or 0
    words = {"expired": 45, "unknown ca": 48, "bad certificate": 42, "certificate unknown": 46, "handshake failure": 40}
    return next((alert for word, alert in words.items() if word in str(error)), 0)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_judges_its_clients(pki: Pki, tmp_path: Path, protocol: str) -> None:
    files, own = pki.good(HOST).write(tmp_path), pki.client().write(tmp_path, "client")
    server = parameters(protocol, identity=files, clients=ClientPolicy(anchors(pki)))
    client = parameters(protocol, server_name=HOST, anchors=anchors(pki), identity=own)

    async def body() -> None:
        ours, theirs, trust = await meet(protocol, server, client)
        assert (ours, theirs) == (None, None)
        assert trust.accepted

    run(body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_of_an_impostor_of_the_authority_is_refused_with_its_alert(
    pki: Pki, tmp_path: Path, protocol: str
) -> None:
    files, own = pki.good(HOST).write(tmp_path), Pki().client().write(tmp_path, "client")
    server = parameters(protocol, identity=files, clients=ClientPolicy(anchors(pki)))
    client = parameters(protocol, server_name=HOST, anchors=anchors(pki), identity=own)

    async def body() -> None:
        ours, theirs, _ = await meet(protocol, server, client)
        assert isinstance(theirs, TrustRefused)
        assert isinstance(ours, ConnectionFailed)
        assert told(ours) in (42, 48)

    run(body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_client_without_a_certificate_is_refused(pki: Pki, tmp_path: Path, protocol: str) -> None:
    server = parameters(protocol, identity=pki.good(HOST).write(tmp_path), clients=ClientPolicy(anchors(pki)))
    client = parameters(protocol, server_name=HOST, anchors=anchors(pki))

    async def body() -> None:
        ours, theirs, _ = await meet(protocol, server, client)
        assert isinstance(theirs, ConnectionFailed | PeerViolation)
        assert isinstance(ours, ConnectionFailed)

    run(body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_that_is_refused_by_policy_alone_is_told_so(pki: Pki, tmp_path: Path, version: ssl.TLSVersion) -> None:
    recipe = Recipe(
        names=("client@example.com",), usages=(CLIENT,), starts=timedelta(days=-30), lasts=timedelta(days=29)
    )
    expired = pki.intermediate.issue(recipe).write(tmp_path, "client")
    server = parameters("tls", identity=pki.good(HOST).write(tmp_path), clients=ClientPolicy(anchors(pki)))
    client = parameters("tls", server_name=HOST, anchors=anchors(pki), identity=expired, maximum=version)

    async def body() -> None:
        ours, theirs, _ = await meet("tls", server, client)
        assert isinstance(theirs, TrustRefused)
        assert told(ours) == 45

    run(body)


def two_identities(pki: Pki, tmp_path: Path) -> list[tuple[Path, Path]]:
    """Somebody else's, and one that the authority of `pki` made."""
    stranger = pki.new_root("somebody else's root").issue(
        Recipe(names=("client@example.com",), lasts=timedelta(days=180))
    )
    return [stranger.write(tmp_path, "theirs"), pki.client().write(tmp_path, "ours")]


@pytest.mark.parametrize("protocol", ["tls", "dtls"])
def test_a_client_shows_the_identity_that_the_server_accepts(pki: Pki, tmp_path: Path, protocol: str) -> None:
    identities = two_identities(pki, tmp_path)
    server = parameters(protocol, identity=pki.good(HOST).write(tmp_path), clients=ClientPolicy(anchors(pki)))
    client = parameters(protocol, server_name=HOST, anchors=anchors(pki), identities=identities)

    async def body() -> None:
        assert (await meet(protocol, server, client))[:2] == (None, None)

    run(body)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_function_chooses_by_the_authorities_that_the_server_names(
    pki: Pki, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    ours = two_identities(pki, tmp_path)[1]
    asked: list[list[str]] = []

    def choose(authorities: list[x509.Name]) -> tuple[Path, Path]:
        asked.append([name.rfc4514_string() for name in authorities])
        return ours

    server = parameters("tls", identity=pki.good(HOST).write(tmp_path), clients=ClientPolicy(anchors(pki)))
    client = parameters("tls", server_name=HOST, anchors=anchors(pki), identities=choose, maximum=version)

    async def body() -> None:
        async with Listener(ANY, server) as listener:
            connection = Connection(str(listener.local), client)
            connection.start()
            taken = await listener.accept()
            await asyncio.gather(taken.ready(), connection.ready())
            details = connection.about(Tls)
            assert details is not None
            assert details.acceptable == (pki.root.certificate.subject.rfc4514_string(),)
            assert asked == [list(details.acceptable)]
            assert verdict(taken).accepted
            await connection.send(b"hello")
            assert await taken.receive(5) == b"hello"
            connection.force_cancel()
            taken.force_cancel()

    run(body)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_a_choosing_function_raises_is_what_the_connection_fails_with(
    pki: Pki, tmp_path: Path, protocol: str
) -> None:
    def choose(authorities: list[x509.Name]) -> tuple[Path, Path]:
        raise ConfigInvalid("the key ring", "is locked")

    server = parameters(protocol, identity=pki.good(HOST).write(tmp_path), clients=ClientPolicy(anchors(pki)))
    client = parameters(protocol, server_name=HOST, anchors=anchors(pki), identities=choose)

    async def body() -> None:
        ours, _, _ = await meet(protocol, server, client)
        assert isinstance(ours, ConfigInvalid)

    run(body)


@pytest.fixture
def no_new_sockets(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each name that is asked for, which is what fetching anything would begin with."""
    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: asked.append(str(host)))
    return asked


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_handshake_fetches_nothing(pki: Pki, tmp_path: Path, protocol: str, no_new_sockets: list[str]) -> None:
    case = pki.broken("missing-intermediate")
    server = parameters(protocol, identity=case.identity.write(tmp_path))
    client = parameters(protocol, server_name=case.reference, anchors=anchors(pki))

    async def body() -> None:
        ours, _, _ = await meet(protocol, server, client)
        assert isinstance(ours, TrustRefused)

    run(body)
    assert no_new_sockets == []


def test_a_failed_connection_stays_failed(pki: Pki, tmp_path: Path) -> None:
    server = parameters("quic", identity=pki.broken("expired").identity.write(tmp_path))

    async def body() -> None:
        async with Listener(ANY, server) as listener:
            connection = Connection(str(listener.local), parameters("quic", server_name=HOST, anchors=anchors(pki)))
            with pytest.raises(TrustRefused):
                await connection.ready()
            assert connection.state is State.FAILED
            connection.cancel()
            await connection.closed()

    run(body)
