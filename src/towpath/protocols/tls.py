"""TLS 1.2 and 1.3 as a layer (RFC 8446, RFC 5246), over the standard library's memory buffers.

Certificates are judged by `towpath.trust`, before this side's next flight leaves: a refused peer gets the alert that
says why instead of it.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towpath.errors import ConnectionFailed, Misuse, PeerViolation, TowpathError
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack
from towpath.protocols.tls_alert import alert_record, reason_of

if TYPE_CHECKING:
    from OpenSSL import SSL

    from towpath.protocols.credentials import Files, Identities
    from towpath.protocols.openssl_object import OpensslObject, OpensslSettings
    from towpath.trust.anchors import Anchors
    from towpath.trust.context import TrustContext
    from towpath.trust.evidence import Evidence
    from towpath.trust.identities import ClientPolicy
    from towpath.trust.policy import Policy
    from towpath.trust.result import TrustResult

__all__ = ["Tls", "TlsDetails"]

_READ = 1 << 16
_MAX_SESSIONS = 256


@dataclass(frozen=True, slots=True)
class TlsDetails:
    """What was agreed: version (``TLSv1.3``), cipher suite, ALPN protocol, and the verdict on the peer."""

    version: str
    cipher: str
    alpn: str | None
    resumed: bool
    trust: TrustResult | None
    """`None` where no certificate was asked for: of the clients of a server without `clients`."""
    acceptable: tuple[str, ...] = ()
    """The authorities whose clients the server accepts (RFC 4514 names), as far as a client with `identities` saw."""


@dataclass(frozen=True, slots=True)
class _Known:
    """A session that can be resumed, with the verdict on the certificate of its full handshake."""

    session: ssl.SSLSession
    trust: TrustResult


class _Shared:
    """What all connections of one pattern have in common: contexts are dear to make, sessions are to be found again."""

    def __init__(self) -> None:
        self.client: TrustContext | None = None
        self.server: ssl.SSLContext | None = None
        self.openssl: OpensslSettings | None = None
        self.demanding: SSL.Context | None = None
        """A server's that demands certificates."""
        self.sessions: OrderedDict[str, _Known] = OrderedDict()

    def remember(self, name: str, session: ssl.SSLSession, trust: TrustResult) -> None:
        self.sessions[name] = _Known(session, trust)
        self.sessions.move_to_end(name)
        if len(self.sessions) > _MAX_SESSIONS:
            self.sessions.popitem(last=False)

    def known(self, name: str) -> _Known | None:
        """A session whose verdict is still what it was: resuming must not outlive the certificate."""
        found = self.sessions.get(name)
        if found is None:
            return None
        until = found.trust.unchanged_before()
        if until is not None and found.trust.at <= datetime.now(UTC) < until:
            return found
        del self.sessions[name]
        return None


