"""WebSocket over real sockets on loopback: in the clear and over TLS, with its ends, limits and back-pressure."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.utils import accept_key

from towpath.connection import FINAL, Connection, Listener, Liveness, Parameters, State
from towpath.errors import ConnectionFailed, EndOfStream, PeerViolation
from towpath.protocols import (
    AuthenticatedWebSocket,
    Json,
    Message,
    Opcode,
    Refuse,
    Tls,
    WebSocket,
    WebSocketClosed,
    WebSocketOpening,
    WebSocketRefused,
)
from towpath.protocols.websocket_frames import frame
from towpath.testing import Pki
from towpath.trust import Anchors, TrustRefused

HOST = "www.example.com"
SECRET = b"sixteen bytes or more"


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(
    parameters: Parameters, answer: Callable[[Connection], Awaitable[None]] = echo
) -> AsyncIterator[Listener]:
    async def call(connection: Connection) -> None:
        await answer(connection)

    async with Listener("127.0.0.1:0", parameters) as listener:
        task = asyncio.create_task(listener.serve(call))
        try:
            yield listener
        finally:
            listener.cancel()
            await task


def url(listener: Listener, scheme: str = "ws") -> str:
    return f"{scheme}://{listener.local}/feed"


PLAIN = Parameters.websocket(secure=False)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture
def identity(pki: Pki, tmp_path: Path) -> tuple[Path, Path]:
    return pki.good(HOST).write(tmp_path)


@pytest.mark.parametrize("compression", [False, True])
def test_messages_go_there_and_back(compression: bool) -> None:
    async def body() -> None:
        async with (
            serving(Parameters.websocket(secure=False, compression=compression)) as listener,
            Connection(url(listener), Parameters.websocket(compression=compression)) as connection,
        ):
            sent = [
                WebSocket.text("text"),
                WebSocket.binary(b"\xff"),
                WebSocket.text(""),
                WebSocket.text("x" * 200_000),
            ]
            for message in sent:
                await connection.send(message)
            assert [await connection.receive_message() for _ in sent] == sent
            details = connection.about(WebSocketOpening)
            assert details is not None
            assert (details.resource, details.deflate is not None) == ("/feed", compression)

    run(body)


def test_over_tls_the_server_is_judged_and_the_report_says_both(pki: Pki, identity: tuple[Path, Path]) -> None:
    async def body() -> None:
        server = Parameters.websocket(tls=Tls(identity=identity), subprotocols=["feed.v1"])
        ours = Tls(server_name=HOST, anchors=Anchors.of(pki.root.certificate))
        async with (
            serving(server) as listener,
            Connection(url(listener, "wss"), Parameters.websocket(tls=ours, subprotocols=["feed.v1"])) as connection,
        ):
            await connection.send(WebSocket.text("hello"))
            assert (await connection.receive_message()).content == b"hello"
            assert [one.protocol for one in connection.report.handshakes] == ["Tls", "WebSocketOpening"]
            details = connection.about(WebSocketOpening)
            assert details is not None
            assert details.subprotocol == "feed.v1"

    run(body)


def test_a_server_that_is_not_trusted_gets_no_request(pki: Pki, identity: tuple[Path, Path]) -> None:
    async def body() -> None:
        other = Tls(server_name="other.example.com", anchors=Anchors.of(pki.root.certificate))
        async with serving(Parameters.websocket(tls=Tls(identity=identity))) as listener:
            connection = Connection(url(listener, "wss"), Parameters.websocket(tls=other))
            with pytest.raises(TrustRefused):
                await connection.ready()
            assert connection.report.handshakes == ()
            connection.cancel()
            await connection.closed()

    run(body)


def test_a_refusal_comes_with_status_and_report() -> None:
    async def body() -> None:
        refusing = Parameters.websocket(secure=False, accept=lambda _asked: Refuse(403, "members only"))
        async with serving(refusing) as listener:
            connection = Connection(url(listener), PLAIN)
            with pytest.raises(WebSocketRefused) as caught:
                await connection.ready()
            assert (caught.value.status, caught.value.body) == (403, b"members only")
            assert caught.value.report.attempts[0].outcome == "won"
            assert caught.value.endpoint == url(listener)
            assert connection.state is State.FAILED
            connection.cancel()
            await connection.closed()

    run(body)


def test_a_normal_end_ends_the_iteration_of_the_other_side() -> None:
    async def body() -> None:
        ended: asyncio.Future[tuple[int | None, str] | None] = asyncio.get_running_loop().create_future()

        async def listen(connection: Connection) -> None:
            async for _message in connection:
                pass
            closed = connection.about(WebSocket)
            ended.set_result((closed.code, closed.reason) if closed is not None else None)

        async with serving(PLAIN, listen) as listener:
            async with Connection(url(listener), PLAIN) as connection:
                await connection.send(WebSocket.text("hello"))
            assert await ended == (1000, "")

    run(body)


def test_a_close_with_a_code_of_its_own_is_an_error_there() -> None:
    async def body() -> None:
        async def bye(connection: Connection) -> None:
            await connection.receive_message()
            await connection.send(WebSocket.close(4001, "too slow"))
            await connection.closed()

        async with serving(PLAIN, bye) as listener:
            connection = Connection(url(listener), PLAIN)
            await connection.send(WebSocket.text("hello"))
            with pytest.raises(WebSocketClosed) as caught:
                await connection.receive_message()
            assert (caught.value.code, caught.value.reason) == (4001, "too slow")
            connection.cancel()
            await connection.closed()

    run(body)


def test_after_its_last_message_a_client_still_gets_the_answers() -> None:
    async def body() -> None:
        async def late(connection: Connection) -> None:
            async for _message in connection:
                pass

        async with serving(PLAIN, late) as listener, Connection(url(listener), PLAIN) as connection:
            await connection.send(WebSocket.text("last"), context=FINAL)
            with pytest.raises(EndOfStream):
                await connection.receive_message()
            closed = connection.about(WebSocket)
            assert closed is not None
            assert closed.code == 1000

    run(body)


async def open_by_hand(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The server's side of the opening."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    key = head.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
    answer = "HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
    writer.write(f"{answer}{accept_key(key)}\r\n\r\n".encode())


def test_a_peer_that_never_closes_is_left_after_the_patience() -> None:
    async def body() -> None:
        async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await open_by_hand(reader, writer)
            await reader.read()
            writer.close()

        async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            parameters = Parameters.websocket(frames=WebSocket(close_patience=0.2))
            async with Connection(f"ws://127.0.0.1:{port}/", parameters):
                begun = loop.time()
            assert 0.15 < loop.time() - begun < 20  # the default is 30 s

    run(body)


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_a_peer_that_answers_a_close_by_going_is_not_waited_for(
    reset: bool, secure: bool, pki: Pki, identity: tuple[Path, Path]
) -> None:
    async def body() -> None:
        async def go(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await open_by_hand(reader, writer)
            await reader.readexactly(8)  # a masked close with its code
            made = writer.get_extra_info("socket")
            if reset:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

        context = None
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*identity)
        tls = Tls(server_name=HOST, anchors=Anchors.of(pki.root.certificate))
        async with await asyncio.start_server(go, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            loop = asyncio.get_running_loop()
            url = f"{'wss' if secure else 'ws'}://127.0.0.1:{port}/"
            async with Connection(url, Parameters.websocket(tls=tls, frames=WebSocket(close_patience=60))):
                begun = loop.time()
            assert loop.time() - begun < 30  # half of the patience

    run(body)


def test_a_server_that_dies_is_1006() -> None:
    async def body() -> None:
        async def die(connection: Connection) -> None:
            await connection.receive_message()
            connection.force_cancel()

        async with serving(PLAIN, die) as listener:
            connection = Connection(url(listener), PLAIN)
            await connection.send(WebSocket.text("hello"))
            with pytest.raises((WebSocketClosed, ConnectionError)):
                await connection.receive_message()
            connection.cancel()
            await connection.closed()

    run(body)


def test_a_sender_waits_for_a_receiver_that_does_not_receive() -> None:
    async def body() -> None:
        begin = asyncio.Event()

        async def slow(connection: Connection) -> None:
            await begin.wait()
            count = 0
            async for message in connection:
                count += len(message.content)
                if WebSocket.opcode(message) is Opcode.TEXT:
                    await connection.send(WebSocket.text(str(count)))

        async with serving(PLAIN, slow) as listener, Connection(url(listener), PLAIN) as connection:
            pieces, piece = 0, bytes(1 << 16)
            sending = asyncio.ensure_future(connection.send(piece))
            while (await asyncio.wait([sending], timeout=0.2))[0]:
                pieces += 1
                assert pieces < 1000
                sending = asyncio.ensure_future(connection.send(piece))
            pieces += 1
            begin.set()
            await sending
            await connection.send(WebSocket.text("!"))
            assert int((await connection.receive_message()).content) == pieces * len(piece) + 1

    run(body)


def test_parts_arrive_before_the_whole_and_are_joined_for_who_wants_it() -> None:
    async def body() -> None:
        parameters = Parameters.websocket(secure=False, frames=WebSocket(partial=True))

        async def talk(connection: Connection) -> None:
            await connection.send(WebSocket.text("first half, ", complete=False))
            assert (await connection.receive_message()).content == b"go on"
            await connection.send(WebSocket.text("second half"))
            await connection.send(WebSocket.text("in ", complete=False))
            await connection.send(WebSocket.text("one"))
            await connection.closed()

        async with (
            serving(parameters, talk) as listener,
            Connection(url(listener), Parameters.websocket(frames=WebSocket(partial=True))) as connection,
        ):
            assert await connection.receive() == b"first half, "
            await connection.send(WebSocket.text("go on"))
            assert await connection.receive() == b"second half"
            assert await connection.receive_message() == WebSocket.text("in one")

    run(body)


def test_c1_ready_comes_after_the_proof_over_a_real_connection() -> None:
    async def body() -> None:
        parameters = Parameters.websocket(secure=False, framers=[AuthenticatedWebSocket(SECRET)])
        wrong = Parameters.websocket(framers=[AuthenticatedWebSocket(b"another secret of sixteen")])
        async with serving(parameters) as listener:
            async with Connection(url(listener), parameters) as connection:
                names = [one.protocol for one in connection.report.handshakes]
                assert names == ["WebSocketOpening", "AuthenticatedWebSocket"]
                await connection.send(WebSocket.text("news"))
                assert await connection.receive_message() == WebSocket.text("news")
            refused = Connection(url(listener), wrong)
            with pytest.raises((PeerViolation, WebSocketClosed)):
                await refused.ready()
            refused.cancel()
            await refused.closed()

    run(body)


class Watched(AuthenticatedWebSocket):
    """Tells of each ping and pong."""

    def __init__(self, heard: asyncio.Queue[Opcode], interval: float) -> None:
        super().__init__(SECRET, interval=interval, patience=5)
        self.heard = heard

    def input_control(self, message: Message) -> None:
        super().input_control(message)
        self.heard.put_nowait(WebSocket.opcode(message))


def test_c1_an_idle_connection_lives_on_pings_that_nobody_sees() -> None:
    async def body() -> None:
        heard: asyncio.Queue[Opcode] = asyncio.Queue()
        ours = Parameters.websocket(framers=[Watched(heard, 0.01)])
        theirs = Parameters.websocket(secure=False, framers=[AuthenticatedWebSocket(SECRET)])
        async with serving(theirs) as listener, Connection(url(listener), ours) as connection:
            assert [await heard.get() for _ in range(3)] == [Opcode.PONG] * 3
            await connection.send(WebSocket.text("still here"))
            assert (await connection.receive_message()).content == b"still here"

    run(body)


def test_liveness_can_ping_through_websocket() -> None:
    async def body() -> None:
        pinged = asyncio.Event()

        async def listen(connection: Connection) -> None:
            async for message in connection:
                assert WebSocket.opcode(message) in (Opcode.PING, Opcode.CLOSE)
                pinged.set()

        theirs = Parameters.websocket(secure=False, frames=WebSocket(control=True))
        ours = PLAIN.but(liveness=Liveness(2, ping=True))
        async with serving(theirs, listen) as listener, Connection(url(listener), ours) as connection:
            await pinged.wait()
            assert connection.state is State.READY

    run(body)


def test_other_framers_stand_on_websocket_too() -> None:
    async def body() -> None:
        parameters = Parameters.websocket(secure=False, framers=[Json()])
        async with serving(parameters) as listener, Connection(url(listener), parameters) as connection:
            await connection.send(Json.message({"a": [1, None]}))
            assert Json.value(await connection.receive_message()) == {"a": [1, None]}

    run(body)


def test_an_endpoint_without_a_url_is_given_one(tmp_path: Path) -> None:
    async def body() -> None:
        parameters = Parameters.websocket(secure=False, url="ws://localhost/feed?x")
        where = f"unix:{tmp_path}/socket"
        async with Listener(where, PLAIN) as listener:
            task = asyncio.create_task(listener.serve(echo))
            async with Connection(where, parameters) as connection:
                await connection.send(WebSocket.text("hello"))
                assert (await connection.receive_message()).content == b"hello"
                details = connection.about(WebSocketOpening)
                assert details is not None
                assert details.resource == "/feed?x"
            listener.cancel()
            await task

    run(body)


def test_a_child_process_masks_with_keys_of_its_own() -> None:
    frame(0x82, b"x", mask=True)  # there are keys in store now
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, frame(0x82, bytes(4), mask=True)[2:6])
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 4)
    os.close(reading)
    os.close(writing)
    assert len(theirs) == 4
    assert frame(0x82, bytes(4), mask=True)[2:6] != theirs


def test_a_listener_that_speaks_something_else_fails_the_client() -> None:
    async def body() -> None:
        async with serving(Parameters.tcp()) as listener:
            connection = Connection(url(listener), PLAIN)
            with pytest.raises((PeerViolation, ConnectionFailed)):
                await connection.ready()
            connection.cancel()
            await connection.closed()

    run(body)
