"""TLS 1.2 with a key that both sides know, instead of certificates (RFC 4279, RFC 5489, advice in RFC 9257).

OpenSSL asks for keys by callbacks of its context, which the library binds and gives no method for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from towpath.errors import ConnectionFailed, Misuse, PeerViolation
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.openssl_buffers import drain, reason_of
from towpath.protocols.stack import Stack

__all__ = ["PskDetails", "TlsPsk"]

_READ = 1 << 16
_LEAST_KEY = 16
_SUITES = b"ECDHE-PSK-CHACHA20-POLY1305:ECDHE-PSK-AES256-CBC-SHA384:ECDHE-PSK-AES128-CBC-SHA256"
"""Only with ephemeral keys: a key that is stolen later opens no old conversation."""


@dataclass(frozen=True, slots=True)
class PskDetails:
    """What was agreed: version, cipher suite, and the identity under which the key is known (it travels in clear)."""

    version: str
    cipher: str
    identity: str


class TlsPsk(Layer[PskDetails]):
    """TLS over a byte stream between two who share a key, such as an accessory and its owner. ::

    Parameters.tcp(framers=[TlsPsk(key, identity="player"), Tlv()])
    Parameters.tcp(framers=[TlsPsk(lookup=keys.get), Tlv()])    # a server with many clients

    The key is random, 16 bytes at least: a password would be guessed by whoever listens (RFC 9257 section 6).
    """

    def __init__(
        self, key: bytes = b"", *, identity: str = "", lookup: Callable[[str], bytes | None] | None = None
    ) -> None:
        """A client needs key and identity; a server takes that identity alone, or those that `lookup` has keys for.

        Raises `Misuse` for a key of less than 16 bytes, or an identity of more than 128.
        """
        if lookup is None and len(key) < _LEAST_KEY:
            error = Misuse(f"a key of {len(key)} bytes can be guessed")
            error.hint = f"make one with secrets.token_bytes({2 * _LEAST_KEY})"
            raise error
        if len(identity.encode()) > 128 or "\0" in identity:
            raise Misuse(f"{identity!r} is no identity: it has 128 bytes at most, and no zero (RFC 4279 section 5.1)")
        self.key = key
        self.identity = identity
        self.lookup = lookup

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._tls: SSL.Connection | None = None
        self._agreed: PskDetails | None = None
        self._used = self.identity
        self._problem: Exception | None = None
        self._input_over = False
        # It has to live as long as the connection may call it.
        self._callback: Any = None

    def start(self) -> bool:
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_SUITES)
        context.set_options(SSL.OP_NO_TICKET)
        if self.link.is_server:
            self._callback = ffi.callback("unsigned (*)(SSL *, const char *, unsigned char *, unsigned)", self._found)
            lib.SSL_CTX_set_psk_server_callback(context._context, self._callback)
        else:
            signature = "unsigned (*)(SSL *, const char *, char *, unsigned, unsigned char *, unsigned)"
            self._callback = ffi.callback(signature, self._shown)
            lib.SSL_CTX_set_psk_client_callback(context._context, self._callback)
        self._tls = SSL.Connection(context, None)
        if self.link.is_server:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()
        self._handshake(self._tls)
        return False

    def input(self, message: Message) -> None:
        tls = self._tls
        if tls is None or not message.content:
            return
        tls.bio_write(message.content)
        if self._agreed is None:
            self._handshake(tls)
            if self._agreed is None:
                return
        self._read(tls)

    def input_ended(self) -> None:
        if not self._input_over:
            # RFC 5246 section 7.2.1: without close_notify the end may be an attacker's.
            raise PeerViolation("tls-truncated", "the stream ended without close_notify")

    def output(self, message: Message) -> None:
        tls = self._tls
        if tls is None:
            raise Misuse("TLS is not started")
        if message.content:
            tls.sendall(message.content)
            self._flush(tls)

    def output_ended(self) -> None:
        self._say_goodbye()
        self.end_output()

    def stop(self) -> bool:
        if self._agreed is not None:
            self._say_goodbye()
        return True

    def describe(self) -> PskDetails | None:
        return self._agreed

    def _shown(self, ssl: object, hint: object, identity: Any, room: int, key: Any, key_room: int) -> int:
        """SSL_CTX_set_psk_client_callback(3)."""
        name = self.identity.encode() + b"\0"
        if len(name) > room or len(self.key) > key_room:
            return 0
        ffi.memmove(identity, name, len(name))
        ffi.memmove(key, self.key, len(self.key))
        return len(self.key)

    def _found(self, ssl: object, identity: Any, key: Any, room: int) -> int:
        """SSL_CTX_set_psk_server_callback(3): 0 refuses the client."""
        try:
            self._used = ffi.string(identity).decode()
            known = self._key_for(self._used)
        except UnicodeDecodeError:
            return 0
        except Exception as error:  # none can pass through OpenSSL
            self._problem = error
            return 0
        if known is None or not _LEAST_KEY <= len(known) <= room:
            return 0
        ffi.memmove(key, known, len(known))
        return len(known)

    def _key_for(self, identity: str) -> bytes | None:
        if self.lookup is not None:
            return self.lookup(identity)
        return self.key if identity == self.identity else None

    def _handshake(self, tls: SSL.Connection) -> None:
        try:
            tls.do_handshake()
        except SSL.WantReadError:
            self._flush(tls)
            return
        except SSL.Error as error:
            self._flush(tls)
            raise self._problem or self._failure(error) from error
        self._flush(tls)
        self._agreed = PskDetails(tls.get_protocol_version_name(), tls.get_cipher_name() or "", self._used)
        self.mark_ready()

    def _failure(self, error: SSL.Error) -> ConnectionFailed:
        who = self.link.host or "client"
        hint = "both sides need the same key under the same identity" if self._agreed is None else None
        return ConnectionFailed(who, f"TLS with a shared key: {reason_of(error)}", hint=hint)

    def _read(self, tls: SSL.Connection) -> None:
        try:
            while True:
                self.deliver(Message(tls.recv(_READ), False))
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._input_over = True
        except SSL.Error as error:
            self._flush(tls)
            raise self._failure(error) from error
        self._flush(tls)
        if self._input_over:
            self.end_input()

    def _say_goodbye(self) -> None:
        if self._tls is None:
            return
        try:
            self._tls.shutdown()
        except SSL.Error:
            pass  # the peer's own close_notify is not waited for
        self._flush(self._tls)

    def _flush(self, tls: SSL.Connection) -> None:
        data = drain(tls)
        if data:
            self.write(Message(data, False))
