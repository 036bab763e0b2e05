"""DTLS 1.2 as a layer over datagrams (RFC 6347), over OpenSSL's memory buffers.

Certificates are judged by `towpath.trust`, before this side's next flight leaves: a refused peer gets the alert that
says why instead of it. A server keeps nothing of a client before that has returned its cookie (section 4.2.1).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cryptography.x509 import load_der_x509_certificate
from OpenSSL import SSL

from towpath.errors import ConnectionFailed, EndOfStream, Misuse, PeerViolation
from towpath.protocols.credentials import Files, Identities
from towpath.protocols.dtls_records import alert_record, datagrams
from towpath.protocols.identity_choice import IdentityChoice
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.openssl_buffers import drain, leave_it_to_us, reason_of, show
from towpath.protocols.openssl_object import is_address
from towpath.protocols.stack import Stack
from towpath.protocols.tls import TlsDetails

if TYPE_CHECKING:
    from towpath.trust.anchors import Anchors
    from towpath.trust.evidence import Evidence
    from towpath.trust.handshake import Presented
    from towpath.trust.identities import ClientPolicy
    from towpath.trust.policy import Policy
    from towpath.trust.result import TrustResult

__all__ = ["Dtls"]

_READ = 1 << 16
_FORWARD_SECRET = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_VERSION_1_2 = 0xFEFD


class Dtls(Layer[TlsDetails]):
    """DTLS 1.2 over UDP: each message is a datagram, which may be lost, but not forged. ::

    Parameters.dtls(server_name="www.example.com")
    Parameters.dtls(identity=(Path("server.pem"), Path("server.key")))    # for a listener
    """

    def __init__(
        self,
        *,
        server_name: str | None = None,
        alpn: Sequence[str] = (),
        policy: Policy | None = None,
        anchors: Anchors | None = None,
        evidence: Evidence | None = None,
        identity: Files | None = None,
        identities: Identities = (),
        clients: ClientPolicy | None = None,
        mtu: int = 1200,
    ) -> None:
        """All are optional for a client.

        `server_name` replaces the endpoint's host, in SNI and in the judgement. `policy` is `Policy.apple`, `anchors`
        the system's. `identity` is a chain and a key in PEM files: a server needs one; `identities` are what a client
        chooses from by the authorities that the server accepts, or a function that chooses (see `Tls`). A server with
        `clients` demands certificates, and says from whom. `mtu` is how many bytes a datagram of the handshake has at
        most.
        """
        self.server_name = server_name
        self.alpn = tuple(alpn)
        self.policy = policy
        self.anchors = anchors
        self.evidence = evidence
        self.identity = identity
        self.identities = identities if callable(identities) else tuple(identities)
        self.clients = clients
        self.mtu = mtu
        self._secret = secrets.token_bytes(32)

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._dtls: SSL.Connection | None = None
        self._agreed: TlsDetails | None = None
        self._trust: TrustResult | None = None
        self._listening = link.is_server
        self._choice: IdentityChoice | None = None
        self._name = self.server_name or link.host or ""

    def start(self) -> bool:
        self._dtls = self._connection()
        if not self.link.is_server:
            self._handshake(self._dtls)
        return False

    def input(self, message: Message) -> None:
        dtls = self._dtls
        if dtls is None or not message.content:
            return
        dtls.bio_write(message.content)
        if self._agreed is None:
            self._handshake(dtls)
            if self._agreed is None:
                return
        self._read(dtls)
        self._flush(dtls)

    def output(self, message: Message) -> None:
        dtls = self._dtls
        if dtls is None:
            raise Misuse("DTLS is not started")
        largest = dtls.get_cleartext_mtu()
        if len(message.content) > largest:
            error = Misuse(f"{len(message.content)} bytes are too many for a datagram of DTLS: {largest} at most")
            error.hint = "send smaller messages, or let Parameters.dtls have a larger mtu where the path has one"
            raise error
        if message.content:
            dtls.send(message.content)
            self._flush(dtls)

    def output_ended(self) -> None:
        """A datagram protocol has no half-closed state; close_notify goes with `stop`."""

    def stop(self) -> bool:
        dtls = self._dtls
        if dtls is not None and self._agreed is not None:
            try:
                dtls.shutdown()
            except SSL.Error:
                pass  # the peer's own close_notify is not waited for
            self._flush(dtls)
        return True

    def wakeup(self) -> None:
        """A flight may be lost (RFC 6347 section 4.2.4)."""
        dtls = self._dtls
        if dtls is not None and self._agreed is None:
            dtls.DTLSv1_handle_timeout()
            self._flush(dtls)
            self._set_timer(dtls)

    def describe(self) -> TlsDetails | None:
        return self._agreed

    def _connection(self) -> SSL.Connection:
        if self.link.is_server:
            if self.identity is None:
                error = Misuse("a DTLS server needs a certificate and its key")
                error.hint = "give Parameters.dtls an identity: (chain.pem, key.pem)"
                raise error
            made = SSL.Connection(self._server_context(self.identity), None)
            made.set_accept_state()
        else:
            if not self._name:
                error = Misuse("DTLS needs to know whom it talks to, and the endpoint has no host")
                error.hint = "give Parameters.dtls a server_name"
                raise error
            context = self._client_context(None)
            offered = self.identities or ((self.identity,) if self.identity is not None else ())
            if offered:
                self._choice = IdentityChoice(offered, self._client_context)
                self._choice.install(context)
            made = SSL.Connection(context, None)
            if self._choice is not None:
                self._choice.serve(made)
            if not is_address(self._name):
                made.set_tlsext_host_name(self._name.encode("idna"))
            made.set_connect_state()
        made.set_ciphertext_mtu(self.mtu)
        return made

    def _client_context(self, identity: Files | None) -> SSL.Context:
        context = _context(identity)
        context.set_verify(SSL.VERIFY_PEER, leave_it_to_us)
        if self.alpn:
            context.set_alpn_protos([word.encode() for word in self.alpn])
        return context

    def _server_context(self, identity: Files) -> SSL.Context:
        context = _context(identity)
        context.set_cookie_generate_callback(lambda connection: self._cookie())
        context.set_cookie_verify_callback(lambda connection, cookie: hmac.compare_digest(cookie, self._cookie()))
        if self.clients is not None:
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, leave_it_to_us)
            for anchor in self.clients.anchors.certificates():
                context.add_client_ca(load_der_x509_certificate(anchor.der))
        if self.alpn:
            context.set_alpn_select_callback(self._select)
        return context

    def _cookie(self) -> bytes:
        """Bound to the address that this connection is with: another one cannot return it."""
        return hmac.digest(self._secret, self._name.encode(), "sha256")

    def _select(self, connection: SSL.Connection, offered: Sequence[bytes]) -> Any:
        for word in self.alpn:
            if word.encode() in offered:
                return word.encode()
        return SSL.NO_OVERLAPPING_PROTOCOLS

    def _handshake(self, dtls: SSL.Connection) -> None:
        done = False
        try:
            if self._listening:
                dtls.DTLSv1_listen()
                self._listening = False
            dtls.do_handshake()
            done = True
        except SSL.WantReadError:
            pass
        except SSL.Error as error:
            self._flush(dtls)
            if self._choice is not None and self._choice.error is not None:
                raise self._choice.error from error
            raise ConnectionFailed(self._name or "client", f"DTLS: {reason_of(error)}") from error
        if self._trust is None:
            self._trust = self._verdict(dtls)
        self._flush(dtls)
        self._set_timer(dtls)
        if done:
            self._agreed = TlsDetails(
                version=dtls.get_protocol_version_name(),
                cipher=dtls.get_cipher_name() or "",
                alpn=dtls.get_alpn_proto_negotiated().decode() or None,
                resumed=False,
                trust=self._trust,
                acceptable=tuple(name.rfc4514_string() for name in dtls.get_client_ca_list(as_cryptography=True)),
            )
            self.schedule_wakeup(None)
            self.mark_ready()

    def _verdict(self, dtls: SSL.Connection) -> TrustResult | None:
        """The verdict on the peer as soon as it has shown its certificate; raises `TrustRefused`."""
        from towpath.trust.handshake import Alert, Presented, alert_for
        from towpath.trust.result import TrustRefused

        presented = Presented.from_pyopenssl(dtls)
        if not presented.chain:
            return None
        try:
            result = self._judged(presented)
            if not result.accepted:
                raise TrustRefused(result)
        except TrustRefused as refused:
            failure = refused.result.failure
            self._refuse(dtls, alert_for(failure) if failure is not None else Alert.CERTIFICATE_UNKNOWN)
            raise
        except PeerViolation:
            self._refuse(dtls, Alert.BAD_CERTIFICATE)
            raise
        return result

    def _judged(self, presented: Presented) -> TrustResult:
        from towpath.trust.anchors import Anchors
        from towpath.trust.evidence import NOTHING
        from towpath.trust.handshake import judge
        from towpath.trust.policy import Policy

        if self.link.is_server and self.clients is not None:
            return self.clients.judge(presented.chain, datetime.now(UTC))
        anchors = self.anchors if self.anchors is not None else Anchors.system()
        policy, evidence = self.policy or Policy.apple, self.evidence or NOTHING
        return judge(presented, self._name, policy, anchors, evidence=evidence)

    def _refuse(self, dtls: SSL.Connection, alert: int) -> None:
        drain(dtls)
        self.write(Message(alert_record(alert)))

    def _read(self, dtls: SSL.Connection) -> None:
        try:
            while True:
                self.deliver(Message(dtls.recv(_READ)))
        except SSL.WantReadError:
            return
        except SSL.ZeroReturnError:
            self.end_input()
        except SSL.Error as error:
            raise ConnectionFailed(self._name or "client", f"DTLS: {reason_of(error)}") from error

    def input_ended(self) -> None:
        if self._agreed is None:
            raise EndOfStream
        self.end_input()

    def _set_timer(self, dtls: SSL.Connection) -> None:
        self.schedule_wakeup(dtls.DTLSv1_get_timeout())

    def _flush(self, dtls: SSL.Connection) -> None:
        for datagram in datagrams(drain(dtls), self.mtu):
            self.write(Message(datagram))


def _context(identity: Files | None) -> SSL.Context:
    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_min_proto_version(_VERSION_1_2)
    context.set_cipher_list(_FORWARD_SECRET)
    context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET)
    if identity is not None:
        show(context, identity)
    return context
