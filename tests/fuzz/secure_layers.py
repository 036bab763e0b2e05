"""Fuzz entries of QUIC, DTLS and TLS with a shared key: the same rule as for all others, see `tests.fuzz.entries`."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.quic_packets import crypto, hello, seal

from towpath.errors import ConnectionFailed, EndOfStream, PeerViolation
from towpath.protocols import Dtls, Layer, QuicDetails, TlsPsk
from towpath.protocols.dtls_records import datagrams, records
from towpath.protocols.layer import Link
from towpath.protocols.quic import Quic
from towpath.protocols.quic_engine import QuicEngine
from towpath.protocols.quic_tls import authorities
from towpath.testing import FramerHarness, Pki

__all__ = ["ENTRIES", "SEEDS"]

_KEY = bytes(range(32))
_PEER = ("192.0.2.1", 443)


class _Owner:
    """Whom an engine tells; what matters is that it is never told of a handshake."""

    def __init__(self) -> None:
        self.error: Exception | None = None

    def connected(self, details: QuicDetails) -> None:
        raise AssertionError("the handshake cannot succeed")

    def stream_data(self, stream: int, data: bytes, ended: bool) -> None:
        raise AssertionError("there is no key for data")

    def stream_reset(self, stream: int, code: int) -> None:
        raise AssertionError("there is no key for frames")

    def stream_refused(self, stream: int, code: int) -> None:
        raise AssertionError("there is no key for frames")

    def datagram(self, data: bytes) -> None:
        raise AssertionError("there is no key for datagrams")

    def closed(self, error: Exception) -> None:
        self.error = error

    def identified(self, identifier: bytes) -> None:
        """Connection IDs come and go."""

    def retired(self, identifier: bytes) -> None:
        """As above."""


@functools.cache
def _identity() -> tuple[Path, Path]:
    folder = Path(tempfile.mkdtemp(prefix="towpath-fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Pki().good().write(folder)


def quic_to_client(data: bytes) -> None:
    """What comes to a client whose hello is out never makes it ready."""
    owner = _Owner()
    engine = QuicEngine(Quic(("x",)), Link(lambda: 1.0, False, "www.example.com"), owner, window=1 << 16)
    engine.connect(_PEER)
    engine.outgoing()
    engine.receive(data, _PEER)
    engine.outgoing()
    assert owner.error is None or isinstance(owner.error, (ConnectionFailed, PeerViolation))


def quic_to_server(data: bytes) -> None:
    """What comes to a server is not answered with more than three times as much (RFC 9000 section 8)."""
    owner = _Owner()
    link = Link(lambda: 1.0, True, "192.0.2.1")
    engine = QuicEngine(Quic(("x",), identity=_identity()), link, owner, window=1 << 16, original=bytes(8))
    data = data.ljust(1200, b"\0")  # a smaller one is not even looked at
    engine.receive(data, _PEER)
    if engine.next_wakeup is not None and owner.error is None:
        assert sum(len(sent) for sent, _ in engine.outgoing()) <= 3 * len(data)
    assert owner.error is None or isinstance(owner.error, (ConnectionFailed, PeerViolation))


def authority_names(data: bytes) -> None:
    try:
        found = authorities(data)
    except PeerViolation:
        return
    assert sum(len(name) + 2 for name in found) + 2 == len(data)


def dtls_records(data: bytes) -> None:
    """However it is cut into datagrams, it is the same."""
    try:
        whole = list(records(data))
    except PeerViolation:
        return
    assert b"".join(whole) == b"".join(datagrams(data, 100)) == data


def _never_ready(layer: Layer[Any], data: bytes, *, is_server: bool) -> None:
    harness = FramerHarness(layer, is_server=is_server, host="www.example.com")
    harness.feed(data)
    harness.feed_end()
    assert not harness.is_ready
    assert harness.error is None or isinstance(harness.error, (PeerViolation, EndOfStream, ConnectionFailed))


def dtls_to_client(data: bytes) -> None:
    _never_ready(Dtls(), data, is_server=False)


def dtls_to_server(data: bytes) -> None:
    _never_ready(Dtls(identity=_identity()), data, is_server=True)


def psk_to_client(data: bytes) -> None:
    _never_ready(TlsPsk(_KEY, identity="x"), data, is_server=False)


def psk_to_server(data: bytes) -> None:
    _never_ready(TlsPsk(_KEY, identity="x"), data, is_server=True)


ENTRIES: dict[str, Callable[[bytes], None]] = {
    entry.__name__: entry
    for entry in (
        authority_names,
        dtls_records,
        dtls_to_client,
        dtls_to_server,
        psk_to_client,
        psk_to_server,
        quic_to_client,
        quic_to_server,
    )
}

_ALERT = b"\x15\3\3\0\2\2\x28"
_DTLS_ALERT = b"\x15\xfe\xfd" + bytes(8) + b"\0\2\2\x28"

SEEDS: dict[str, tuple[bytes, ...]] = {
    "authority_names": (b"\0\0", b"\0\5\0\3abc"),
    "dtls_records": (_DTLS_ALERT, _DTLS_ALERT * 9),
    "dtls_to_client": (_DTLS_ALERT, b"\x16\xfe\xfd" + bytes(9) + b"\x0c\0"),
    "dtls_to_server": (_DTLS_ALERT, b"\x16\xfe\xff" + bytes(8) + b"\0\x0c\1" + bytes(11)),
    "psk_to_client": (_ALERT, b"\x16\3\3\0\4\x0e\0\0\0"),
    "psk_to_server": (_ALERT, b"\x16\3\1\0\4\1\0\0\0"),
    "quic_to_client": (b"\xc0\0\0\0\1\x08" + bytes(60), b"\x80\0\0\0\0\0\0\0\0\0\1", b"\x40" + bytes(30)),
    "quic_to_server": (seal(crypto(hello())), b"\xd0\0\0\0\1" + bytes(40)),
}
