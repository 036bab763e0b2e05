"""A carrier of DNS messages inside of TLS (RFC 7858), which proves who answers."""

from __future__ import annotations

import ssl

from towpath.names.carriers import Carrier

__all__ = ["TlsCarrier", "tls_context"]

_CHUNK = 1 << 16


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


class TlsCarrier:
    """Another carrier inside of TLS. `wanted` is the protocol that the server has to choose, "" for none."""

    def __init__(self, context: ssl.SSLContext, name: str, inner: Carrier, wanted: str = "") -> None:
        self.ended = ""
        self._inner = inner
        self._wanted = wanted
        self._come, self._go = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._go, server_hostname=name)
        self._ready = False

    def start(self) -> None:
        self._inner.start()
        self._shake()

    def ask(self, message: bytes) -> None:
        self._inner.ask(message)
        self._write()

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
            self.ended = self._inner.ended
            self._write()
            if not plain:
                break
        return found

    def lost(self) -> list[tuple[int, str]]:
        return self._inner.lost()

    def outgoing(self) -> bytes:
        return self._go.read()

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
