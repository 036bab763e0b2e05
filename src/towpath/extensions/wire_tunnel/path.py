"""How large a unit may be, by what the path loses: a lost datagram costs its unit."""

from __future__ import annotations

import struct

from towpath.extensions.wire_tunnel.sessions import Traffic

__all__ = ["REPORT", "REPORT_MAGIC", "Path"]

REPORT = struct.Struct("<4sQQ")
REPORT_MAGIC = b"\0RPT"
"""In the place of a record's head: no device makes one that begins so."""
_LEVELS = (62_000, 8_000, 0)
_LOSSY = (0.0002, 0.003)
_GROW_AFTER = 10.0


class Path:
    """How large a unit may be, by what the other side says of loss."""

    def __init__(self) -> None:
        self.level = 0
        self._clean_since = 0.0

    @property
    def most(self) -> int:
        """Bytes of the largest unit that is worth sending; 0 for single packets."""
        return _LEVELS[self.level]

    def report(self, traffic: Traffic, whole: int, end: int, now: float) -> None:
        """The other side has said how many units of a session came, and which was the last."""
        whole_before, end_before, pieces_before = traffic.path_seen
        sent, lost = end - end_before, end - end_before - (whole - whole_before)
        if sent < 20 and lost <= 0:
            return
        pieces = max(1.0, (traffic.pieces_sent - pieces_before) / max(1, sent))
        traffic.path_seen = whole, end, traffic.pieces_sent
        share = max(0, lost) / max(1, sent) / pieces
        if lost > 0:
            self.level = max(self.level, sum(share > limit for limit in _LOSSY))
            self._clean_since = now
        elif now - self._clean_since > _GROW_AFTER and self.level:
            self.level -= 1
            self._clean_since = now
