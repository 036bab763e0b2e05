"""A sealed unit as datagrams, and datagrams as sealed units. It knows of no key."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

try:
    import numpy
except ImportError:  # an optional dependency
    numpy = None  # type: ignore[assignment]

__all__ = ["HANDSHAKE", "HEAD", "PIECE", "SMALL_PIECE", "Reassembly", "cut_unit", "whole_unit"]

HEAD = struct.Struct("<IIHBB")
"""Index, low and high part of the counter, piece, pieces."""
HANDSHAKE = b"\xff\xff\xff\xff"
"""Before a message of the handshake, in the place of an index."""
PIECE = 1440
"""Sealed bytes of a unit in one datagram."""
SMALL_PIECE = 1200
"""The same on a path that swallows those: a packet of 1260 bytes over IPv6, which every link carries."""
_MOST_OPEN = 64
_OPEN_SECONDS = 1.0


class Reassembly:
    """Pieces of units that have not come whole."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[list[bytes | None], int, float]] = {}

    def add(self, counter: int, piece: int, pieces: int, data: memoryview, now: float) -> bytes | None:
        """The whole unit when this was its last piece."""
        parts, left, since = self._open.get(counter, ([None] * pieces, pieces, now))
        if len(parts) != pieces or parts[piece] is not None:
            return None
        parts[piece] = bytes(data)
        if left > 1:
            self._open[counter] = parts, left - 1, since
            if len(self._open) > _MOST_OPEN:
                del self._open[next(iter(self._open))]
            return None
        self._open.pop(counter, None)
        return b"".join(part for part in parts if part is not None)

    def expire(self, now: float) -> None:
        for counter, (_parts, _left, since) in list(self._open.items()):
            if now - since > _OPEN_SECONDS:
                del self._open[counter]


@lru_cache(64)
def _tails(count: int) -> list[bytes]:
    """What the heads of a unit's pieces end with, behind nothing: what they begin with joins them to all heads."""
    return [b"", *(bytes((piece, count)) for piece in range(count))]


def cut_unit(sealed: memoryview, same: bytes, count: int, size: int = PIECE) -> list[Any]:
    """The datagrams of a unit, to be sent in one call, with `size` bytes of it in each; `same` begins each head."""
    if count == 1:
        return [same, b"\0\1", sealed]
    tails = _tails(count)[1:]
    if numpy is None:
        return [
            part for piece, tail in enumerate(tails) for part in (same, tail, sealed[piece * size : (piece + 1) * size])
        ]
    whole = (count - 1) * size
    table = numpy.empty((count - 1, HEAD.size + size), numpy.uint8)
    heads = numpy.frombuffer(same.join(_tails(count)), numpy.uint8).reshape(count, HEAD.size)
    table[:, : HEAD.size] = heads[:-1]
    table[:, HEAD.size :] = numpy.frombuffer(sealed[:whole], numpy.uint8).reshape(count - 1, size)
    return [table.data.cast("B"), same, tails[-1], sealed[whole:]]


def whole_unit(data: memoryview, size: int) -> tuple[int, int, bytes] | None:
    """Index, counter and sealed bytes of a read that holds exactly one unit of several pieces, in order."""
    count = -(-len(data) // size) if size else 0
    if numpy is None or count < 2 or data[11] != count or bytes(data[:4]) == HANDSHAKE:
        return None
    index, low, high, _piece, _count = HEAD.unpack_from(data)
    last = (count - 1) * size
    table = numpy.frombuffer(data[:last], numpy.uint8).reshape(count - 1, size)
    heads = table[:, : HEAD.size].tobytes() + bytes(data[last : last + HEAD.size])
    if heads != bytes(data[:10]).join(_tails(count)):
        return None
    return index, high << 32 | low, table[:, HEAD.size :].tobytes() + bytes(data[last + HEAD.size :])
