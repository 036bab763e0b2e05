"""One peer: its keys, its sessions, its timers (sections 6.1-6.5 of the paper). Times are the device's, in seconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from towpath.extensions.wireguard.cookies import CookieJar
from towpath.extensions.wireguard.keypair import REJECT_AFTER_TIME, Keypair
from towpath.extensions.wireguard.noise import Initiator

__all__ = ["Endpoint", "Peer", "PeerTimers"]

Endpoint = tuple[str, int]
"""An IP address as text, and a port."""

REKEY_TIMEOUT = 5.0
REKEY_ATTEMPT_TIME = 90.0
KEEPALIVE_TIMEOUT = 10.0
MOST_STAGED = 128


class PeerTimers:
    """When something is due; `None` where nothing is."""

    __slots__ = ("give_up", "keepalive", "persistent", "resend", "silence", "wipe")

    def __init__(self) -> None:
        self.resend: float | None = None
        """The initiation again: no response came."""
        self.give_up: float | None = None
        """No initiation any more until there is something to send."""
        self.keepalive: float | None = None
        """Something came and nothing has been sent since."""
        self.silence: float | None = None
        """Something was sent and nothing has come since: a new handshake."""
        self.persistent: float | None = None
        self.wipe: float | None = None
        """No session is of use any more: the keys go."""

    def next(self) -> float | None:
        due = [at for at in (self.resend, self.keepalive, self.silence, self.persistent, self.wipe) if at is not None]
        return min(due, default=None)


class Peer:
    """What the device knows of one peer. The preshared key is never shown.

    `last_handshake` is in seconds since 1970, 0 for never; `received` and `sent` are bytes of messages.
    """

    def __init__(
        self,
        public: bytes,
        *,
        preshared: bytes = bytes(32),
        allowed: Sequence[IPv4Network | IPv6Network] = (),
        endpoint: Endpoint | None = None,
        keepalive: int = 0,
    ) -> None:
        self.public = public
        self.preshared = preshared
        self.allowed = tuple(allowed)
        self.endpoint = endpoint
        self.keepalive = keepalive
        self.jar = CookieJar(public)
        self.current: Keypair | None = None
        self.previous: Keypair | None = None
        self.next: Keypair | None = None
        self.initiator: Initiator | None = None
        self.initiated = float("-inf")
        self.greatest_timestamp = b""
        self.last_taken = float("-inf")
        self.timers = PeerTimers()
        self.staged: deque[bytes] = deque(maxlen=MOST_STAGED)
        self.last_handshake = 0.0
        self.handshakes = 0
        self.received = 0
        self.sent = 0

    def __repr__(self) -> str:
        import base64

        return f"Peer({base64.b64encode(self.public).decode()}, endpoint={self.endpoint})"

    def keypairs(self) -> list[Keypair]:
        return [one for one in (self.current, self.previous, self.next) if one is not None]

    def sending_keypair(self, now: float) -> Keypair | None:
        """The session to send with, or `None`."""
        current = self.current
        return current if current is not None and current.confirmed and current.usable(now) else None

    def note_sent(self, length: int, now: float, *, data: bool) -> None:
        """A message has left; `data` for one that holds a packet."""
        self.sent += length
        timers = self.timers
        timers.keepalive = None
        if data and timers.silence is None:
            timers.silence = now + KEEPALIVE_TIMEOUT + REKEY_TIMEOUT
        if self.keepalive:
            timers.persistent = now + self.keepalive

    def note_received(self, length: int, now: float, *, data: bool) -> None:
        """An authentic message has come."""
        self.received += length
        timers = self.timers
        timers.silence = None
        if data and timers.keepalive is None:
            timers.keepalive = now + KEEPALIVE_TIMEOUT
        if self.keepalive:
            timers.persistent = now + self.keepalive

    def note_session(self, now: float, wall: float) -> None:
        """A handshake is complete."""
        self.last_handshake = wall
        self.handshakes += 1
        self.initiator = None
        self.timers.resend = self.timers.give_up = None
        self.timers.wipe = now + REJECT_AFTER_TIME * 3
