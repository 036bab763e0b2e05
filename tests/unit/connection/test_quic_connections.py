"""QUIC over real sockets on loopback: streams as connections, groups, datagrams, ends, what may be replayed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from towpath.connection import (
    FINAL,
    Connection,
    ConnectionGroup,
    GroupListener,
    Listener,
    MessageContext,
    Parameters,
    State,
)
from towpath.errors import Cancelled, ConnectionFailed, EndOfStream, Misuse
from towpath.protocols import Lines, QuicClosed
from towpath.testing import Pki
from towpath.trust import Anchors

HOST = "www.example.com"
ANY = "127.0.0.1:0"


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


class World:
    """Parameters of both sides; their memory of sessions lives as long as this."""

    def __init__(self, folder: Path) -> None:
        self.pki = Pki()
        self.identity = self.pki.good(HOST)
        self.files = self.identity.write(folder)

    def server(self, *framers: Any, **quic: Any) -> Parameters:
        return Parameters.quic(alpn=["news"], identity=self.files, framers=framers, **quic)

    def client(self, *framers: Any, **quic: Any) -> Parameters:
        settings: dict[str, Any] = {"alpn": ["news"], "server_name": HOST, **quic}
        return Parameters.quic(anchors=Anchors.of(self.pki.root.certificate), framers=framers, **settings)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("quic"))


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message.content)
    await connection.send(context=FINAL)


async def send_on_and_on(connection: Connection) -> None:
    while True:
        await connection.send(bytes(1000))
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(
    parameters: Parameters, answer: Callable[[Connection], Any] = echo
) -> AsyncIterator[tuple[str, Listener]]:
    async with Listener(ANY, parameters) as listener:
        task = asyncio.create_task(listener.serve(answer))
        yield str(listener.local), listener
        listener.cancel()
        await task


@asynccontextmanager
async def pair(world: World, **quic: Any) -> AsyncIterator[tuple[ConnectionGroup, ConnectionGroup]]:
    """Both ends of one QUIC connection."""
    async with GroupListener(ANY, world.server(**quic)) as listener:
        client = ConnectionGroup(str(listener.local), world.client(**quic))
        async with client, await listener.accept() as server:
            yield client, server


def test_a_connection_is_one_stream_of_a_connection_of_its_own(world: World) -> None:
    async def body() -> None:
        async with serving(world.server(Lines())) as (where, _), Connection(where, world.client(Lines())) as connection:
            await connection.send(b"one")
            await connection.send(b"two")
            assert [(await connection.receive_message()).content for _ in "12"] == [b"one", b"two"]
            assert connection.remote is not None
            assert str(connection.remote) == where

    run(body)


def test_what_was_agreed_stands_in_the_report(world: World) -> None:
    async def body() -> None:
        async with serving(world.server()) as (where, _), Connection(where, world.client()) as connection:
            (handshake,) = connection.report.handshakes
            assert handshake.protocol == "Quic"
            assert handshake.seconds > 0
            details: Any = handshake.about
            assert (details.version, details.alpn, details.resumed) == (1, "news", False)
            assert details.cipher.startswith("TLS_AES")
            assert details.trust.accepted

    run(body)


def test_a_stream_ends_each_way_by_itself(world: World) -> None:
    async def body() -> None:
        async with serving(world.server()) as (where, _), Connection(where, world.client()) as connection:
            await connection.send(b"all of it", context=FINAL)
            assert (await connection.receive_message()).content == b"all of it"
            with pytest.raises(EndOfStream):
                await connection.receive()

    run(body)


def test_more_than_all_windows_hold_goes_both_ways(world: World) -> None:
    size = 3 << 20
    sent = bytes(range(256)) * (size // 256)

    async def body() -> None:
        async with serving(world.server()) as (where, _), Connection(where, world.client()) as connection:
            sending = asyncio.create_task(connection.send(sent, context=FINAL))
            received = bytearray()
            async for piece in connection:
                received += piece.content
            assert received == sent
            await sending

    run(body)


def test_who_does_not_receive_makes_the_peer_wait(world: World) -> None:
    async def body() -> None:
        async with pair(world) as (client, server), client.open() as sender:
            await sender.send(b"x")
            async with await server.accept() as receiver:
                pieces = 0
                try:
                    async with asyncio.timeout(0.5):
                        while True:
                            await sender.send(bytes(1 << 16))
                            pieces += 1
                except TimeoutError:
                    pass
                # Both sides keep a window at most, and a little that is on its way.
                assert pieces << 16 < 6 * receiver.parameters.receive_limit
                for _ in range(pieces):
                    await receiver.receive(1 << 16, 1 << 16)
                await sender.send(b"there is room again")
                receiver.force_cancel()
                sender.force_cancel()

    run(body)


def test_a_group_opens_streams_from_both_sides(world: World) -> None:
    async def body() -> None:
        async with pair(world) as (client, server):
            async with client.open() as asked:
                await asked.send(b"ask", context=FINAL)
                async with await server.accept() as answered:
                    assert (await answered.receive_message()).content == b"ask"
                    await answered.send(b"answer", context=FINAL)
                    assert (await asked.receive_message()).content == b"answer"
            async with server.open() as offered:
                await offered.send(b"unasked", context=FINAL)
                async with await client.accept() as taken:
                    assert (await taken.receive_message()).content == b"unasked"

    run(body)


def test_many_streams_at_once_do_not_mix(world: World) -> None:
    async def body() -> None:
        async with serving(world.server(Lines())) as (where, _), ConnectionGroup(where, world.client(Lines())) as group:

            async def ask(number: int) -> bytes:
                async with group.open() as connection:
                    await connection.send(b"%d" % number)
                    return (await connection.receive_message()).content

            answers = await asyncio.gather(*map(ask, range(200)))
            assert answers == [b"%d" % number for number in range(200)]

    run(body)


def test_a_unidirectional_stream_leads_one_way(world: World) -> None:
    async def body() -> None:
        async with pair(world) as (client, server), client.open(unidirectional=True) as sender:
            await sender.send(b"one way", context=FINAL)
            with pytest.raises(EndOfStream):
                await sender.receive()
            async with await server.accept() as receiver:
                assert (await receiver.receive_message()).content == b"one way"
                with pytest.raises(Misuse, match="other way"):
                    await receiver.send(b"back")

    run(body)


def test_datagrams_are_messages_up_to_their_size(world: World) -> None:
    async def body() -> None:
        async with pair(world) as (client, server):
            size = client.datagrams.maximum_datagram_size
            assert size is not None
            assert size > 1000
            await client.datagrams.send(bytes(size))
            assert (await server.datagrams.receive_message()).content == bytes(size)
            await server.datagrams.send(b"back")
            assert (await client.datagrams.receive_message()).content == b"back"
            with pytest.raises(Misuse, match="too many"):
                await client.datagrams.send(bytes(size + 1))

    run(body)


def test_a_peer_that_takes_no_datagrams_is_sent_none(world: World) -> None:
    async def body() -> None:
        async with pair(world, datagrams=0) as (client, _):
            with pytest.raises(Misuse) as caught:
                await client.datagrams.send(b"x")
            assert caught.value.hint is not None
            assert "takes no datagrams" in caught.value.hint

    run(body)


def test_an_application_closes_with_its_own_code(world: World) -> None:
    async def body() -> None:
        async with GroupListener(ANY, world.server()) as listener:
            client = ConnectionGroup(str(listener.local), world.client())
            async with client, await listener.accept() as server:
                connection = client.open()
                await connection.send(b"x")
                server.force_cancel(7, "no more news")
                with pytest.raises(QuicClosed, match="no more news") as caught:
                    await connection.receive()
                assert (caught.value.code, caught.value.by_application, caught.value.by_peer) == (7, True, True)
                with pytest.raises(QuicClosed):
                    await client.accept()
                assert client.state is State.FAILED
                connection.cancel()

    run(body)


def test_cancelling_a_group_ends_its_streams_once_all_is_delivered(world: World) -> None:
    async def body() -> None:
        async with GroupListener(ANY, world.server()) as listener:
            client = ConnectionGroup(str(listener.local), world.client())
            await client.ready()
            async with await listener.accept() as server:
                connection = client.open()
                await connection.send(bytes(1 << 20))
                client.cancel()
                async with await server.accept() as taken:
                    assert len((await taken.receive_message()).content) == 1 << 20
                await client.closed()
                assert connection.state is State.CANCELLED
                with pytest.raises((Cancelled, QuicClosed)):
                    await server.accept()

    run(body)


def test_a_reset_stream_takes_nothing_else_with_it(world: World) -> None:
    async def body() -> None:
        async with pair(world) as (client, server):
            lost, kept = client.open(), client.open()
            await lost.send(b"x")
            taken_lost = await server.accept()
            await kept.send(b"y")
            taken_kept = await server.accept()
            assert await taken_lost.receive() == b"x"
            lost.force_cancel()
            with pytest.raises(QuicClosed, match="reset"):
                await taken_lost.receive()
            assert await taken_kept.receive() == b"y"
            for connection in (kept, taken_kept, taken_lost):
                connection.force_cancel()

    run(body)


def test_a_client_that_comes_from_elsewhere_is_still_the_same(world: World) -> None:
    async def body() -> None:
        async with pair(world) as (client, server), client.open() as connection:
            await connection.send(b"before")
            async with await server.accept() as taken:
                assert await taken.receive() == b"before"
                before = client.datagrams.local
                await client.move()
                await connection.send(b"after")
                assert await taken.receive() == b"after"
                await taken.send(b"heard")
                assert await connection.receive() == b"heard"
                link = client.datagrams.quic_link
                assert link is not None
                assert before is not None
                assert link.names[0] != (str(before).rpartition(":")[0], int(str(before).rpartition(":")[2]))

    run(body)


def test_the_first_flight_of_a_known_server_takes_idempotent_data_along(world: World) -> None:
    idempotent = MessageContext(idempotent=True)
    server, client = world.server(Lines(), early_data=True), world.client(Lines(), early_data=True)
    told = []

    async def body() -> None:
        async with serving(server) as (where, _):
            for _ in range(3):
                connection = Connection(where, client)
                await connection.send(b"GET /", context=idempotent)
                assert (await connection.receive_message()).content == b"GET /"
                details: Any = connection.report.handshakes[0].about
                assert details.trust.accepted
                told.append((details.resumed, details.early))
                connection.cancel()
                await connection.closed()

    run(body)
    assert told == [(False, False), (True, True), (True, True)]


@pytest.mark.parametrize("side", ["client", "server"])
def test_without_consent_nothing_leaves_or_arrives_early(world: World, side: str) -> None:
    """Who did not allow it sends nothing that could be replayed; a server that did not gives no ticket for it."""
    server = world.server(Lines(), early_data=side == "client")
    client = world.client(Lines(), early_data=side == "server")
    told = []

    async def body() -> None:
        async with serving(server) as (where, _):
            for _ in range(2):
                connection = Connection(where, client)
                await connection.send(b"GET /", context=MessageContext(idempotent=True))
                assert (await connection.receive_message()).content == b"GET /"
                details: Any = connection.report.handshakes[0].about
                told.append((details.resumed, details.early))
                connection.cancel()
                await connection.closed()

    run(body)
    assert told == [(False, False), (True, False)]


def test_a_silent_peer_is_given_up_after_the_idle_timeout(world: World) -> None:
    async def body() -> None:
        loop = asyncio.get_running_loop()
        async with GroupListener(ANY, world.server()) as listener:
            client = ConnectionGroup(str(listener.local), world.client(idle_timeout=0.5))
            await client.ready()
            server = await listener.accept()
            await server.ready()
            link = server.datagrams.quic_link
            assert link is not None
            loop.remove_reader(link.socket.fileno())  # from here on it is as dead as can be
            begun = loop.time()
            with pytest.raises(ConnectionFailed, match=r"0\.5 s") as caught:
                await client.datagrams.receive_message()
            assert caught.value.errno == 110
            assert 0.4 < loop.time() - begun < 20  # the default is 30 s
            client.cancel()
            server.force_cancel()

    run(body)


def test_a_keep_alive_outlives_the_idle_timeout(world: World) -> None:
    async def body() -> None:
        async with GroupListener(ANY, world.server(idle_timeout=0.6)) as listener:
            client = ConnectionGroup(str(listener.local), world.client(keep_alive=0.1))
            async with client, await listener.accept() as server:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.5):
                        await server.datagrams.receive_message()
                assert client.state is State.READY

    run(body)


def test_clients_prove_their_address_where_a_server_asks_for_it(world: World) -> None:
    async def body() -> None:
        parameters = world.server(Lines(), prove_address_above=0)
        async with serving(parameters) as (where, _), Connection(where, world.client(Lines())) as connection:
            await connection.send(b"it is me")
            assert (await connection.receive_message()).content == b"it is me"

    run(body)


def test_nobody_there_is_said_at_once(world: World) -> None:
    async def body() -> None:
        connection = Connection("127.0.0.1:9", world.client())
        with pytest.raises(ConnectionFailed, match="refused"):
            await connection.ready()
        connection.cancel()

    run(body)


def test_no_common_protocol_is_told_with_its_alert(world: World) -> None:
    async def body() -> None:
        async with serving(world.server()) as (where, listener):
            connection = Connection(where, world.client(alpn=["other"]))
            with pytest.raises(QuicClosed) as caught:
                await connection.ready()
            assert caught.value.alert is not None
            assert caught.value.by_peer
            connection.cancel()
            assert listener.closed_before_data == 1

    run(body)


def test_quic_needs_a_protocol_and_a_name() -> None:
    with pytest.raises(Misuse, match="ALPN"):
        Parameters.quic(alpn=[])
    with pytest.raises(Misuse, match="only QUIC"):
        Parameters.tcp().but(otherwise=Parameters.tls())


def test_rubbish_leaves_no_trace_and_stops_nobody(world: World) -> None:
    beginning = b"\xc0\0\0\0\1\x08" + bytes(9) + b"\x44\x00"

    async def body() -> None:
        async with serving(world.server(Lines())) as (where, listener):
            host, _, port = where.rpartition(":")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for rubbish in (b"", b"\0", bytes(2000), beginning + bytes(1400), b"\xc0\7\7\7\7" + bytes(1400)):
                    sender.sendto(rubbish, (host, int(port)))
            async with Connection(where, world.client(Lines())) as connection:
                await connection.send(b"still here")
                assert (await connection.receive_message()).content == b"still here"
            assert listener.closed_before_data == 0

    run(body)


def test_a_connection_of_one_stream_takes_no_others(world: World) -> None:
    async def body() -> None:
        async with GroupListener(ANY, world.server()) as listener:
            connection = Connection(str(listener.local), world.client())
            await connection.ready()
            async with await listener.accept() as server:
                unwanted = server.open()
                with pytest.raises(QuicClosed, match="takes no more"):
                    await send_on_and_on(unwanted)
                unwanted.force_cancel()
                connection.cancel()
                await connection.closed()

    run(body)
