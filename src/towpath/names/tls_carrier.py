"""A carrier of DNS messages inside of TLS (RFC 7858), which proves who answers."""

from __future__ import annotations

import ssl
from collections.abc import Hashable

from towpath.names.carriers import Carrier

__all__ = ["Sessions", "TlsCarrier", "tls_context"]

_CHUNK = 1 << 16
_MOST_SESSIONS = 64


def tls_context(authority: str = "", identity: str = "", protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """What connections to one kind of server share: whom to trust, who we are, what is spoken inside (ALPN).

    `authority` is a PEM file in place of the system's authorities, `identity` one with a certificate and its key.
    Raises `OSError` (as `ssl.SSLError`) for a file that cannot be used.
    """
    context = ssl.create_default_context(cafile=authority or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity:
        context.load_cert_chain(identity)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


class Sessions:
    """What servers gave to come back with (RFC 8446 section 2.2): a handshake without certificates the next time."""

    def __init__(self) -> None:
        self._known: dict[tuple[ssl.SSLContext, Hashable], ssl.SSLSession] = {}

    def find(self, context: ssl.SSLContext, server: Hashable) -> ssl.SSLSession | None:
        return self._known.get((context, server))

    def keep(self, context: ssl.SSLContext, server: Hashable, session: ssl.SSLSession) -> None:
        if len(self._known) >= _MOST_SESSIONS:
            del self._known[next(iter(self._known))]
        self._known[context, server] = session


class TlsCarrier:
    """Another carrier inside of TLS. `wanted` is the protocol that the server has to choose, "" for none.

    With `sessions` it comes back to a `server` as one that is known there: the name was checked the first time, so a
    `server` is one name.
    """

    def __init__(
        self,
        context: ssl.SSLContext,
        name: str,
        inner: Carrier,
        wanted: str = "",
        sessions: Sessions | None = None,
        server: Hashable = None,
    ) -> None:
        self._context, self._sessions, self._server = context, sessions, server
        self.ended = ""
        self._inner = inner
        self._wanted = wanted
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = sessions.find(context, server) if sessions is not None else None
        self._tls = context.wrap_bio(self._come, self._go, server_hostname=name, session=session)
        self._ready = False

    def start(self) -> None:
        self._inner.start()
        self._shake()

    def ask(self, message: bytes) -> None:
        self._inner.ask(message)

    def received(self, data: bytes) -> list[bytes]:
        if not data:
            self.ended = self.ended or self._inner.ended or "the server ended the connection"
            return []
        self._come.write(data)
        if not self._ready:
            self._shake()
        found: list[bytes] = []
        while self._ready and not self.ended:
            try:
                plain = self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                break
            except (ssl.SSLError, OSError) as error:
                self._fail(error)
                break
            found += self._inner.received(plain)
            self._remember()
            self.ended = self._inner.ended
            self._write()
            if not plain:
                break
        return found

    def lost(self) -> list[tuple[int, str]]:
        return self._inner.lost()

    def outgoing(self) -> bytes:
        """Questions that were asked since the last time share a record."""
        self._write()
        return self._go.read()

    def _remember(self) -> None:
        """Tickets come after the handshake, before the first answer."""
        if self._sessions is not None:
            session = self._tls.session
            if session is not None and session.has_ticket:
                self._sessions.keep(self._context, self._server, session)
                self._sessions = None

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return
        except (ssl.SSLError, OSError) as error:
            self._fail(error)
            return
        chosen = self._tls.selected_alpn_protocol() or ""
        if self._wanted and chosen != self._wanted:
            self.ended = f"the server does not speak {self._wanted}"
            return
        self._ready = True
        self._write()

    def _write(self) -> None:
        """What the inner carrier has to say, once it can be said; it stays there until then."""
        if not self._ready or self.ended:
            return
        plain = self._inner.outgoing()
        if plain:
            try:
                self._tls.write(plain)
            except (ssl.SSLError, OSError) as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        words = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
        self.ended = f"TLS: {words}"
