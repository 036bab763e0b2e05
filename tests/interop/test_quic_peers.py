"""QUIC beside implementations that are not ours: quic-go in Caddy as a server, Chromium as a client; both by HTTP/3."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import signal
import socket
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.support import http3
from tests.support.peers import need

from towpath.connection import ConnectionGroup, GroupListener, Parameters
from towpath.testing import Pki
from towpath.testing.pki import Recipe
from towpath.trust import Anchors, TrustRefused

HOST = "news.example"


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


def run(body: Callable[[], Awaitable[None]], seconds: float = 60) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await body()

    asyncio.run(limited())


def free_port() -> int:
    """Free for UDP and for TCP: Caddy listens on both."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams, socket.socket() as stream:
            datagrams.bind(("127.0.0.1", 0))
            port: int = datagrams.getsockname()[1]
            try:
                stream.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


@asynccontextmanager
async def caddy(folder: Path, pki: Pki, *, clients: bool = False) -> AsyncIterator[int]:
    """Caddy with a page of 300 kB and one of 11 bytes; gives its port."""
    chain, key = pki.good(HOST).write(folder)
    (folder / "root.pem").write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    pages = folder / "pages"
    pages.mkdir()
    (pages / "short.txt").write_text("short words")
    (pages / "long.txt").write_bytes(b"0123456789" * 30_000)
    port = free_port()
    policy: dict[str, object] = {"certificate_selection": {"any_tag": ["news"]}}
    if clients:
        root = base64.b64encode(pki.root.certificate.public_bytes(Encoding.DER)).decode()
        policy["client_authentication"] = {"mode": "require_and_verify", "trusted_ca_certs": [root]}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [{"handle": [{"handler": "file_server", "root": str(pages)}]}],
        "tls_connection_policies": [policy],
        "automatic_https": {"disable": True},
        "strict_sni_host": False,  # it looks for the name where quic-go of this version leaves none
    }
    files = [{"certificate": str(chain), "key": str(key), "tags": ["news"]}]
    apps = {"http": {"servers": {"news": server}}, "tls": {"certificates": {"load_files": files}}}
    settings = folder / "caddy.json"
    settings.write_text(json.dumps({"admin": {"disabled": True}, "apps": apps}))
    process = await asyncio.create_subprocess_exec(
        *("caddy", "run", "--config", str(settings)),
        stderr=PIPE,
        stdout=DEVNULL,
        env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder), "XDG_CONFIG_HOME": str(folder)},
    )
    assert process.stderr is not None
    try:
        async for line in process.stderr:
            if b"serving initial configuration" in line:
                break
        else:
            raise AssertionError("caddy did not start")
        draining = asyncio.create_task(process.stderr.read())
        yield port
    finally:
        process.kill()
        await process.wait()
    await draining


def toward_caddy(pki: Pki, **quic: Any) -> Parameters:
    return Parameters.quic(alpn=["h3"], server_name=HOST, anchors=Anchors.of(pki.root.certificate), **quic)


def test_pages_come_from_quic_go_over_streams_of_one_connection(pki: Pki, tmp_path: Path) -> None:
    need("caddy")

    async def body() -> None:
        async with caddy(tmp_path, pki) as port, ConnectionGroup(f"127.0.0.1:{port}", toward_caddy(pki)) as group:
            async with http3.control(group):
                asked = [http3.get(group, HOST, path) for path in ("/short.txt", "/long.txt", "/none.txt")]
                short, long, none = await asyncio.gather(*asked)
            assert (short[0][b":status"], short[1]) == (b"200", b"short words")
            assert (long[0][b":status"], len(long[1])) == (b"200", 300_000)
            assert none[0][b":status"] == b"404"
            assert group.details is not None
            assert group.details.alpn == "h3"
            assert group.details.trust is not None
            assert group.details.trust.accepted

    run(body)


