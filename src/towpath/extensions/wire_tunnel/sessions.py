"""One session's units: sealed, opened once, and counted, so that the other side can be told what came."""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from towpath.errors import PeerViolation
from towpath.extensions.wire_tunnel.units import HEAD, Reassembly
from towpath.extensions.wireguard.keypair import TAG_SIZE, Keypair
from towpath.providers.packets import Buffer

__all__ = ["Traffic"]

_LABEL = b"unit"


class Traffic:
    """What is known of one session's data: ciphers, counters, and how the path is."""

    def __init__(self, keypair: Keypair) -> None:
        self.keypair = keypair
        send, receive = keypair.derived(b"wire tunnel unit")
        self._sending = AESGCM(send)
        self._receiving = AESGCM(receive)
        self.reassembly = Reassembly()
        self.pieces_sent = 0
        self.whole = 0
        """Units that came, of those before `settled`."""
        self.settled = 0
        """Units from this number on may still be on their way: others have overtaken them."""
        self._newer = 0
        self._end = 0
        self.told = 0
        self.missing = 0
        """Of the last report that was made: `whole`, and how many units were lost."""
        self.path_seen = (0, 0, 0, 0)
        """Of the last report that was used: whole, end, the pieces that had been sent, and those of the one before."""

    def came(self, counter: int) -> None:
        if counter < self.settled:
            self.whole += 1
        else:
            self._newer += 1
            self._end = max(self._end, counter + 1)

    def settle(self) -> None:
        """What has not come by the next time is lost."""
        self.whole, self._newer, self.settled = self.whole + self._newer, 0, max(self.settled, self._end)

    def seal(self, content: Buffer, room: memoryview) -> tuple[int, bytes]:
        """Seals a unit of the next number into `room`: its length, and what each head of its pieces begins with."""
        keypair = self.keypair
        counter = keypair.counter
        keypair.counter = counter + 1
        length = len(content) + TAG_SIZE
        self._sending.encrypt_into(_LABEL + counter.to_bytes(8, "little"), content, None, room[:length])
        return length, HEAD.pack(keypair.peer_index, counter & 0xFFFFFFFF, counter >> 32, 0, 0)[:10]

    def open(self, counter: int, sealed: Buffer) -> bytes:
        """The record of a unit, taken once. Raises `PeerViolation`."""
        try:
            record = self._receiving.decrypt(_LABEL + counter.to_bytes(8, "little"), sealed, None)
        except (InvalidTag, ValueError):
            raise PeerViolation("data-authentication", "a unit that its sender did not seal") from None
        if not self.keypair.window.take(counter):
            raise PeerViolation("data-replayed", f"counter {counter}")
        self.came(counter)
        return record
