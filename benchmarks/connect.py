"""New TCP connections with TLS, one after the other, beside asyncio's; every server is judged by our policy."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.form import Measured
from benchmarks.loopback import ROUNDS, echo_server, party
from benchmarks.rounds import take_turns
from towpath.connection import Connection, Parameters
from towpath.testing import Pki
from towpath.trust import Anchors

_FIGURE = "connects_per_s"
_HOST = "www.example.com"


def run(seconds: float) -> Measured:
    """Full handshakes without resumption on both sides, as asyncio has none."""
    pki = Pki()
    root = pki.root.certificate
    ours = Parameters.tls(server_name=_HOST, anchors=Anchors.of(root), resumption=False)
    theirs = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())
    resuming = Parameters.tls(server_name=_HOST, anchors=Anchors.of(root))
    plain = Parameters.tcp()
    with tempfile.TemporaryDirectory() as folder:
        files = pki.good(_HOST).write(Path(folder))
        with echo_server(files=files) as port, echo_server() as open_port:
            parties = {
                "towpath": party(_FIGURE, seconds, lambda until: _towpath(port, ours, until)),
                "asyncio": party(_FIGURE, seconds, lambda until: _streams(port, theirs, until)),
                "towpath_resumed": party(_FIGURE, seconds, lambda until: _towpath(port, resuming, until)),
                "towpath_tcp": party(_FIGURE, seconds, lambda until: _towpath(open_port, plain, until)),
                "asyncio_tcp": party(_FIGURE, seconds, lambda until: _streams(open_port, None, until)),
            }
            measured = take_turns("TCP and TLS 1.3 connections, each with one byte there and back", parties, ROUNDS)
    measured.compare("vs_asyncio", "towpath", "asyncio", _FIGURE)
    measured.compare("vs_asyncio_tcp", "towpath_tcp", "asyncio_tcp", _FIGURE)
    return measured


async def _towpath(port: int, parameters: Parameters, until: float) -> float:
    count = 0
    while time.perf_counter() < until:
        async with Connection(f"127.0.0.1:{port}", parameters) as connection:
            await connection.send(b"x")
            await connection.receive()
        count += 1
    return count


async def _streams(port: int, context: ssl.SSLContext | None, until: float) -> float:
    count = 0
    name = _HOST if context is not None else None
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
        writer.write(b"x")
        await reader.read(1)
        writer.close()
        await writer.wait_closed()
        count += 1
    return count
