"""Trust: verdicts on a chain of three, judged handshakes, and a scan of many servers.

Peers: `cryptography`'s own verifier (written in Rust, without rules), a pure Python validator, the standard
library's default context, and a scanner of certificates.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import io
import json
import multiprocessing
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.verification import PolicyBuilder, Store

from towpath.cli import main
from towpath.testing.pki import Identity, Pki
from towpath.trust import Anchors, Policy, evaluate
from towpath.trust.context import ssl_context

NAME = "trust"
HOST = "www.example.com"
SERVERS = 1_000
SCANNED_BY_PEER = 40
"""The peer is slow: it scans fewer of the same servers, and rates are compared."""


def run(seconds: float) -> dict[str, Any]:
    """All figures; each rate is measured for `seconds`, in turns, so that a change of the machine hits all alike."""
    pki = Pki()
    identity = pki.good(HOST)
    missing: list[str] = []
    verdicts = _rates(_verdicts(pki, identity, missing), seconds)
    handshakes = _rates(_handshakes(pki, identity), seconds)
    scans = _scans(pki, identity, missing)
    return {
        "benchmark": NAME,
        "work": "a three-certificate chain judged with every rule of the strict policy",
        "results": {
            "towpath": {
                "verdicts_per_s": verdicts["towpath"],
                "handshakes_per_s": handshakes["towpath"],
                "handshakes_with_servers_not_met_before_per_s": handshakes["towpath_first"],
                "servers_per_s": scans["towpath"],
            },
            "cryptography": {"verdicts_per_s": verdicts["cryptography"]},
            "ssl_default": {"handshakes_per_s": handshakes["ssl_default"]},
            **{peer: {"verdicts_per_s": verdicts[peer]} for peer in ("certvalidator",) if peer in verdicts},
            **{peer: {"servers_per_s": scans[peer]} for peer in ("sslyze",) if peer in scans},
        },
        "ratios": {
            "vs_cryptography": verdicts["towpath"] / verdicts["cryptography"],
            "vs_ssl_default": handshakes["towpath"] / handshakes["ssl_default"],
            **(
                {"vs_certvalidator": verdicts["towpath"] / verdicts["certvalidator"]}
                if "certvalidator" in verdicts
                else {}
            ),
            **({"vs_sslyze": scans["towpath"] / scans["sslyze"]} if "sslyze" in scans else {}),
        },
        "missing": missing,
    }


def _rates(works: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Rounds of each work in turn; the rate over all its rounds."""
    spent, done = dict.fromkeys(works, 0.0), dict.fromkeys(works, 0)
    for work in works.values():
        work()
    rounds = 10
    for _ in range(rounds):
        for name, work in works.items():
            began = time.perf_counter()
            while (elapsed := time.perf_counter() - began) < seconds / rounds:
                work()
                done[name] += 1
            spent[name] += elapsed
    return {name: done[name] / spent[name] for name in works}


def _verdicts(pki: Pki, identity: Identity, missing: list[str]) -> dict[str, Callable[[], object]]:
    chain, at = identity.chain, pki.at
    anchors = Anchors.of(pki.root.certificate)
    store = Store([pki.root.certificate])

    def ours() -> object:
        return evaluate(chain, HOST, Policy.apple, at, anchors).raise_if_refused()

    def bare() -> object:
        leaf, *others = [x509.load_der_x509_certificate(der) for der in chain]
        return PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(HOST)).verify(leaf, others)

    works: dict[str, Callable[[], object]] = {"towpath": ours, "cryptography": bare}
    python = _pure_python(chain, at, pki.root.certificate)
    if python is None:
        missing.append("certvalidator: the package pyhanko-certvalidator is not installed")
    else:
        works["certvalidator"] = python
    return works


def _pure_python(chain: list[bytes], at: datetime, root: x509.Certificate) -> Callable[[], object] | None:
    try:
        asn1 = importlib.import_module("asn1crypto.x509")
        validators = importlib.import_module("pyhanko_certvalidator")
    except ImportError:
        return None
    anchor = root.public_bytes(Encoding.DER)

    async def validate() -> object:
        leaf, *others = [asn1.Certificate.load(der) for der in chain]
        context = validators.ValidationContext(
            trust_roots=[asn1.Certificate.load(anchor)], moment=at, allow_fetching=False
        )
        validator = validators.CertificateValidator(leaf, intermediate_certs=others, validation_context=context)
        return await validator.async_validate_usage({"digital_signature"}, {"server_auth"})

    loop = asyncio.new_event_loop()
    return lambda: loop.run_until_complete(validate())


def _handshakes(pki: Pki, identity: Identity) -> dict[str, Callable[[], object]]:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        server.load_cert_chain(*identity.write(Path(folder)))
    default = ssl.create_default_context(cadata=pki.root.certificate.public_bytes(Encoding.PEM).decode())
    ours = ssl_context(Policy.apple, Anchors.of(pki.root.certificate))

    def first() -> None:
        ours.forget()
        _handshake(ours, server)

    return {
        "towpath": lambda: _handshake(ours, server),
        "towpath_first": first,
        "ssl_default": lambda: _handshake(default, server),
    }


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=HOST)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [near, far]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)


def _scans(pki: Pki, identity: Identity, missing: list[str]) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pki.write(folder)
        paths = identity.write(folder)
        parent, child = multiprocessing.Pipe()
        servers = multiprocessing.get_context("fork").Process(target=_serve, args=(child, paths), daemon=True)
        servers.start()
        try:
            ports: list[int] = parent.recv()
            found = {"towpath": _scan_ours(ports, folder)}
            theirs = _scan_theirs(ports[:SCANNED_BY_PEER])
            if theirs is None:
                missing.append("sslyze: the program is not installed")
            else:
                found["sslyze"] = theirs
            return found
        finally:
            servers.terminate()
            servers.join()


def _serve(ready: Connection, paths: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)

    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async def serve() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, problem: None)
        started = [await asyncio.start_server(close, "127.0.0.1", 0, ssl=context) for _ in range(SERVERS)]
        ready.send([server.sockets[0].getsockname()[1] for server in started])
        await asyncio.Event().wait()

    asyncio.run(serve())


def _scan_ours(ports: list[int], folder: Path) -> float:
    (folder / "targets").write_text("".join(f"127.0.0.1:{port}\n" for port in ports))
    words = ["trust", "batch", str(folder / "targets"), "--anchors", str(folder / "root.pem"), "--name", HOST]
    printed = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stdout(printed):
        code = main(words)
    spent = time.perf_counter() - began
    answers = [json.loads(line) for line in printed.getvalue().splitlines()]
    if code != 0 or len(answers) != len(ports):
        raise RuntimeError(f"{sum(not answer['accepted'] for answer in answers)} of {len(ports)} were not accepted")
    return len(ports) / spent


def _scan_theirs(ports: list[int]) -> float | None:
    program = shutil.which("sslyze")
    if program is None:
        return None
    places = [f"127.0.0.1:{port}" for port in ports]
    began = time.perf_counter()
    done = subprocess.run([program, "--certinfo", *places], capture_output=True, text=True, check=False)
    spent = time.perf_counter() - began
    if done.stdout.count("SCAN RESULTS FOR") != len(ports):
        raise RuntimeError(f"sslyze did not scan every server: {done.stderr[-500:]}")
    return len(ports) / spent
