"""One direction of a TCP flow as packets that may have to wait: bytes in their order, each with the packet it came in.

The packets themselves lie in the kernel's queue. A byte is taken once, from the first packet that brought it: what is
inspected is what arrives. A segment that repeats bytes of a waiting packet is dropped, because its original will
arrive, and so is one that overlaps it, because the bytes they share need not be the same (RFC 9293, section 3.10.7.4).
"""

from __future__ import annotations

from collections import deque
from typing import Generic, NamedTuple, TypeVar

__all__ = ["MOST_EARLY", "MOST_WAITING", "HeldStream", "Taken"]

T = TypeVar("T")

MOST_EARLY = 64
"""Segments behind a gap; more are dropped, and come again."""
MOST_WAITING = 512
"""Packets that wait for a verdict; more are dropped, and come again."""
_WINDOW = 1 << 24


class Taken(NamedTuple, Generic[T]):
    """What a segment led to: bytes that are new, in order; `ended` once; packets to pass on now, and to drop."""

    chunks: tuple[bytes, ...] = ()
    ended: bool = False
    passed: tuple[T, ...] = ()
    dropped: tuple[T, ...] = ()


class HeldStream(Generic[T]):
    """`first` is the sequence number of the first byte. A packet is anything that stands for one.

    >>> stream = HeldStream[str](first=1000)
    >>> stream.take(1003, b"lo", False, "second"), stream.take(1000, b"hel", False, "first").chunks
    (Taken(chunks=(), ended=False, passed=(), dropped=()), (b'hel', b'lo'))
    >>> stream.release(1), stream.take(1000, b"hel", False, "again").passed
    (['first'], ('again',))

    Whoever takes the chunks calls `release` with how many of them may go, in their order.
    """

    __slots__ = ("_early", "_ended", "_next", "_passed", "_waiting")

    def __init__(self, first: int) -> None:
        self._next = first
        self._passed = first
        self._ended = False
        self._early: dict[int, tuple[bytes, bool, T]] = {}
        self._waiting: deque[tuple[int, bool, T]] = deque()

    def take(self, sequence: int, payload: bytes, fin: bool, packet: T) -> Taken[T]:
        """A segment has come."""
        if not payload and not fin:
            return Taken(passed=(packet,))
        distance = _distance(sequence, self._next)
        length = len(payload) + fin
        if distance + length <= 0:
            # Known already: needed again only if it has left.
            gone = _distance(sequence, self._passed) + length <= 0
            return Taken(passed=(packet,)) if gone else Taken(dropped=(packet,))
        if self._ended or distance > _WINDOW or len(self._waiting) + len(self._early) >= MOST_WAITING:
            return Taken(dropped=(packet,))
        if distance > 0:
            return self._keep_early(sequence, payload, fin, packet)
        if distance < 0 and self._next != self._passed:
            return Taken(dropped=(packet,))  # it overlaps what waits
        chunks: list[bytes] = []
        self._append(payload[-distance:] if distance else payload, fin, packet, chunks)
        dropped = self._close_gap(chunks)
        return Taken(tuple(chunks), self._ended, (), tuple(dropped))

    def append(self, datagram: bytes, packet: T) -> bool:
        """The next datagram, where there is no order but that of arrival; `False` when too many wait already."""
        if len(self._waiting) >= MOST_WAITING:
            return False
        self._waiting.append((len(datagram), True, packet))
        return True

    def _append(self, data: bytes, fin: bool, packet: T, chunks: list[bytes]) -> None:
        self._next = (self._next + len(data) + fin) & 0xFFFFFFFF
        self._waiting.append((len(data) + fin, bool(data), packet))
        self._ended = self._ended or fin
        if data:
            chunks.append(data)

    def _keep_early(self, sequence: int, payload: bytes, fin: bool, packet: T) -> Taken[T]:
        start = _distance(sequence, self._next)
        end = start + len(payload) + fin
        for known, (data, known_fin, _packet) in self._early.items():
            known_start = _distance(known, self._next)
            if start < known_start + len(data) + known_fin and known_start < end:
                return Taken(dropped=(packet,))
        if len(self._early) >= MOST_EARLY:
            return Taken(dropped=(packet,))
        self._early[sequence] = payload, fin, packet
        return Taken()

    def _close_gap(self, chunks: list[bytes]) -> list[T]:
        while self._early and not self._ended and self._next in self._early:
            payload, fin, packet = self._early.pop(self._next)
            self._append(payload, fin, packet, chunks)
        useless = [one for one in self._early if self._ended or _distance(one, self._next) < 0]
        return [self._early.pop(sequence)[2] for sequence in useless]

    def release(self, chunks: int, *, ending: bool = False) -> list[T]:
        """The packets of the next so many chunks; with `ending` also a bare FIN that follows them."""
        released = []
        while self._waiting:
            length, has_data, packet = self._waiting[0]
            if has_data and not chunks or not has_data and not ending:
                break
            chunks -= has_data
            self._waiting.popleft()
            self._passed = (self._passed + length) & 0xFFFFFFFF
            released.append(packet)
        return released

    def release_all(self) -> list[T]:
        """Every packet that is still here, in order; those behind a gap at last."""
        found = [packet for _, _, packet in self._waiting]
        found += [packet for _, _, packet in self._early.values()]
        self._waiting.clear()
        self._early.clear()
        self._passed = self._next
        return found


def _distance(sequence: int, origin: int) -> int:
    """How far a sequence number lies beyond another, -2**31 to 2**31 - 1."""
    return ((sequence - origin + 0x80000000) & 0xFFFFFFFF) - 0x80000000
