"""QUIC as a transport (RFC 9000, RFC 9001, datagrams by RFC 9221): what can be set, what was agreed, how it ends."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, TypeVar

from towpath.errors import ConnectionFailed, Misuse

if TYPE_CHECKING:
    from aioquic.tls import SessionTicket

    from towpath.protocols.credentials import Files, Identities
    from towpath.trust.anchors import Anchors
    from towpath.trust.evidence import Evidence
    from towpath.trust.identities import ClientPolicy
    from towpath.trust.policy import Policy
    from towpath.trust.result import TrustResult

__all__ = ["Quic", "QuicClosed", "QuicDetails", "QuicMemory", "Ticket"]

_T = TypeVar("_T")
_MAX_TICKETS = 256
_CRYPTO_ERROR = 0x100


@dataclass(frozen=True, slots=True)
class QuicDetails:
    """What was agreed: version (1 or 2 of QUIC), cipher suite, ALPN protocol, and the verdict on the peer.

    `early` says that data which went before the handshake was over were accepted. `datagram_size` is the largest
    datagram in bytes, 0 where the peer takes none.
    """

    version: int
    cipher: str
    alpn: str | None
    resumed: bool
    early: bool
    datagram_size: int
    trust: TrustResult | None
    """`None` where no certificate was asked for: of the clients of a server without `clients`."""


class QuicClosed(ConnectionFailed):
    """The QUIC connection has ended.

    `code` is the application's own where `by_application`, else a transport error (RFC 9000 section 20.1); `alert` the
    TLS alert in one of 0x100 to 0x1ff. `by_peer` says who closed it.
    """

    def __init__(
        self, endpoint: str, words: str, code: int, *, by_application: bool, by_peer: bool, errno: int | None = None
    ) -> None:
        super().__init__(endpoint, words, errno=errno)
        self.code = code
        self.by_application = by_application
        self.by_peer = by_peer

    @property
    def alert(self) -> int | None:
        inside = not self.by_application and _CRYPTO_ERROR <= self.code < 2 * _CRYPTO_ERROR
        return self.code - _CRYPTO_ERROR if inside else None


@dataclass(frozen=True, slots=True)
class Ticket:
    """A session that can be resumed, with the verdict on the certificate of its full handshake."""

    session: SessionTicket
    trust: TrustResult


class _Bounded(Generic[_T]):
    """The newest entries, 256 at most; each is taken once."""

    def __init__(self) -> None:
        self._entries: OrderedDict[object, _T] = OrderedDict()

    def put(self, key: object, entry: _T) -> None:
        self._entries[key] = entry
        self._entries.move_to_end(key)
        if len(self._entries) > _MAX_TICKETS:
            self._entries.popitem(last=False)

    def take(self, key: object) -> _T | None:
        return self._entries.pop(key, None)


class QuicMemory:
    """What connections with the same options have in common: tickets, on both sides.

    Each ticket serves once. For a client that keeps its connections from being linked (RFC 8446 appendix C.4), for
    a server it means that early data which are replayed find no key (section 8.1).
    """

    def __init__(self) -> None:
        self._client: _Bounded[Ticket] = _Bounded()
        self._server: _Bounded[SessionTicket] = _Bounded()

    def remember(self, name: str, session: SessionTicket, trust: TrustResult) -> None:
        self._client.put(name, Ticket(session, trust))

    def known(self, name: str) -> Ticket | None:
        """A ticket whose verdict is still what it was: resuming must not outlive the certificate."""
        found = self._client.take(name)
        until = found.trust.unchanged_before() if found is not None else None
        if found is None or until is None or not found.trust.at <= datetime.now(UTC) < until:
            return None
        return found

    def issue(self, session: SessionTicket) -> None:
        self._server.put(session.ticket, session)

    def redeem(self, ticket: bytes) -> SessionTicket | None:
        return self._server.take(ticket)


@dataclass(frozen=True, slots=True)
class Quic:
    """Streams and datagrams over UDP, always with TLS 1.3. ::

    Parameters.quic(alpn=["news"])
    Parameters.quic(alpn=["news"], identity=(Path("server.pem"), Path("server.key")))    # for a listener

    `server_name` replaces the endpoint's host, in SNI and in the judgement. `policy` is `Policy.apple`, `anchors` the
    system's. `identity` is a chain and a key in PEM files: a server needs one; `identities` are what a client chooses
    from by the authorities that the server accepts, or a function that chooses (see `Tls`). A server with `clients`
    demands certificates. Raises `Misuse` without an ALPN protocol, which QUIC needs (RFC 9001 section 8.1).
    """

    alpn: Sequence[str]
    server_name: str | None = None
    policy: Policy | None = None
    anchors: Anchors | None = None
    evidence: Evidence | None = None
    identity: Files | None = None
    identities: Identities = ()
    clients: ClientPolicy | None = None
    idle_timeout: float = 30.0
    """Seconds of silence after which the connection is dead (RFC 9000 section 10.1); the peer may want less."""
    keep_alive: float | None = None
    """Seconds of silence after which a ping is sent, so that no idle timeout and no router ends the connection."""
    early_data: bool = False
    """Idempotent messages may leave before the handshake is over (0-RTT), and a server takes them: they can be replayed
    by anybody who records them (RFC 9001 section 9.2)."""
    resumption: bool = True
    datagrams: int = 65_535
    """The largest datagram that is taken, in bytes; 0 for none (RFC 9221 section 3)."""
    prove_address_above: int = 64
    """A server lets new clients prove their address (Retry, RFC 9000 section 8.1.2) while so many handshakes go on."""
    memory: QuicMemory = field(default_factory=QuicMemory, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.alpn:
            error = Misuse("QUIC needs an ALPN protocol")
            error.hint = 'name what is spoken: Parameters.quic(alpn=["h3"])'
            raise error
        if self.idle_timeout <= 0 or (self.keep_alive is not None and self.keep_alive <= 0):
            raise Misuse("an idle timeout and a keep-alive have more than 0 seconds")
