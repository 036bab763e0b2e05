"""One TLS connection over pyOpenSSL with the methods of `ssl.SSLObject`, for what the standard library cannot say.

It lacks the list of acceptable authorities in both directions: a client cannot see it, a server cannot send it.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from towpath.protocols.client_demand import ClientDemand
from towpath.protocols.credentials import Files, Identities
from towpath.protocols.identity_choice import IdentityChoice
from towpath.protocols.openssl_buffers import drain, leave_it_to_us, reason_of, show
from towpath.trust.context import FORWARD_SECRET, TrustContext

__all__ = ["Buffers", "OpensslObject", "OpensslSettings", "is_address"]

Buffers = tuple[ssl.MemoryBIO, ssl.MemoryBIO]
"""What came, and what is to be sent."""

_PROTOCOL_VERSIONS = {ssl.TLSVersion.TLSv1_2: SSL.TLS1_2_VERSION, ssl.TLSVersion.TLSv1_3: SSL.TLS1_3_VERSION}


class OpensslSettings:
    """What the connections of one pattern share; `judge` is who judges the peer's certificate."""

    def __init__(
        self,
        judge: TrustContext,
        *,
        alpn: Sequence[str],
        minimum: ssl.TLSVersion,
        maximum: ssl.TLSVersion,
        key_log: Path | None,
    ) -> None:
        self.judge = judge
        self.demand = ClientDemand(judge)
        self._alpn = [word.encode() for word in alpn]
        self._minimum, self._maximum = minimum, maximum
        self._key_log = key_log

    def for_client(self, identity: Files | None) -> SSL.Context:
        """Raises `ConfigInvalid` for an identity that cannot be used."""
        context = self._common(identity)
        context.set_verify(SSL.VERIFY_PEER, leave_it_to_us)
        if self._alpn:
            context.set_alpn_protos(self._alpn)
        return context

    def for_server(self, identity: Files) -> SSL.Context:
        """One that demands a certificate, and names the authorities it accepts. Raises `ConfigInvalid`."""
        context = self._common(identity)
        self.demand.install(context)
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        if self._alpn:
            context.set_alpn_select_callback(self._select)
        return context

    def _common(self, identity: Files | None) -> SSL.Context:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(_PROTOCOL_VERSIONS.get(self._minimum, 0))
        context.set_max_proto_version(_PROTOCOL_VERSIONS.get(self._maximum, 0))
        context.set_cipher_list(FORWARD_SECRET.encode())
        if self._key_log is not None:
            context.set_keylog_callback(_keep_in(self._key_log))
        if identity is not None:
            show(context, identity)
        return context

    def _select(self, connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
        return next((word for word in self._alpn if word in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


class OpensslObject:
    """The part of `ssl.SSLObject` that a layer needs, between two buffers. Raises the errors of `ssl`."""

    session_reused = False
    session = None
    """No session is resumed: another server may be shown another identity, and every client is judged anew."""

    def __init__(self, made: SSL.Connection, judge: TrustContext, host: str | None, buffers: Buffers) -> None:
        self.context = judge
        self.server_hostname = host
        self._tls = made
        self._choice: IdentityChoice | None = None
        self._demand: ClientDemand | None = None
        self._incoming, self._outgoing = buffers

    @classmethod
    def to_server(cls, settings: OpensslSettings, host: str, offered: Identities, buffers: Buffers) -> OpensslObject:
        """A client's, which shows one of the identities `offered`, or none."""
        context = settings.for_client(None)
        choice = IdentityChoice(offered, settings.for_client)
        choice.install(context)
        tls = SSL.Connection(context, None)
        choice.serve(tls)
        if not is_address(host):
            tls.set_tlsext_host_name(host.encode("idna"))
        tls.set_connect_state()
        made = cls(tls, settings.judge, host, buffers)
        made._choice = choice
        return made

    @classmethod
    def to_client(cls, settings: OpensslSettings, context: SSL.Context, buffers: Buffers) -> OpensslObject:
        """A server's, with a context of `OpensslSettings.for_server`."""
        tls = SSL.Connection(context, None)
        tls.set_accept_state()
        made = cls(tls, settings.judge, None, buffers)
        made._demand = settings.demand
        return made

    def do_handshake(self) -> None:
        with self._moving():
            self._tls.do_handshake()
        if self._demand is not None:
            self._demand.refusal(self._tls)

    def read(self, most: int) -> bytes:
        with self._moving():
            return self._tls.recv(most)

    def write(self, content: bytes) -> None:
        with self._moving():
            self._tls.sendall(content)

    def unwrap(self) -> None:
        with self._moving():
            self._tls.shutdown()

    def cipher(self) -> tuple[str]:
        return (self._tls.get_cipher_name() or "",)

    def version(self) -> str:
        return self._tls.get_protocol_version_name()

    def selected_alpn_protocol(self) -> str | None:
        return self._tls.get_alpn_proto_negotiated().decode() or None

    def get_unverified_chain(self) -> list[bytes]:
        """DER, leaf first."""
        found = self._tls.get_peer_cert_chain(as_cryptography=True) or []
        return [certificate.public_bytes(Encoding.DER) for certificate in found]

    @property
    def acceptable(self) -> list[x509.Name]:
        """The authorities that the server accepts; empty before it said so, and where any will do."""
        return self._tls.get_client_ca_list(as_cryptography=True)

    @contextmanager
    def _moving(self) -> Iterator[None]:
        if self._incoming.pending:
            self._tls.bio_write(self._incoming.read())
        try:
            yield
        except SSL.WantReadError:
            raise ssl.SSLWantReadError from None
        except SSL.ZeroReturnError:
            raise ssl.SSLZeroReturnError from None
        except SSL.Error as error:
            if self._choice is not None and self._choice.error is not None:
                raise self._choice.error from error
            refusal = self._demand.refusal(self._tls) if self._demand is not None else None
            if refusal is not None:
                raise refusal from error
            raise ssl.SSLError(ssl.SSL_ERROR_SSL, reason_of(error)) from error
        finally:
            found = drain(self._tls)
            if found:
                self._outgoing.write(found)


def _keep_in(file: Path) -> Callable[[SSL.Connection, bytes], None]:
    def keep(connection: SSL.Connection, line: bytes) -> None:
        with file.open("ab") as log:
            log.write(line + b"\n")

    return keep


def is_address(name: str) -> bool:
    """Whether a host is an address, which SNI does not carry (RFC 6066 section 3)."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
