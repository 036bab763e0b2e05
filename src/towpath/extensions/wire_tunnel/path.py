"""How large a unit and its datagrams may be, by what the path loses and swallows: a lost datagram costs its unit."""

from __future__ import annotations

import struct

from towpath.extensions.wire_tunnel.sessions import Traffic
from towpath.extensions.wire_tunnel.units import PIECE, SMALL_PIECE

__all__ = ["ANSWER_MAGIC", "PROBE", "PROBE_MAGIC", "REPORT", "REPORT_MAGIC", "Path"]

REPORT = struct.Struct("<4sQQ")
REPORT_MAGIC = b"\0RPT"
"""In the place of a record's head: no device makes one that begins so."""
PROBE = struct.Struct("<4sH")
PROBE_MAGIC, ANSWER_MAGIC = b"\0PRB", b"\0PRA"
"""A question whether so many bytes get through, which are behind it; and that they did."""
_LEVELS = (62_000, 8_000, 0)
_LOSSY = (0.0002, 0.003)
_GROW_AFTER = 10.0
_PROBE_EACH = 5.0
_PROBE_TRIES = 4
_PROBE_PATIENCE = 0.25


class Path:
    """What the other side says of the path to it.

    `piece` is how much of a unit a datagram may hold. While packets are sent, which sets `used`, two probes ask for it
    every five seconds, of both sizes: if only the small one is answered, four times in turn, the other is swallowed.
    """

    def __init__(self) -> None:
        self.level = 0
        self.piece = PIECE
        self._clean_since = 0.0
        self._tries = 0
        self._probe_at = float("-inf")
        self.used = False
        self._alive = False
        self._unanswered = 0

    def probes(self, now: float) -> tuple[int, ...]:
        """The sizes to ask for now."""
        if now < self._probe_at or not (self._tries or self.used):
            return ()
        if self._tries:
            self._unanswered += 1
        if self._tries == _PROBE_TRIES:
            if self._alive:
                self.piece = SMALL_PIECE
            self._rest(now)
            return ()
        if not self._tries:
            self._alive = False
        self._tries += 1
        self._probe_at = now + _PROBE_PATIENCE
        return PIECE, SMALL_PIECE

    def _rest(self, now: float) -> None:
        self._tries, self._probe_at, self.used = 0, now + _PROBE_EACH, False

    def answered(self, size: int, now: float) -> None:
        """So many bytes have got through."""
        self._alive = True
        if size == PIECE:
            self.piece = PIECE
            self._rest(now)

    def another(self) -> None:
        """It is another path now: what was known of its size holds no more."""
        self._tries, self._probe_at, self.used = 0, float("-inf"), True

    @property
    def most(self) -> int:
        """Bytes of the largest unit that is worth sending; 0 for single packets."""
        return _LEVELS[self.level]

    def report(self, traffic: Traffic, whole: int, end: int, now: float) -> None:
        """The other side has said how many units of a session came, and which was the last."""
        whole_before, end_before, pieces_before, pieces_earlier = traffic.path_seen
        sent, lost = end - end_before, end - end_before - (whole - whole_before)
        lost, self._unanswered = max(0, lost - self._unanswered), 0
        if sent < 20 and lost <= 0:
            return
        # The units that a report speaks of were sent before the last one, or a little later.
        pieces = max(1, sent, traffic.pieces_sent - pieces_before, pieces_before - pieces_earlier)
        traffic.path_seen = whole, end, traffic.pieces_sent, pieces_before
        share = lost / pieces
        if lost > 0:
            self.level = max(self.level, sum(share > limit for limit in _LOSSY))
            self._clean_since = now
        elif now - self._clean_since > _GROW_AFTER and self.level:
            self.level -= 1
            self._clean_since = now
