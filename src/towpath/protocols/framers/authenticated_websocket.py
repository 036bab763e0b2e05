"""Proof of a shared secret over WebSocket before anything else, and pings for as long as it lasts.

The proof goes in two text messages each way, so that it can be read in a browser's tools: ``hello NONCE`` and
``proof HMAC`` (HMAC-SHA-256 over the side and both nonces, RFC 2104, in hexadecimal). Afterwards every message is the
program's, with its own opcode, and the pings are those of WebSocket, which any peer answers by itself.
"""

from __future__ import annotations

import hmac
import secrets

from towpath.errors import Misuse, PeerViolation, TimedOut
from towpath.protocols.layer import Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack
from towpath.protocols.websocket import WebSocket, WebSocketFramer
from towpath.protocols.websocket_close import CloseCode
from towpath.protocols.websocket_frames import Opcode

__all__ = ["AuthenticatedWebSocket"]

_MIN_SECRET = 16
_NONCE = 32


class AuthenticatedWebSocket(WebSocketFramer[None]):
    """Withholds `ready` until both sides have proven `secret`; then pings an idle link by itself.

    After `interval` seconds without a word from the peer it pings; `patience` seconds later without its pong, or any
    other word, the connection fails with `TimedOut`. The proof has the same patience; a peer that cannot give it is
    closed with 1008. The program sees none of this. ::

        Parameters.websocket(framers=[AuthenticatedWebSocket(secret, interval=20, patience=10)])
    """

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
        self._nonce = secrets.token_hex(_NONCE)
        self._peer_nonce = ""
        self._proven = False
        self._heard = 0.0
        self._pinged: float | None = None

    def start(self) -> bool:
        self.write(WebSocket.text(f"hello {self._nonce}"))
        self.schedule_wakeup(self.patience)
        return False

    def input_data(self, message: Message) -> None:
        if self._proven:
            self._hear()
            self.deliver(message)
            return
        kind, _space, value = message.content.decode("latin-1").partition(" ")
        if WebSocket.opcode(message) is not Opcode.TEXT:
            self._refuse("a binary message before the proof")
        elif kind == "hello" and not self._peer_nonce and len(value) == 2 * _NONCE:
            self._peer_nonce = value
            self.write(WebSocket.text(f"proof {self._proof(self.link.is_server, self._nonce, value)}"))
        elif kind == "proof" and self._peer_nonce:
            wanted = self._proof(not self.link.is_server, self._peer_nonce, self._nonce)
            if not hmac.compare_digest(wanted.encode(), value.encode("latin-1")):
                self._refuse("the peer does not know the secret")
            self._proven = True
            self._hear()
            self.schedule_wakeup(self.interval)
            self.mark_ready()
        else:
            self._refuse("neither hello nor proof in their turn")

    def input_control(self, message: Message) -> None:
        self._hear()

    def wakeup(self) -> None:
        now = self.link.clock()
        if not self._proven:
            raise TimedOut("the proof of the shared secret", self.patience)
        if self._pinged is not None:
            if now - self._pinged >= self.patience:
                raise TimedOut("the answer to a ping", self.patience)
            self.schedule_wakeup(self._pinged + self.patience - now)
        elif now - self._heard >= self.interval:
            self._pinged = now
            self.write(WebSocket.ping_message())
            self.schedule_wakeup(self.patience)
        else:
            self.schedule_wakeup(self._heard + self.interval - now)

    def _hear(self) -> None:
        self._heard = self.link.clock()
        if self._pinged is not None:
            self._pinged = None
            self.schedule_wakeup(self.interval)

    def _refuse(self, why: str) -> None:
        self.write(WebSocket.close(CloseCode.POLICY_VIOLATION, "authentication failed"))
        raise PeerViolation("authentication", why)

    def _proof(self, of_server: bool, own: str, other: str) -> str:
        said = f"{'server' if of_server else 'client'} {own} {other}"
        return hmac.digest(self._secret, said.encode("latin-1"), "sha256").hex()
