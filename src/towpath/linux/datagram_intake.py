"""What a UDP socket receives, in rows: as the kernel joined them, or many in one call. recvmmsg(2), udp(7).

Where the kernel joins datagrams of one size (`UDP_GRO`), one read brings up to 64 KB of them. Where it does not, each
call brings many into slots as long as the last ones were: what fills its slot lies beside the next, as in a joined row.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from collections import deque
from typing import TypeAlias

from towpath.linux.datagrams import Vectors, address_of, receive_batch

__all__ = ["Intake", "Row"]

Row: TypeAlias = tuple[memoryview, int, tuple[str, int]]
"""Bytes, the size of each datagram in them, of which the last may be shorter, and the sender."""

_SOL_UDP, _UDP_GRO = 17, 104
_MSG_DONTWAIT = socket.MSG_DONTWAIT
_LARGEST = 65_535
_NAME, _CONTROL, _HEADER = 28, 64, 64
_GRO_SIZE = 20
"""Bytes of the control message with the size of each datagram."""
_SAYS_SIZE = [_SOL_UDP, _UDP_GRO]
_ALONE = 2
"""So many reads in turn that brought a single datagram: nothing joins them."""
_SLOTS = 64
_SHORTEST, _SLOT = 64, 2048
"""Bytes of a slot. What is longer goes on in a place of its own, and is put together there."""
_MOST_BYTES = 65_000
_PLANS = 16


class Intake:
    """Rows that wait in a socket. The buffers are used again by the next `receive`."""

    def __init__(self, made: socket.socket, *, coalesces: bool) -> None:
        self._socket = made
        self._one = _Whole(made.family)
        self._many: _Slots | None = None
        self._alone = 0 if coalesces else _ALONE
        self._waiting: deque[Row] = deque()
        self._ended = False

    @property
    def drained(self) -> bool:
        """Whether the last `receive` has shown that there is nothing more."""
        return self._ended and not self._waiting

    def receive(self) -> Row | None:
        """The next row, or `None`. Raises `OSError` for what the socket has to say, once."""
        if self._waiting:
            return self._waiting.popleft()
        self._ended = False
        if self._alone < _ALONE:
            row = self._one.receive(self._socket.fileno())
            if row is not None:
                self._alone = self._alone + 1 if len(row[0]) == row[1] else 0
            return row
        many = self._many = self._many or _Slots(self._socket.family)
        rows = many.receive(self._socket.fileno())
        self._ended = many.drained
        if many.joined:
            self._alone = 0
        if len(rows) > 1:
            self._waiting.extend(rows[1:])
        return rows[0] if rows else None


class _Whole:
    """Room for one read of what the kernel may have joined: more at once would leave the processor's caches."""

    def __init__(self, family: int) -> None:
        self._in = Vectors(1, _LARGEST, socket.AddressFamily(family))
        name, control = bytearray(_NAME), bytearray(_CONTROL)
        self._in.words[0], self._in.words[4] = address_of(name), address_of(control)
        self._in.remember()
        self._name = name
        self._control = memoryview(control).cast("I")
        self._buffer = memoryview(self._in.data)
        self._source = _Source()

    def receive(self, descriptor: int) -> Row | None:
        vectors, control = self._in, self._control
        vectors.refresh()
        # Not recvmsg(): that there is nothing left is no exception here, and who sent is known from the last time.
        if receive_batch(descriptor, vectors.address, 1, _MSG_DONTWAIT, None) != 1:
            _nothing()
            return None
        length = size = vectors.halves[14]
        if vectors.words[5] >= _GRO_SIZE and control[2:4].tolist() == _SAYS_SIZE:
            size = control[4] or length
        return self._buffer[:length], size, self._source.of(self._name)


