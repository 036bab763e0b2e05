"""DNS over QUIC (RFC 9250): each question a stream of its own. Datagrams and seconds in, datagrams out."""

from __future__ import annotations

import datetime
import logging
import ssl
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamDataReceived, StreamReset

from towpath.names.framing import framed

__all__ = ["QuicCarrier", "rehearse"]

_ALPN = "doq"
logging.getLogger("quic").addHandler(logging.NullHandler())  # what went wrong is in `ended`
_LARGEST = 2 + 65535
_DAY = datetime.timedelta(days=1)
_ROUNDS = 4


def rehearse() -> None:
    """Goes through a handshake in memory: the library imports parts of itself when it first uses them.

    For who cannot import later. The certificate is not believed, which is a part of it too.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rehearsal.test")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + _DAY)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("rehearsal.test")]), critical=False)
    configuration = QuicConfiguration(is_client=False, alpn_protocols=[_ALPN])
    configuration.certificate, configuration.private_key = builder.sign(key, hashes.SHA256()), key
    client = QuicCarrier("rehearsal.test", ("192.0.2.1", 853))
    server: QuicConnection | None = None
    client.start(0.0)
    for _ in range(_ROUNDS):
        for data in client.outgoing(0.0):
            if server is None:
                identity = data[6 : 6 + data[5]]
                server = QuicConnection(configuration=configuration, original_destination_connection_id=identity)
            server.receive_datagram(data, ("192.0.2.2", 1), 0.0)
        for data, _ in server.datagrams_to_send(0.0) if server is not None else ():
            client.received(data, 0.0)


class QuicCarrier:
    """As `Carrier`, for datagrams: `received` takes one, `outgoing` gives those to send, `deadline` when to `wake`.

    `peer` is the server as a socket names it; `now` are seconds of any clock that only goes forward.
    """

    def __init__(self, name: str, peer: Any, authority: str = "", identity: str = "") -> None:
        self.ended = ""
        paths = ssl.get_default_verify_paths()
        configuration = QuicConfiguration(is_client=True, alpn_protocols=[_ALPN], server_name=name, idle_timeout=30.0)
        configuration.load_verify_locations(authority or paths.cafile or paths.openssl_cafile)
        if identity:
            configuration.load_cert_chain(identity, identity)
        self._quic = QuicConnection(configuration=configuration)
        self._peer = peer
        self._ready = False
        self._waiting: list[bytes] = []
        self._asked: dict[int, bytes] = {}
        self._bodies: dict[int, bytes] = {}
        self._lost: list[tuple[int, str]] = []

    def start(self, now: float) -> None:
        self._quic.connect(self._peer, now)

    def ask(self, message: bytes) -> None:
        self._waiting.append(message)
        self._send()

    def _send(self) -> None:
        if not self._ready or self.ended:
            return
        for message in self._waiting:
            stream = self._quic.get_next_available_stream_id()
            self._asked[stream] = message[:2]
            self._quic.send_stream_data(stream, framed(b"\0\0" + message[2:]), end_stream=True)
        self._waiting.clear()

    def received(self, data: bytes, now: float) -> list[bytes]:
        self._quic.receive_datagram(data, self._peer, now)
        return self._events()

    def wake(self, now: float) -> list[bytes]:
        """The deadline has passed."""
        if (self._quic.get_timer() or now + 1) <= now:
            self._quic.handle_timer(now)
        return self._events()

    @property
    def deadline(self) -> float | None:
        return self._quic.get_timer()

    def _events(self) -> list[bytes]:
        found: list[bytes] = []
        while (event := self._quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self._ready = True
            elif isinstance(event, StreamDataReceived):
                self._take(event, found)
            elif isinstance(event, StreamReset):
                self._lose(event.stream_id, "the server reset the stream")
            elif isinstance(event, ConnectionTerminated):
                self.ended = f"QUIC: {event.reason_phrase or 'the server ended the connection'}"
        self._send()
        return found

    def _take(self, event: StreamDataReceived, found: list[bytes]) -> None:
        stream = event.stream_id
        if stream not in self._asked:
            return
        body = self._bodies[stream] = self._bodies.get(stream, b"") + event.data
        if len(body) >= 2 and len(body) >= 2 + int.from_bytes(body[:2], "big"):
            size = int.from_bytes(body[:2], "big")
            identity = self._asked.pop(stream)
            del self._bodies[stream]
            if size >= 12:
                found.append(identity + body[4 : 2 + size])
            else:
                self._lost.append((int.from_bytes(identity, "big"), "an answer that is no DNS message"))
        elif event.end_stream or len(body) > _LARGEST:
            self._lose(stream, "half an answer")

    def _lose(self, stream: int, reason: str) -> None:
        identity = self._asked.pop(stream, None)
        self._bodies.pop(stream, None)
        if identity is not None:
            self._lost.append((int.from_bytes(identity, "big"), reason))

    def lost(self) -> list[tuple[int, str]]:
        lost, self._lost = self._lost, []
        return lost

    def outgoing(self, now: float) -> list[bytes]:
        return [data for data, _peer in self._quic.datagrams_to_send(now)]

    def close(self) -> None:
        self._quic.close()
