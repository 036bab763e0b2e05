"""TLS handshakes whose server is judged by our policy, beside the standard library's default context."""

from __future__ import annotations

import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from benchmarks.form import Measured
from benchmarks.rounds import Party, take_turns
from towpath.testing.pki import Pki
from towpath.trust import Anchors, Policy
from towpath.trust.context import ssl_context

_HOST = "www.example.com"
_ROUNDS = 5
_FIGURE = "handshakes_per_s"


def run(seconds: float) -> Measured:
    """Both sides in memory and in one thread. A server that was met before keeps its verdict; `_first` forgets it."""
    pki = Pki()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        server.load_cert_chain(*pki.good(_HOST).write(Path(folder)))
    root = pki.root.certificate
    default = ssl.create_default_context(cadata=root.public_bytes(Encoding.PEM).decode())
    judging = ssl_context(Policy.apple, Anchors.of(root))
    parties = {
        "towpath": _handshakes(judging, server, lambda: None, seconds),
        "towpath_first": _handshakes(judging, server, judging.forget, seconds),
        "ssl_default": _handshakes(default, server, lambda: None, seconds),
    }
    measured = take_turns("TLS 1.3 handshakes in memory, client and server", parties, _ROUNDS)
    measured.compare("vs_ssl_default", "towpath", "ssl_default", _FIGURE)
    return measured


def _handshakes(client: ssl.SSLContext, server: ssl.SSLContext, before: Callable[[], None], seconds: float) -> Party:
    def work() -> Mapping[str, float]:
        count, begun = 0, time.perf_counter()
        until = begun + seconds / _ROUNDS
        while (now := time.perf_counter()) < until:
            before()
            _handshake(client, server)
            count += 1
        return {_FIGURE: count / (now - begun)}

    return work


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> None:
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname=_HOST)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    waiting = [near, far]
    while waiting:
        for end in list(waiting):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(end)
