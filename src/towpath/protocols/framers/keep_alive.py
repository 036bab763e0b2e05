"""Proof of a shared secret before anything else, and pings for as long as it lasts; above any message protocol.

Each message begins with its kind. Both sides say hello with a nonce and prove the secret over both nonces
(HMAC-SHA-256, RFC 2104); the side is part of what is proven, so that a proof cannot be sent back to its maker.
"""

from __future__ import annotations

import hmac
import secrets

from towpath.errors import Misuse, PeerViolation, TimedOut
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack

__all__ = ["KeepAlive"]

_DATA, _PING, _PONG, _HELLO, _PROOF = range(5)
_NONCE = 32
_MIN_SECRET = 16


class KeepAlive(Layer[None]):
    """Withholds `ready` until both sides have proven `secret`; then pings an idle link by itself.

    After `interval` seconds without a word from the peer it pings; `patience` seconds later without any word the
    connection fails with `TimedOut`. The handshake has the same patience. ::

        Parameters.tls(framers=[LengthPrefix(), KeepAlive(secret, interval=20, patience=10)])
    """

    can_ping = True

    def __init__(self, secret: bytes, interval: float = 20.0, patience: float = 10.0) -> None:
        """`secret` has at least 16 bytes. `interval` and `patience` are seconds."""
        if len(secret) < _MIN_SECRET:
            raise Misuse(f"a secret of {len(secret)} bytes: at least {_MIN_SECRET} make one")
        if interval <= 0 or patience <= 0:
            raise Misuse("interval and patience are more than 0 seconds")
        self._secret = secret
        self.interval = interval
        self.patience = patience

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._nonce = secrets.token_bytes(_NONCE)
        self._peer_nonce = b""
        self._proven = False
        self._waiting_since: float | None = None
        self._heard = 0.0

    def start(self) -> bool:
        self._say(_HELLO, self._nonce)
        self.schedule_wakeup(self.patience)
        return False

    def input(self, message: Message) -> None:
        if not message.complete:
            raise Misuse("KeepAlive stands on a message protocol: put a framer such as LengthPrefix below it")
        if not message.content:
            raise PeerViolation("keep-alive-empty", "a message without its kind")
        kind, rest = message.content[0], message.content[1:]
        self._heard = self.link.clock()
        self._waiting_since = None
        if not self._proven:
            self._handshake(kind, rest)
        elif kind == _DATA:
            self.deliver(message.with_content(rest))
        elif kind == _PING:
            self._say(_PONG)
        elif kind != _PONG:
            raise PeerViolation("keep-alive-kind", f"a message of kind {kind} after the handshake")

    def output(self, message: Message) -> None:
        if not message.complete:
            raise Misuse("KeepAlive sends whole messages only")
        self.write(message.with_content(bytes((_DATA,)) + message.content))

    def wakeup(self) -> None:
        now = self.link.clock()
        if not self._proven:
            raise TimedOut("the proof of the shared secret", self.patience)
        if self._waiting_since is not None and now - self._waiting_since >= self.patience:
            raise TimedOut("the answer to a ping", self.patience)
        if self._waiting_since is None and now - self._heard >= self.interval:
            self.ping()
        self._reschedule(now)

    def ping(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self.link.clock()
        self._say(_PING)

    def _handshake(self, kind: int, rest: bytes) -> None:
        if kind == _HELLO and not self._peer_nonce and len(rest) == _NONCE:
            self._peer_nonce = rest
            self._say(_PROOF, self._proof(self.link.is_server, self._nonce, rest))
        elif kind == _PROOF and self._peer_nonce:
            wanted = self._proof(not self.link.is_server, self._peer_nonce, self._nonce)
            if not hmac.compare_digest(wanted, rest):
                raise PeerViolation("keep-alive-proof", "the peer does not know the secret")
            self._proven = True
            self._reschedule(self._heard)
            self.mark_ready()
        else:
            raise PeerViolation("keep-alive-handshake", f"a message of kind {kind} with {len(rest)} bytes")

    def _reschedule(self, now: float) -> None:
        if self._waiting_since is not None:
            self.schedule_wakeup(self._waiting_since + self.patience - now)
        else:
            self.schedule_wakeup(self._heard + self.interval - now)

    def _proof(self, is_server: bool, own: bytes, other: bytes) -> bytes:
        said = (b"server" if is_server else b"client") + own + other
        return hmac.digest(self._secret, said, "sha256")

    def _say(self, kind: int, rest: bytes = b"") -> None:
        self.write(Message(bytes((kind,)) + rest))
