"""A sealed unit as datagrams, and datagrams as sealed units. It knows of no key."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from towpath.errors import PeerViolation
from towpath.providers.packets import Buffer

try:
    import numpy
except ImportError:  # an optional dependency
    numpy = None  # type: ignore[assignment]

__all__ = [
    "BUNDLE_HEAD",
    "HANDSHAKE",
    "HEAD",
    "NO_INDEX",
    "PIECE",
    "Pieces",
    "Reassembly",
    "Run",
    "bundle",
    "bundled",
    "read_run",
]

HEAD = struct.Struct("<IIHBB")
"""Index, low and high part of the counter, piece, pieces."""
NO_INDEX = 0xFFFFFFFF
HANDSHAKE = NO_INDEX.to_bytes(4, "little")
"""Before a message of the handshake, in the place of an index."""
PIECE = 1440
"""Sealed bytes of a unit in one datagram."""
SMALL_PIECE = 1200
"""The same on a path that swallows those: a packet of 1260 bytes over IPv6, which every link carries."""
_ROOM = 66_000
_MOST_OPEN = 64
_OPEN_SECONDS = 1.0
_BUNDLE = b"\0BDL"
"""In the place of a record's head: no device makes one that begins so."""
_COUNT = struct.Struct("<4sH")
BUNDLE_HEAD = _COUNT.size
"""Bytes that a bundle has beside its records, and 2 for each of them."""


def bundle(records: Sequence[Buffer]) -> bytes:
    """Several records as the content of one unit: how many, how long each is, then all of them."""
    count = len(records)
    return b"".join((_COUNT.pack(_BUNDLE, count), struct.pack(f"<{count}H", *map(len, records)), *records))


def bundled(content: bytes) -> list[Buffer]:
    """The records of a unit, one or several. Raises `PeerViolation` for a bundle that lies."""
    if content[:4] != _BUNDLE:
        return [content]
    try:
        _magic, count = _COUNT.unpack_from(content)
        lengths = struct.unpack_from(f"<{count}H", content, _COUNT.size)
    except struct.error:
        raise PeerViolation("bundle-truncated", f"{len(content)} bytes") from None
    view = memoryview(content)
    records: list[Buffer] = []
    at = _COUNT.size + 2 * count
    for length in lengths:
        records.append(view[at : at + length])
        at += length
    if at != len(content):
        raise PeerViolation("bundle-length", f"{at} of {len(content)} bytes")
    return records


class Pieces:
    """Room for one sealed unit, and its datagrams as parts for one call; it is used again for the next unit.

    `size` is how much of the unit a datagram holds.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.room = memoryview(bytearray(_ROOM))
        most = -(-_ROOM // size)
        self._heads = bytearray(HEAD.size * most)
        heads = memoryview(self._heads)
        self._parts: list[Buffer] = []
        for piece in range(most):
            self._parts.append(heads[piece * HEAD.size : (piece + 1) * HEAD.size])
            self._parts.append(self.room[piece * size : (piece + 1) * size])

    def of(self, length: int, start: bytes) -> list[Buffer]:
        """The datagrams of the `length` bytes in `room`; `start` is what each head begins with."""
        count = -(-length // self.size)
        if count == 1:
            return [start + b"\0\1", self.room[:length]]
        self._heads[: count * HEAD.size] = start.join(_tails(0, count, count))
        parts = self._parts[: 2 * count]
        parts[-1] = self.room[(count - 1) * self.size : length]
        return parts


class Run(NamedTuple):
    """Pieces of a unit that follow each other: the number of the first, how many, how many the unit has."""

    receiver: int
    counter: int
    first: int
    number: int
    pieces: int
    body: Buffer


class Reassembly:
    """Pieces of units that have not come whole."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[list[Buffer | None], int, float]] = {}

    def add(self, run: Run, now: float) -> Buffer | None:
        """The whole unit when this was the last of it. What has a piece that came before counts for nothing."""
        _index, counter, first, count, pieces, body = run
        if count == pieces:
            self._open.pop(counter, None)
            return body
        end = first + count
        parts, left, since = self._open.get(counter, ([None] * pieces, pieces, now))
        if len(parts) != pieces or end > pieces or any(part is not None for part in parts[first:end]):
            return None
        parts[first:end] = [body] + [b""] * (count - 1)
        if left > count:
            self._open[counter] = parts, left - count, since
            if len(self._open) > _MOST_OPEN:
                del self._open[next(iter(self._open))]
            return None
        self._open.pop(counter, None)
        return b"".join(part for part in parts if part is not None)

    def expire(self, now: float) -> None:
        for counter, (_parts, _left, since) in list(self._open.items()):
            if now - since > _OPEN_SECONDS:
                del self._open[counter]


@lru_cache(256)
def _tails(first: int, count: int, pieces: int) -> list[bytes]:
    """What the heads of pieces end with, behind nothing: what they begin with joins them to all heads."""
    return [b"", *(bytes((piece, pieces)) for piece in range(first, first + count))]


def read_run(data: memoryview, size: int) -> Run | None:
    """A row of datagrams, `size` bytes each but for the last, of one unit's pieces in order; `None` for others."""
    length = len(data)
    if numpy is None or not HEAD.size < size < length:
        return None
    count = -(-length // size)
    last = (count - 1) * size
    if data[11] < count + data[10] or length - last < HEAD.size:
        return None
    index, low, high, first, pieces = HEAD.unpack_from(data)
    if index == NO_INDEX:
        return None
    rows = numpy.frombuffer(data, numpy.uint8, last).reshape(count - 1, size)
    heads = rows[:, : HEAD.size].tobytes() + bytes(data[last : last + HEAD.size])
    if heads != bytes(data[:10]).join(_tails(first, count, pieces)):
        return None
    whole = last - (count - 1) * HEAD.size
    sealed = numpy.empty(length - count * HEAD.size, numpy.uint8)
    sealed[:whole].reshape(count - 1, size - HEAD.size)[:] = rows[:, HEAD.size :]
    body: memoryview = sealed.data
    body[whole:] = data[last + HEAD.size :]
    return Run(index, high << 32 | low, first, count, pieces, body)