class Tls(Layer[TlsDetails]):
    """TLS over a byte stream. ::

    Parameters.tls(server_name="www.example.com", alpn=["h2"])
    Parameters.tls(identity=(Path("server.pem"), Path("server.key")))    # for a listener
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
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
        resumption: bool = True,
        key_log: Path | None = None,
    ) -> None:
        """All are optional for a client.

        `server_name` replaces the endpoint's host, in SNI and in the judgement. `policy` is `Policy.apple`, `anchors`
        the system's. `identity` is a chain and a key in PEM files: a server needs one, a client shows it when asked.
        `identities` are what a client chooses from by the authorities that the server accepts (the one in date that is
        valid longest), or a function that chooses: it is given their names, none where any will do, and gives files or
        `None`. A server with `clients` demands certificates, and says from whom. Neither resumes sessions. `key_log`
        gets the secrets in the form of NSS, for debugging.
        """
        self.server_name = server_name
        self.alpn = tuple(alpn)
        self.policy = policy
        self.anchors = anchors
        self.evidence = evidence
        self.identity = identity
        self.identities = identities if callable(identities) else tuple(identities)
        self.clients = clients
        self.minimum = minimum
        self.maximum = maximum
        self.resumption = resumption
        self.key_log = key_log
        self._shared = _Shared()

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object: ssl.SSLObject | OpensslObject | None = None
        self._agreed: TlsDetails | None = None
        self._trust: TrustResult | None = None
        self._resuming: _Known | None = None
        self._name = ""
        self._keep_session = False
        self._input_over = False

    def start(self) -> bool:
        self._object = self._wrap()
        self._handshake(self._object)
        return False

    def input(self, message: Message) -> None:
        self._incoming.write(message.content)
        tls = self._object
        if tls is None:
            raise Misuse("TLS got bytes before it was started")
        if self._agreed is None:
            self._handshake(tls)
            if self._agreed is None:
                return
        self._read(tls)

    def input_ended(self) -> None:
        if not self._input_over:
            # RFC 8446 section 6.1: without close_notify the end may be an attacker's.
            raise PeerViolation("tls-truncated", "the stream ended without close_notify")

    def output(self, message: Message) -> None:
        if self._object is None:
            raise Misuse("TLS is not started")
        if message.content:
            self._object.write(message.content)
            self.write(Message(self._outgoing.read(), False))

    def output_ended(self) -> None:
        self._say_goodbye()
        self.end_output()

    def stop(self) -> bool:
        if self._agreed is not None:
            self._say_goodbye()
        return True

    def describe(self) -> TlsDetails | None:
        return self._agreed

    def _wrap(self) -> ssl.SSLObject | OpensslObject:
        self._name = self.server_name or self.link.host or ""
        if self.link.is_server:
            if self.clients is not None:
                return self._demanding(self.clients)
            context = self._shared.server = self._shared.server or self._server_context()
            return context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        if not self._name:
            error = Misuse("TLS needs to know whom it talks to, and the endpoint has no host")
            error.hint = "give Parameters.tls a server_name"
            raise error
        context = self._shared.client = self._shared.client or self._client_context()
        name = self._name.partition("%")[0]
        if self.identities:
            return self._choosing(name, context)
        self._resuming = self._shared.known(self._name) if self.resumption else None
        session = self._resuming.session if self._resuming else None
        return context.wrap_bio(self._incoming, self._outgoing, server_hostname=name, session=session)

    def _choosing(self, name: str, judge: TrustContext) -> OpensslObject:
        from towpath.protocols.openssl_object import OpensslObject

        settings = self._shared.openssl = self._shared.openssl or self._openssl(judge)
        return OpensslObject.to_server(settings, name, self.identities, (self._incoming, self._outgoing))

    def _demanding(self, clients: ClientPolicy) -> OpensslObject:
        from towpath.protocols.openssl_object import OpensslObject
        from towpath.trust.context import client_judge

        settings = self._shared.openssl = self._shared.openssl or self._openssl(client_judge(clients))
        context = self._shared.demanding
        if context is None:
            context = settings.for_server(self._own_identity())
            self._shared.demanding = context
        return OpensslObject.to_client(settings, context, (self._incoming, self._outgoing))

    def _openssl(self, judge: TrustContext) -> OpensslSettings:
        from towpath.protocols.openssl_object import OpensslSettings

        return OpensslSettings(judge, alpn=self.alpn, minimum=self.minimum, maximum=self.maximum, key_log=self.key_log)

    def _client_context(self) -> TrustContext:
        from towpath.trust.context import ssl_context
        from towpath.trust.evidence import NOTHING
        from towpath.trust.policy import Policy

        context = ssl_context(self.policy or Policy.apple, self.anchors, evidence=self.evidence or NOTHING)
        if self.identity is not None:
            context.load_cert_chain(*self.identity)
        self._equip(context)
        return context

    def _server_context(self) -> ssl.SSLContext:
        from towpath.trust.context import server_context

        context = server_context(*self._own_identity())
        self._equip(context)
        return context

    def _own_identity(self) -> Files:
        if self.identity is None:
            error = Misuse("a TLS server needs a certificate and its key")
            error.hint = "give Parameters.tls an identity: (chain.pem, key.pem)"
            raise error
        return self.identity

    def _equip(self, context: ssl.SSLContext) -> None:
        # Judged here, once and before the next flight leaves, instead of when the handshake is over.
        context.sslobject_class = ssl.SSLObject
        context.minimum_version, context.maximum_version = self.minimum, self.maximum
        if self.alpn:
            context.set_alpn_protocols(list(self.alpn))
        if self.key_log is not None:
            context.keylog_filename = str(self.key_log)

    def _handshake(self, tls: ssl.SSLObject | OpensslObject) -> None:
        done = False
        try:
            tls.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._flush()
            raise self._failure(tls, error) from error
        if self._trust is None:
            self._trust = self._verdict(tls, done)
        self._flush()
        if done:
            cipher = tls.cipher()
            self._agreed = TlsDetails(
                version=tls.version() or "",
                cipher=cipher[0] if cipher else "",
                alpn=tls.selected_alpn_protocol(),
                resumed=bool(tls.session_reused),
                trust=self._trust,
                acceptable=_acceptable(tls),
            )
            self._keep_session = self.resumption and not self.link.is_server
            self.mark_ready()

    def _verdict(self, tls: ssl.SSLObject | OpensslObject, done: bool) -> TrustResult | None:
        """The verdict on the peer as soon as it has shown its certificate; raises `TrustRefused`."""
        from towpath.trust.context import TrustContext
        from towpath.trust.handshake import alert_for
        from towpath.trust.result import TrustRefused

        context = tls.context
        if not isinstance(context, TrustContext):
            return None
        if not done and not _shows_certificate(tls):
            return None
        if done and self._resuming is not None and tls.session_reused:
            return self._resuming.trust
        if done and self.link.is_server and tls.session_reused:
            # The client was judged when the session was made, and a ticket is the server's own word on that.
            return None
        try:
            return context.judge(tls, tls.server_hostname)
        except TrustRefused as refused:
            self._outgoing.read()
            failure = refused.result.failure
            if failure is not None:
                self.write(Message(alert_record(alert_for(failure)), False))
            raise

    def _failure(self, tls: ssl.SSLObject | OpensslObject, error: ssl.SSLError) -> Exception:
        """The error that says it best: our own verdict where OpenSSL refused a certificate."""
        from towpath.trust.context import TrustContext
        from towpath.trust.result import TrustRefused

        if isinstance(error, TrustRefused):
            return error
        if isinstance(error, ssl.SSLCertVerificationError) and isinstance(tls.context, TrustContext):
            try:
                tls.context.judge(tls, tls.server_hostname)
            except TrustRefused as refused:
                return refused
            except TowpathError:
                pass
        return ConnectionFailed(self._name or "client", f"TLS: {reason_of(error)}")

    def _read(self, tls: ssl.SSLObject | OpensslObject) -> None:
        try:
            while True:
                content = tls.read(_READ)
                if not content:
                    self._input_over = True
                    break
                self.deliver(Message(content, False))
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._input_over = True
        except ssl.SSLError as error:
            self._flush()
            raise self._failure(tls, error) from error
        if self._outgoing.pending:
            self._flush()
        if self._keep_session and self._trust is not None:
            # In TLS 1.3 the session comes after the handshake (RFC 8446 section 4.6.1), with or before the first data.
            session = tls.session
            if session is not None and session.has_ticket:
                self._shared.remember(self._name, session, self._trust)
                self._keep_session = False
        if self._input_over:
            self.end_input()

    def _say_goodbye(self) -> None:
        if self._object is None:
            return
        try:
            self._object.unwrap()
        except (ssl.SSLError, OSError):
            pass  # the peer's own close_notify is not waited for
        self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self.write(Message(data, False))


def _shows_certificate(tls: ssl.SSLObject | OpensslObject) -> bool:
    inner: Any = getattr(tls, "_sslobj", None)
    source: Any = tls if hasattr(tls, "get_unverified_chain") else inner
    return bool(source is not None and source.get_unverified_chain())


def _acceptable(tls: ssl.SSLObject | OpensslObject) -> tuple[str, ...]:
    return () if isinstance(tls, ssl.SSLObject) else tuple(name.rfc4514_string() for name in tls.acceptable)
