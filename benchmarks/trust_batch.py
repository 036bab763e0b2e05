"""A scan of many servers' certificates: ``towpath trust batch`` over 1,000 loopback servers, beside sslyze."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import multiprocessing
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.form import Measured
from benchmarks.rounds import Absent, take_turns
from towpath.cli import main
from towpath.testing.pki import Pki

_HOST = "www.example.com"
_SERVERS = 1_000
_ROUNDS = 2
_FIGURE = "servers_per_s"
_SCANNED_EACH_SECOND = 10
"""The peer is slow: it scans as many of the same servers as the time allows, and rates are compared."""


def run(seconds: float) -> Measured:
    """`seconds` bounds how many servers the peer scans; ours are always a thousand."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pki = Pki()
        pki.write(folder)
        with _serving(folder) as ports:
            parties = {
                "towpath": lambda: _ours(ports, folder),
                "sslyze": lambda: _sslyze(ports[: max(10, int(seconds * _SCANNED_EACH_SECOND))]),
            }
            measured = take_turns("connect to each server, read its chain and judge it", parties, _ROUNDS)
    measured.compare("vs_sslyze", "towpath", "sslyze", _FIGURE)
    return measured


@contextlib.contextmanager
def _serving(folder: Path) -> Iterator[list[int]]:
    ours, theirs = multiprocessing.Pipe()
    # Servers in the parties' own interpreter would take their time; a fork needs no import of this module.
    servers = multiprocessing.get_context("fork").Process(target=_serve, args=(theirs, folder), daemon=True)
    servers.start()
    try:
        yield ours.recv()
    finally:
        servers.terminate()
        servers.join()


def _serve(ready: Connection, folder: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "good.pem", folder / "good.key")

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, problem: None)
        started = [await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) for _ in range(_SERVERS)]
        ready.send([server.sockets[0].getsockname()[1] for server in started])
        await asyncio.Event().wait()

    asyncio.run(serve())


def _ours(ports: list[int], folder: Path) -> Mapping[str, float]:
    (folder / "targets").write_text("".join(f"127.0.0.1:{port}\n" for port in ports))
    words = ["trust", "batch", str(folder / "targets"), "--anchors", str(folder / "root.pem"), "--name", _HOST]
    printed = io.StringIO()
    begun = time.perf_counter()
    with contextlib.redirect_stdout(printed):
        code = main(words)
    spent = time.perf_counter() - begun
    answers = [json.loads(line) for line in printed.getvalue().splitlines()]
    if code != 0 or len(answers) != len(ports):
        raise RuntimeError(f"{sum(not answer['accepted'] for answer in answers)} of {len(ports)} were not accepted")
    return {_FIGURE: len(ports) / spent}


def _sslyze(ports: list[int]) -> Mapping[str, float]:
    scanner = shutil.which("sslyze")
    if scanner is None:
        raise Absent("sslyze is not installed: it is on PyPI, not in Debian 12")
    words = [scanner, "--certinfo", *(f"127.0.0.1:{port}" for port in ports)]
    begun = time.perf_counter()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    spent = time.perf_counter() - begun
    if done.stdout.count("SCAN RESULTS FOR") != len(ports):
        raise RuntimeError(f"sslyze did not scan every server: {done.stderr[-500:]}")
    return {_FIGURE: len(ports) / spent}