def test_quic_go_with_another_name_is_refused_by_its_rule(pki: Pki, tmp_path: Path) -> None:
    need("caddy")

    async def body() -> None:
        async with caddy(tmp_path, pki) as port:
            other = Parameters.quic(alpn=["h3"], server_name="other.example", anchors=Anchors.of(pki.root.certificate))
            with pytest.raises(TrustRefused) as refused:
                async with ConnectionGroup(f"127.0.0.1:{port}", other):
                    pass
            assert refused.value.failure is not None
            assert refused.value.failure.id == "server.name"

    run(body)


def test_a_client_shows_quic_go_the_identity_that_it_accepts(pki: Pki, tmp_path: Path) -> None:
    """quic-go names its authorities, which is more than our own servers do."""
    need("caddy")
    ours = pki.client().write(tmp_path, "ours")
    stranger = pki.new_root("somebody else's root")
    theirs = stranger.issue(Recipe(names=("client@example.com",), lasts=timedelta(days=180))).write(tmp_path, "theirs")

    async def body() -> None:
        parameters = toward_caddy(pki, identities=[theirs, ours])
        async with (
            caddy(tmp_path, pki, clients=True) as port,
            ConnectionGroup(f"127.0.0.1:{port}", parameters) as group,
            http3.control(group),
        ):
            fields, page = await http3.get(group, HOST, "/short.txt")
            assert (fields[b":status"], page) == (b"200", b"short words")

    run(body)


def test_a_second_connection_to_quic_go_resumes_the_first(pki: Pki, tmp_path: Path) -> None:
    need("caddy")

    async def body() -> None:
        parameters = toward_caddy(pki)
        async with caddy(tmp_path, pki) as port:
            resumed = []
            for _ in range(2):
                async with ConnectionGroup(f"127.0.0.1:{port}", parameters) as group, http3.control(group):
                    await http3.get(group, HOST, "/short.txt")
                    assert group.details is not None
                    resumed.append(group.details.resumed)
        assert resumed == [False, True]

    run(body)


def test_chromium_loads_a_page_from_our_listener(pki: Pki, tmp_path: Path) -> None:
    """Its script fetches the other paths; Chromium tells which protocol it used."""
    need("chromium")
    identity = pki.good(HOST)
    key = identity.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    accepted = base64.b64encode(hashlib.sha256(key).digest()).decode()
    asked: list[bytes] = []

    def answer(request: dict[bytes, bytes]) -> bytes:
        asked.append(request[b":path"])
        if request[b":path"] == b"/":
            return b"""<script>
                const all = [1, 2, 3, 4, 5].map(i => fetch("/part/" + i).then(r => r.text()));
                Promise.all(all).then(parts => document.title = parts.join());
                document.write(performance.getEntriesByType("navigation")[0].nextHopProtocol);
                </script>"""
        return request[b":path"].rpartition(b"/")[2] * 3

    async def body() -> None:
        parameters = Parameters.quic(alpn=["h3"], identity=identity.write(tmp_path))
        async with GroupListener("127.0.0.1:0", parameters) as listener:
            port = str(listener.local).rpartition(":")[2]

            async def take() -> None:
                async with asyncio.TaskGroup() as clients:
                    while True:
                        clients.create_task(http3.serve(await listener.accept(), answer))

            taking = asyncio.create_task(take())
            process = await asyncio.create_subprocess_exec(
                "chromium",
                *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
                *("--disable-component-update", "--disable-sync", "--enable-quic"),
                f"--origin-to-force-quic-on={HOST}:{port}",
                f"--host-resolver-rules=MAP {HOST} 127.0.0.1, MAP * ~NOTFOUND",
                f"--ignore-certificate-errors-spki-list={accepted}",
                f"--user-data-dir={tmp_path / 'profile'}",
                *("--virtual-time-budget=10000", "--dump-dom"),
                f"https://{HOST}:{port}/",
                stdout=PIPE,
                stderr=DEVNULL,
                env={**os.environ, "HOME": str(tmp_path)},
                start_new_session=True,
            )
            try:
                page, _ = await process.communicate()
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    await process.wait()
                taking.cancel()
            assert b"<title>111,222,333,444,555</title>" in page
            assert b"h3" in page
            assert {b"/", *(b"/part/%d" % number for number in range(1, 6))} <= set(asked)

    run(body)