class _Slots:
    """Room for many datagrams, one slot each, which are as long as the longest of the last call."""

    def __init__(self, family: int) -> None:
        self.joined = self.drained = False
        """Whether the last call brought what the kernel had joined, and whether it brought all."""
        rest = _SLOT + _LARGEST
        # The places for what is longer are of pages that are not there until they are used.
        self._room = mmap.mmap(-1, _SLOTS * (_SLOT + rest))
        self._view = memoryview(self._room)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._room))
        self._base = base
        self._rests = [_SLOTS * _SLOT + at * rest + _SLOT for at in range(_SLOTS)]
        self._names, self._controls = bytearray(_SLOTS * _NAME), bytearray(_SLOTS * _CONTROL)
        self._sizes = memoryview(self._controls).cast("I")
        self._vectors, self._headers = bytearray(_SLOTS * 32), bytearray(_SLOTS * _HEADER)
        self._words, self._halves = memoryview(self._headers).cast("Q"), memoryview(self._headers).cast("I")
        self._address = address_of(self._headers)
        names, controls, vectors = address_of(self._names), address_of(self._controls), address_of(self._vectors)
        for at in range(_SLOTS):
            fields = names + at * _NAME, _NAME, vectors + at * 32, 2, controls + at * _CONTROL, _CONTROL
            self._words[8 * at : 8 * at + 6] = memoryview(struct.pack("6Q", *fields)).cast("Q")
        self._fresh = bytes(self._headers)
        self._used = 0
        self._plans: dict[int, bytes] = {}
        self._source = _Source()
        self._plan(_SLOT)

    def _plan(self, size: int) -> None:
        """Slots of so many bytes from now on."""
        plan = self._plans.get(size)
        if plan is None:
            if len(self._plans) == _PLANS:
                self._plans.clear()
            base = self._base
            places = [(base + at * size, size, base + rest, _LARGEST - size) for at, rest in enumerate(self._rests)]
            plan = self._plans[size] = b"".join(struct.pack("4Q", *place) for place in places)
        self._vectors[:] = plan
        self._size, self._count = size, min(_SLOTS, _MOST_BYTES // size)

    def receive(self, descriptor: int) -> list[Row]:
        used = self._used * _HEADER
        self._headers[:used] = self._fresh[:used]  # the kernel writes into them what it received
        size, most = self._size, self._count
        self._used = 0
        count = receive_batch(descriptor, self._address, most, _MSG_DONTWAIT, None)
        self.joined, self.drained = False, count < most
        if count < 1:
            _nothing()
            return []
        self._used = count
        lengths = self._halves[14 : 16 * count : 16].tolist()
        longest, last = max(lengths), lengths[-1]
        if longest > size or count > 1 and longest < size:
            self._plan(min(max(longest, _SHORTEST), _SLOT))
        plain = longest <= size and not any(self._words[5 : 8 * count : 8].tolist())
        if plain and last and lengths.count(size) >= count - (last < size) and self._source.all(self._names, count):
            return [(self._view[: (count - 1) * size + last], size if count > 1 else last, self._source.address)]
        return self._rows(lengths, size)

    def _rows(self, lengths: list[int], size: int) -> list[Row]:
        """Those of one sender that follow each other and fill their slots, but for the last, are one row."""
        rows: list[Row] = []
        begin, before = 0, -1
        for at, length in enumerate(lengths):
            source = self._source.of(self._names[at * _NAME : (at + 1) * _NAME])
            control = at * _CONTROL // 4
            joined = (
                self._words[8 * at + 5] >= _GRO_SIZE and self._sizes[control + 2 : control + 4].tolist() == _SAYS_SIZE
            )
            if joined or length > size:
                self.joined = self.joined or joined
                segment = self._sizes[control + 4] if joined else 0
                rows.append((self._put_together(at, length, size), segment or length, source))
                before = -1
            elif before == size and length and rows[-1][2] == source:
                rows[-1] = self._view[begin : at * size + length], size, source
                before = length
            else:
                begin = at * size
                rows.append((self._view[begin : begin + length], length, source))
                before = length
        return rows

    def _put_together(self, at: int, length: int, size: int) -> memoryview:
        """A datagram that went on behind its slot; its beginning is copied there."""
        if length <= size:
            return self._view[at * size : at * size + length]
        rest = self._rests[at]
        self._view[rest - size : rest] = self._view[at * size : (at + 1) * size]
        return self._view[rest - size : rest - size + length]


class _Source:
    """The address and the port of a `struct sockaddr_in` or `sockaddr_in6`; most often they are the last ones again."""

    def __init__(self) -> None:
        self._name: bytes | bytearray = b""
        self._repeated = b""
        self.address = ("", 0)

    def of(self, name: bytes | bytearray) -> tuple[str, int]:
        if name != self._name:
            self._name = bytes(name)
            self._repeated = self._name * _SLOTS
            self.address = _read_name(self._name)
        return self.address

    def all(self, names: bytearray, count: int) -> bool:
        """Whether so many names are the same one, which is `address` then."""
        self.of(names[:_NAME])
        return count == 1 or self._repeated.startswith(names[: count * _NAME])


def _nothing() -> None:
    """Why nothing came: raises `OSError` unless it is that there is nothing."""
    number = ctypes.get_errno()
    if number not in (errno.EAGAIN, errno.EINTR):
        raise OSError(number, os.strerror(number))


def _read_name(name: bytes) -> tuple[str, int]:
    family, port = int.from_bytes(name[:2], sys.byteorder), int.from_bytes(name[2:4], "big")
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, name[4:8]), port
    if family != socket.AF_INET6:
        return "", 0
    host = socket.inet_ntop(socket.AF_INET6, name[8:24])
    scope = int.from_bytes(name[24:28], sys.byteorder)
    return (host[7:] if host.startswith("::ffff:") else f"{host}%{scope}" if scope else host), port
