"""The keys of one session between two peers, and the window that lets no packet be taken twice (section 5.4.6)."""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from towpath.errors import PeerViolation
from towpath.extensions.wireguard.noise import hash_of

__all__ = ["DATA", "DATA_HEAD", "Keypair", "ReplayWindow", "TAG_SIZE"]

DATA = 4
DATA_HEAD = struct.Struct("<IIQ")
TAG_SIZE = 16
REKEY_AFTER_TIME, REJECT_AFTER_TIME = 120.0, 180.0
REKEY_AFTER_MESSAGES = 1 << 60
REJECT_AFTER_MESSAGES = (1 << 64) - (1 << 13) - 1
_WINDOW = 8192


class ReplayWindow:
    """Which counters have come: each is taken once, and none that is `_WINDOW` or more behind the greatest.

    >>> window = ReplayWindow()
    >>> [window.take(counter) for counter in (0, 1, 1, 5, 3, 3)]
    [True, True, False, True, True, False]
    """

    __slots__ = ("_next", "_seen")

    def __init__(self) -> None:
        self._next = 0
        self._seen = 0  # bit n: `_next - 1 - n` has come

    def take(self, counter: int) -> bool:
        """Whether `counter` is new; then it is not so any more."""
        ahead = counter - self._next
        if ahead >= 0:
            self._seen = (self._seen << ahead + 1 | 1) & _MASK if ahead < _WINDOW else 1
            self._next = counter + 1
            return True
        bit = 1 << -ahead - 1
        if -ahead > _WINDOW or self._seen & bit:
            return False
        self._seen |= bit
        return True

    def take_row(self, counters: list[int]) -> bool:
        """The same for several; False, and nothing taken, unless all are new."""
        first, count = counters[0], len(counters)
        ahead = first - self._next
        before = self._next, self._seen
        if ahead >= 0 and count <= _WINDOW and counters == list(range(first, first + count)):
            shift = ahead + count
            self._seen = ((self._seen << shift if shift < _WINDOW else 0) | (1 << count) - 1) & _MASK
            self._next = first + count
        elif not all(map(self.take, counters)):
            self._next, self._seen = before
            return False
        return True


_MASK = (1 << _WINDOW) - 1


class Keypair:
    """One session: `index` is ours, `peer_index` the peer's. Times are of the clock that the device is told."""

    __slots__ = (
        "_keys", "confirmed", "counter", "index", "initiator", "made", "peer_index", "receiving", "sending", "window",
    )  # fmt: skip

    def __init__(
        self, index: int, peer_index: int, send: bytes, receive: bytes, made: float, *, initiator: bool
    ) -> None:
        self.index = index
        self.peer_index = peer_index
        self._keys = send, receive
        self.sending = ChaCha20Poly1305(send)
        self.receiving = ChaCha20Poly1305(receive)
        self.made = made
        self.initiator = initiator
        self.counter = 0
        self.window = ReplayWindow()
        self.confirmed = initiator
        """The responder may send only after the initiator's first data packet."""

    def derived(self, label: bytes) -> tuple[bytes, bytes]:
        """Keys of this session for another use than WireGuard's: to send with, and to receive with."""
        send, receive = self._keys
        return hash_of(label, send), hash_of(label, receive)

    def usable(self, now: float) -> bool:
        return now - self.made < REJECT_AFTER_TIME and self.counter < REJECT_AFTER_MESSAGES

    def seal(self, packet: bytes) -> bytes:
        """A data message with a whole packet, or with nothing: a keepalive. Padded to 16 bytes (section 5.4.6)."""
        counter = self.counter
        self.counter = counter + 1
        plain = packet + bytes(-len(packet) & 15)
        sealed = self.sending.encrypt(bytes(4) + counter.to_bytes(8, "little"), plain, None)
        return DATA_HEAD.pack(DATA, self.peer_index, counter) + sealed

    def open(self, message: bytes | memoryview, counter: int) -> bytes:
        """The packet of a data message, its padding still there. Raises `PeerViolation`."""
        try:
            plain = self.receiving.decrypt(bytes(4) + counter.to_bytes(8, "little"), message[16:], None)
        except (InvalidTag, ValueError):
            raise PeerViolation("data-authentication", "a data message that its sender did not seal") from None
        if not self.window.take(counter):
            raise PeerViolation("data-replayed", f"counter {counter}")
        return plain
