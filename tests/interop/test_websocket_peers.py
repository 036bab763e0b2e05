"""WebSocket with programs that others wrote: the `websockets` package on either side, curl, and a browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.peers import need
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import CloseCode as TheirCode
from websockets.typing import Subprotocol

from towpath.connection import Connection, Listener, Parameters
from towpath.errors import EndOfStream, PeerViolation
from towpath.protocols import Refuse, Tls, WebSocket, WebSocketClosed, WebSocketOpening, WebSocketRefused
from towpath.testing import Pki
from towpath.trust import Anchors

CONTENTS: list[str | bytes] = ["text", "", "gr\u00fcn", b"\x00\xff", "x" * 65_535, bytes(65_536), b"y" * 500_000]


def run(body: Callable[[], Awaitable[None]], seconds: float = 60) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await body()

    asyncio.run(limited())


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def listening(
    parameters: Parameters, answer: Callable[[Connection], Awaitable[None]] = echo
) -> AsyncIterator[str]:
    async def call(connection: Connection) -> None:
        await answer(connection)

    async with Listener("127.0.0.1:0", parameters) as listener:
        task = asyncio.create_task(listener.serve(call))
        try:
            yield f"ws://{listener.local}/"
        finally:
            listener.cancel()
            await task


@asynccontextmanager
async def their_server(answer: Callable[[ServerConnection], Awaitable[None]], **settings: object) -> AsyncIterator[str]:
    async with serve(answer, "127.0.0.1", 0, **settings) as server:  # type: ignore[arg-type]
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


async def their_echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets_as_a_client(compression: str | None) -> None:
    async def body() -> None:
        parameters = Parameters.websocket(secure=False, compression=True, subprotocols=["b"])
        async with (
            listening(parameters) as url,
            connect(
                url, compression=compression, subprotocols=[Subprotocol("a"), Subprotocol("b")], proxy=None
            ) as client,
        ):
            assert client.subprotocol == "b"
            for content in CONTENTS:
                await client.send(content)
                assert await client.recv() == content
            await client.send(["in ", "three ", "parts"])
            assert await client.recv() == "in three parts"
            await (await client.ping(b"are you there"))
            await client.close(4000, "done")
            assert client.close_code == 4000

    run(body)


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_websockets_as_a_server(compression: str | None) -> None:
    async def body() -> None:
        async with (
            their_server(their_echo, compression=compression) as url,
            Connection(url, Parameters.websocket(compression=True)) as connection,
        ):
            details = connection.about(WebSocketOpening)
            assert details is not None
            assert (details.deflate is not None) is (compression is not None)
            for content in CONTENTS:
                sent = WebSocket.text(content) if isinstance(content, str) else WebSocket.binary(content)
                await connection.send(sent)
                assert await connection.receive_message() == sent

    run(body)


def test_websockets_server_sends_parts_pings_and_a_code() -> None:
    async def body() -> None:
        async def talk(connection: ServerConnection) -> None:
            await connection.send(["in ", "parts"])
            await (await connection.ping())
            await connection.close(4001, "enough")

        async with their_server(talk) as url:
            connection = Connection(url, Parameters.websocket())
            assert await connection.receive_message() == WebSocket.text("in parts")
            with pytest.raises(WebSocketClosed) as caught:
                await connection.receive_message()
            assert (caught.value.code, caught.value.reason) == (4001, "enough")
            connection.cancel()
            await connection.closed()

    run(body)


def test_websockets_client_learns_why_it_was_closed() -> None:
    async def body() -> None:
        small = Parameters.websocket(secure=False, frames=WebSocket(maximum=10))
        async with listening(small) as url, connect(url, proxy=None) as client:
            await client.send(b"x" * 11)
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == TheirCode.MESSAGE_TOO_BIG

    run(body)


def test_websockets_client_is_refused_with_a_status() -> None:
    async def body() -> None:
        refusing = Parameters.websocket(secure=False, accept=lambda asked: Refuse(403))
        async with listening(refusing) as url:
            with pytest.raises(InvalidStatus) as caught:
                await connect(url, proxy=None)
            assert caught.value.response.status_code == 403

    run(body)


def test_a_redirection_of_websockets_is_told_and_not_followed() -> None:
    async def body() -> None:
        async def redirect(connection: ServerConnection, _request: object) -> object:
            response = connection.respond(307, "there")
            response.headers["Location"] = "ws://elsewhere.test/"
            return response

        async with their_server(their_echo, process_request=redirect) as url:
            connection = Connection(url, Parameters.websocket())
            with pytest.raises(WebSocketRefused, match=r"redirects .* ws://elsewhere\.test/") as caught:
                await connection.ready()
            assert caught.value.status == 307
            connection.cancel()
            await connection.closed()

    run(body)


def test_websockets_ends_normally_in_either_direction() -> None:
    async def body() -> None:
        async def listen(connection: ServerConnection) -> None:
            await connection.wait_closed()
            codes.append(connection.close_code)

        codes: list[int | None] = []
        async with their_server(listen) as url:
            async with Connection(url, Parameters.websocket()):
                pass
            async with Connection(url, Parameters.websocket()) as connection:
                await connection.send(WebSocket.close(1001, "moving on"))
                with pytest.raises(EndOfStream):
                    await connection.receive_message()
        assert codes == [1000, 1001]

    run(body)


def curl(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["curl", "-sS", "-i", "--max-time", "60", *arguments], capture_output=True, text=True, check=False
    )


UPGRADE = ("-H", "Connection: Upgrade", "-H", "Upgrade: websocket", "-H", "Sec-WebSocket-Version: 13")
KEY = ("-H", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), "426 Upgrade Required"),
        (UPGRADE, "400 Bad Request"),
        ((*UPGRADE, *KEY, "-X", "POST"), "405 Method Not Allowed"),
        ((*UPGRADE, *KEY, "-0"), "505 HTTP Version Not Supported"),
        ((*UPGRADE, *KEY, "-H", "Origin: https://evil.test"), "403 Forbidden"),
        ((*UPGRADE, *KEY, "-d", "body", "-X", "GET"), "400 Bad Request"),
    ],
)
def test_curl_is_refused(arguments: tuple[str, ...], status: str) -> None:
    need("curl")

    async def body() -> None:
        async with listening(Parameters.websocket(secure=False, origins=["https://good.test", None])) as url:
            done = await asyncio.to_thread(curl, "--http1.1", *arguments, url.replace("ws:", "http:"))
            assert done.stdout.startswith(f"HTTP/1.1 {status}\r\n") or done.stdout.startswith(f"HTTP/1.1 {status}\n")
            assert done.returncode == 0, done.stderr

    run(body)


PAGE = """<!doctype html><script>
const said = [], url = location.hash.slice(1), socket = new WebSocket(url, ["other", "feed.v1"]);
socket.binaryType = "arraybuffer";
const contents = ["text", "", "gr\\u00fcn", "x".repeat(70000)];
let at = 0;
socket.onopen = () => { said.push(socket.protocol, socket.extensions); socket.send(contents[0]); };
socket.onmessage = event => {
  if (typeof event.data === "string") {
    said.push(event.data === contents[at]);
    if (++at < contents.length) socket.send(contents[at]); else socket.send(new Uint8Array([0, 255]));
  } else {
    said.push(Array.from(new Uint8Array(event.data)));
    socket.send("close");
  }
};
socket.onclose = event => {
  said.push(event.code, event.reason, event.wasClean);
  const report = new WebSocket(url, ["feed.v1"]);
  report.onopen = () => report.send("said " + JSON.stringify(said));
};
</script>"""


@pytest.mark.parametrize("compression", [False, True])
def test_chromium_as_a_client(compression: bool, tmp_path: Path) -> None:
    """The page says in a second WebSocket what it saw in the first."""
    need("chromium")
    page = tmp_path / "page.html"
    page.write_text(PAGE)

    async def body() -> None:
        report: asyncio.Future[list[object]] = asyncio.get_running_loop().create_future()

        async def answer(connection: Connection) -> None:
            async for message in connection:
                if message.content == b"close":
                    await connection.send(WebSocket.close(4002, "thank you"))
                elif message.content.startswith(b"said "):
                    report.set_result(json.loads(message.content.removeprefix(b"said ")))
                else:
                    await connection.send(message)

        parameters = Parameters.websocket(
            secure=False, compression=compression, subprotocols=["feed.v1"], origins=["null", "file://"]
        )
        async with listening(parameters, answer) as url:
            process = await asyncio.create_subprocess_exec(
                "chromium",
                *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"),
                f"--user-data-dir={tmp_path / 'profile'}",
                f"file://{page}#{url}",
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "HOME": str(tmp_path)},
                start_new_session=True,
            )
            try:
                said = await report
            finally:
                os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        extension = "permessage-deflate" if compression else ""
        assert said == ["feed.v1", extension, True, True, True, True, [0, 255], 4002, "thank you", True]

    run(body, 40)


def test_websockets_over_tls_in_both_directions(tmp_path: Path) -> None:
    pki = Pki()
    files = pki.good("localhost").write(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(*files)
    anchors = Anchors.of(pki.root.certificate)
    client_side = ssl.create_default_context(cadata=pki.root.certificate.public_bytes(Encoding.PEM).decode())

    async def body() -> None:
        async with their_server(their_echo, ssl=server_side) as url:
            ours = Parameters.websocket(tls=Tls(server_name="localhost", anchors=anchors))
            async with Connection(url.replace("ws:", "wss:"), ours) as connection:
                await connection.send(WebSocket.text("over TLS"))
                assert (await connection.receive_message()).content == b"over TLS"
        async with (
            listening(Parameters.websocket(tls=Tls(identity=files))) as url,
            connect(url.replace("ws:", "wss:"), ssl=client_side, server_hostname="localhost", proxy=None) as client,
        ):
            await client.send("over TLS")
            assert await client.recv() == "over TLS"

    run(body)


def test_a_client_that_breaks_the_protocol_is_closed_with_1002() -> None:
    async def body() -> None:
        seen: list[Exception | None] = []

        async def listen(connection: Connection) -> None:
            try:
                await connection.receive_message()
            finally:
                seen.append(connection.error)

        async with listening(Parameters.websocket(secure=False), listen) as url, connect(url, proxy=None) as client:
            client.transport.write(b"\xc1\x80\0\0\0\0")
            with pytest.raises(ConnectionClosed):
                await client.recv()
            assert client.close_code == 1002
        assert isinstance(seen[0], PeerViolation)

    run(body)
