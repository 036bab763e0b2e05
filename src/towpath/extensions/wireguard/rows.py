"""Many packets in one go: the rows of a super-packet sealed, the rows of one read opened and joined again.

The loops call the cipher and nothing else; heads and checksums are done for all rows at once where numpy is installed.
"""

from __future__ import annotations

import struct
from typing import Any

from cryptography.exceptions import InvalidTag

from towpath.extensions.wireguard.keypair import DATA, DATA_HEAD, TAG_SIZE, Keypair
from towpath.providers import Packet

try:
    import numpy

    from towpath.wire.segment_rows import Rows, join_rows, split_rows
except ImportError:  # an optional dependency
    numpy = None  # type: ignore[assignment]

__all__ = ["joined", "open_row", "seal_super_packet"]

_COUNTER = struct.Struct("<4xQ")
_HEAD = DATA_HEAD.size


def seal_super_packet(packet: Packet, keypair: Keypair) -> tuple[memoryview, int, int] | None:
    """The data messages of a super-packet: their bytes in a row, the size of each (the last may be shorter), their
    number. `None` for a packet that is to be sealed one by one. Raises `PeerViolation` for one that lies.
    """
    if numpy is None:
        return None
    rows = split_rows(packet.data, packet.offload)
    if rows is None:
        return None
    table, length, last = rows
    count, width = table.shape
    size = _HEAD + width + TAG_SIZE
    out = numpy.empty((count, size), numpy.uint8)
    first = keypair.counter
    keypair.counter = first + count
    out[:, :_HEAD] = numpy.frombuffer(DATA_HEAD.pack(DATA, keypair.peer_index, 0), numpy.uint8)
    out[:, 8:_HEAD] = (first + numpy.arange(count, dtype="<u8")).view(numpy.uint8).reshape(count, 8)
    plain, sealed = table.data.cast("B"), out.data.cast("B")
    encrypt, pack = keypair.sending.encrypt_into, _COUNTER.pack
    for row in range(count - 1):
        encrypt(
            pack(first + row),
            plain[row * width : (row + 1) * width],
            None,
            sealed[row * size + _HEAD : (row + 1) * size],
        )
    begin, left = (count - 1) * width, last + (-last & 15)
    start = (count - 1) * size
    end = start + _HEAD + left + TAG_SIZE
    encrypt(pack(first + count - 1), plain[begin : begin + left], None, sealed[start + _HEAD : end])
    return sealed[:end], size, count


def open_row(data: memoryview, size: int, keypair: Keypair) -> tuple[Any, int] | None:
    """Opens data messages of one session, `size` bytes each but for the last.

    The packets as rows, and the bytes of the last; `None`, and nothing taken, where one cannot be opened or came
    before: then they are to be opened one by one.
    """
    count = -(-len(data) // size)
    width = size - _HEAD - TAG_SIZE
    if numpy is None or count < 2 or width <= 0 or width & 15:
        return None
    whole = (count - 1) * size
    last = len(data) - whole
    if last < _HEAD + TAG_SIZE:
        return None
    heads = numpy.frombuffer(data[:whole], numpy.uint8).reshape(count - 1, size)[:, :_HEAD]
    if (heads[:, :8] != heads[0, :8]).any() or data[whole : whole + 8] != data[:8]:
        return None
    counters = numpy.ascontiguousarray(heads[:, 8:]).view("<u8").reshape(count - 1).tolist()
    counters.append(DATA_HEAD.unpack_from(data, whole)[2])
    decrypt, pack = keypair.receiving.decrypt, _COUNTER.pack
    end, left = whole + last, last - _HEAD - TAG_SIZE
    try:
        plains = [
            decrypt(pack(counter), data[at + _HEAD : at + size], None)
            for counter, at in zip(counters, range(0, end, size), strict=True)
        ]
    except (InvalidTag, ValueError):
        return None
    if not keypair.window.take_row(counters):
        return None
    plains.append(bytes(width - left))
    return numpy.frombuffer(bytearray().join(plains), numpy.uint8).reshape(count, width), left


def joined(table: Any, left: int) -> list[bytes] | None:
    """Records for the TUN device of rows that `open_row` gave; `None` where each is to be looked at by itself."""
    first = table[0, :40].tobytes()
    final = table[-1, :40].tobytes()
    length, last = _stated(first), _stated(final)
    width = table.shape[1]
    if not 20 <= length <= width or not 20 <= last <= left or width - length > 15:
        return None
    if width > length:
        table[:, length:] = 0
    table[-1, last:] = 0
    return join_rows(Rows(table, length, last))


def _stated(head: bytes) -> int:
    """The length that an IP packet states of itself."""
    if head[0] >> 4 == 4:
        return int.from_bytes(head[2:4], "big")
    return 40 + int.from_bytes(head[4:6], "big") if head[0] >> 4 == 6 else 0
