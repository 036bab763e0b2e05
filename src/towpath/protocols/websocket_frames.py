"""Frames of WebSocket (RFC 6455 section 5): bytes to frames and back, without any I/O."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from enum import IntEnum

from towpath.errors import PeerViolation

try:
    from websockets.speedups import apply_mask
except ImportError:  # built without a compiler
    from websockets.utils import apply_mask

__all__ = ["FIN", "OPCODE", "RSV1", "FrameReader", "Opcode", "frame"]

FIN, RSV1, OPCODE = 0x80, 0x40, 0x0F
"""Bits of the first byte of a frame: the last of its message, compressed (RFC 7692 section 6), and the kind."""

_RSV2_RSV3 = 0x30
_CONTROL = 0x08
_MASKED = 0x80
_MAX_CONTROL = 125
_SMALL = 1 << 13
"""Bytes up to which copying once more is less work than a view."""
_KEYS = 1024
"""Masking keys that are taken from the system at once: they must not be guessed, and each costs a system call."""


class Opcode(IntEnum):
    """What a message is (RFC 6455 section 5.2)."""

    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

    @property
    def is_control(self) -> bool:
        """Not data of the program: close, ping, pong."""
        return self >= Opcode.CLOSE


_KNOWN = frozenset((0, *Opcode))
_PLAIN = frozenset((0x00, 0x01, 0x02, 0x80, *(FIN | one for one in Opcode)))
"""First bytes of frames in which nothing is reserved, nor a control frame fragmented."""


class FrameReader:
    """Cuts a byte stream into frames, in whatever pieces it comes.

    `on_frame` gets the first byte and the unmasked payload of each. `room` is how many bytes the payload of the next
    data frame may have; `on_frame` may change it. No more than that is ever kept.
    """

    __slots__ = ("_kept", "_masked", "_wanted", "allowed_bits", "on_frame", "room")

    def __init__(self, on_frame: Callable[[int, bytes], None], *, masked: bool, room: int) -> None:
        """`masked` says whether the peer is a client: those mask, servers never do (RFC 6455 section 5.1)."""
        self.on_frame = on_frame
        self.room = room
        self.allowed_bits = 0
        """Reserved bits that an extension has given a meaning."""
        self._masked = masked
        self._kept = bytearray()
        self._wanted = 0

    @property
    def is_between_frames(self) -> bool:
        return not self._kept

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises `PeerViolation`, after all frames before the fault."""
        kept = self._kept
        if not kept:
            used = self._take(data)
            if used < len(data):
                kept += memoryview(data)[used:]
            return
        kept += data
        if len(kept) >= self._wanted:
            used = self._take(kept)
            del kept[:used]

    def _take(self, data: bytes | bytearray) -> int:
        """Reads the whole frames at the beginning of `data`; gives how many bytes they were."""
        at, end = 0, len(data)
        masked = self._masked
        bit = _MASKED if masked else 0
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            length, begin = second & 0x7F, at + 2
            if first not in _PLAIN or second & _MASKED != bit:
                self._check(first, second)
            if length > _MAX_CONTROL:
                size = 2 if length == 126 else 8
                begin += size
                if first & _CONTROL:
                    raise PeerViolation("websocket-control", "a control frame of more than 125 bytes")
            if begin > end:
                self._wanted = begin - at
                return at
            if length > _MAX_CONTROL:
                length = _long_length(data, begin - size, size)
            if not first & _CONTROL and length > self.room:
                raise PeerViolation("message-too-large", f"a frame of {length} bytes where {self.room} are allowed")
            if masked:
                begin += 4
            stop = begin + length
            if stop > end:
                self._wanted = stop - at
                return at
            source = data if length <= _SMALL else memoryview(data)
            if masked:
                payload = apply_mask(source[begin:stop], bytes(source[begin - 4 : begin]))
            else:
                payload = bytes(source[begin:stop])
            at = stop
            self.on_frame(first, payload)
        self._wanted = 2
        return at

    def _check(self, first: int, second: int) -> None:
        """Raises for what the first two bytes must not say."""
        opcode = first & OPCODE
        if opcode not in _KNOWN:
            raise PeerViolation("websocket-opcode", f"frames of kind {opcode} are unknown")
        reserved = first & (RSV1 | _RSV2_RSV3)
        if reserved & ~self.allowed_bits or (reserved and opcode & _CONTROL):
            raise PeerViolation("websocket-reserved-bits", f"the first byte of a frame is {first:#04x}")
        if bool(second & _MASKED) is not self._masked:
            words = "a frame of a client is not masked" if self._masked else "a frame of a server is masked"
            raise PeerViolation("websocket-mask", words)
        if opcode & _CONTROL and not first & FIN:
            raise PeerViolation("websocket-control", "a control frame is fragmented")


def _long_length(data: bytes | bytearray, at: int, size: int) -> int:
    length = int.from_bytes(data[at : at + size], "big")
    if length <= (_MAX_CONTROL if size == 2 else 0xFFFF) or length >> 63:
        raise PeerViolation("websocket-length", f"a length of {length} in {size} bytes")
    return length


def frame(first: int, payload: bytes, *, mask: bool) -> bytes:
    """The bytes of one frame, masked with a new key when `mask`."""
    length = len(payload)
    bit = _MASKED if mask else 0
    if length <= _MAX_CONTROL:
        head = bytes((first, bit | length))
    elif length <= 0xFFFF:
        head = _SHORT.pack(first, bit | 126, length)
    else:
        head = _LONG.pack(first, bit | 127, length)
    if not mask:
        return head + payload
    try:
        key = _keys.pop()
    except IndexError:
        fresh = os.urandom(4 * _KEYS)
        _keys.extend(fresh[at : at + 4] for at in range(4, len(fresh), 4))
        key = fresh[:4]
    return head + key + apply_mask(payload, key)


_SHORT, _LONG = struct.Struct("!BBH"), struct.Struct("!BBQ")
_keys: list[bytes] = []
# A child would else mask with the keys of its parent.
os.register_at_fork(after_in_child=_keys.clear)
