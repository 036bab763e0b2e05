"""The head that a TUN device with offloads puts before each packet (virtio 1.2 section 5.1.6, `struct virtio_net_hdr`).

A packet may be a super-packet: up to 64 KB of one flow, to be cut into segments by whoever cannot carry it whole, with
a checksum that is not finished. The head says where to cut and where the checksum goes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from towpath.errors import PeerViolation

__all__ = [
    "DATA_VALID", "ECN", "HEAD_SIZE", "NEEDS_CHECKSUM", "PLAIN", "PLAIN_HEAD", "TCP4", "TCP6", "UDP_SEGMENTS",
    "Offload", "read_offload",
]  # fmt: skip

NEEDS_CHECKSUM, DATA_VALID = 1, 2
"""Flags."""
PLAIN, TCP4, TCP6, UDP_SEGMENTS, ECN = 0, 1, 4, 5, 0x80
"""Kinds; `ECN` is added to a TCP kind whose first segment alone carries CWR."""

_HEAD = struct.Struct("=BBHHHH")
HEAD_SIZE = _HEAD.size
PLAIN_HEAD = bytes(HEAD_SIZE)
"""Before a packet that is whole and finished."""
_KINDS = frozenset({PLAIN, TCP4, TCP6, UDP_SEGMENTS, TCP4 | ECN, TCP6 | ECN})


class Offload(NamedTuple):
    """What is still to be done to a packet.

    >>> Offload(kind=TCP4, segment_size=1380).pack().hex()
    '00010000640500000000'

    `header_length` is a hint and counts for nothing. `checksum_start` and `checksum_offset` count when `flags` has
    `NEEDS_CHECKSUM`: the sum from `checksum_start` on goes to `checksum_start + checksum_offset`, where that of the
    pseudo head stands already.
    """

    flags: int = 0
    kind: int = PLAIN
    header_length: int = 0
    segment_size: int = 0
    checksum_start: int = 0
    checksum_offset: int = 0

    def pack(self) -> bytes:
        return _HEAD.pack(*self)


def read_offload(record: bytes | bytearray | memoryview) -> Offload:
    """The head of a record. Raises `PeerViolation` for one that is cut short or of an unknown kind."""
    if len(record) < HEAD_SIZE:
        raise PeerViolation("offload-truncated", f"{len(record)} bytes")
    found = Offload(*_HEAD.unpack_from(record))
    if found.kind not in _KINDS:
        raise PeerViolation("offload-kind", f"{found.kind}")
    return found
