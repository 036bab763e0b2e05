"""The work of `segmentation` on all segments of a super-packet at once, as rows of a numpy array.

Sums are taken modulo 0xFFFF, which is what RFC 1071 adds up: an IPv4 head with a right checksum counts as nothing, and
32-bit words may be added instead of 16-bit ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy

from towpath.errors import PeerViolation
from towpath.wire.segmentation import Bytes, plan_cut, sum16
from towpath.wire.virtio_net import ECN, NEEDS_CHECKSUM, PLAIN_HEAD, TCP4, TCP6, Offload

__all__ = ["Rows", "join_rows", "split_rows"]

_TCP, _UDP = 6, 17
_FIN, _PSH, _ACK, _CWR = 0x01, 0x08, 0x10, 0x80
_ONES = 0xFFFF
_LARGEST = 65_535
_FEW = 4
"""Rows that follow each other, at least and on average, for it to be worth while."""


class Rows(NamedTuple):
    """Packets as rows: the first `length` bytes of each, of the last row `last`; zeros fill them up."""

    table: Any
    length: int
    last: int


def split_rows(packet: Bytes, offload: Offload, align: int = 16) -> Rows | None:
    """The packets that a super-packet stands for; `None` for one that is not to be cut. Raises `PeerViolation`.

    The width of the table is a multiple of `align`, which is a multiple of 4.
    """
    cut = plan_cut(packet, offload)
    if cut is None:
        return None
    header, size, start = cut.header, cut.size, cut.start
    data = numpy.frombuffer(packet, numpy.uint8)
    payload = len(data) - header
    count = -(-payload // size)
    length = header + size
    last = header + payload - (count - 1) * size
    if length > _LARGEST:
        raise PeerViolation("segment-size", f"segments of {length} bytes")
    table = numpy.empty((count, -(-length // align) * align), numpy.uint8)
    if table.shape[1] > length:
        table[:, length:] = 0
    head = _head(packet, cut.version, cut.protocol, start, header)
    table[:, :header] = numpy.frombuffer(head, numpy.uint8)
    whole = (count - 1) * size
    table[:-1, header:length] = data[header : header + whole].reshape(count - 1, size)
    table[-1, header:last] = data[header + whole :]
    table[-1, last:] = 0
    words = table.view(">u2")
    order = _order(count)
    # The heads hold zeros where something is to be put, so that the sum of a row is that of the rest.
    sums = _sums(table) - sum16(head[:start])
    if cut.version == 4:
        identities = (int.from_bytes(packet[4:6], "big") + order) & _ONES
        words[:, 1] = length
        words[:, 2] = identities
        words[:, 5] = -(sum16(head[:start]) + length + identities) % _ONES
        if last != length:
            words[-1, 1] = last
            words[-1, 5] = -(sum16(head[:start]) + last + int(identities[-1])) % _ONES
        addresses = sum16(head[12:20])
    else:
        words[:, 2] = length - 40
        words[-1, 2] = last - 40
        addresses = sum16(head[8:40])
    at = start // 2
    if cut.protocol == _TCP:
        place = at + 8
        sequences = (int.from_bytes(packet[start + 4 : start + 8], "big") + order * size) & 0xFFFFFFFF
        table.view(">u4")[:, at // 2 + 1] = sequences
        flags = _flags(packet, start, count, offload)
        words[:, at + 6] = flags
        sums += sequences + flags
    else:
        place = at + 3
        words[:, at + 2] = length - start
        words[-1, at + 2] = last - start
        sums += length - start
        sums[-1] += last - length
    sums += addresses + cut.protocol + length - start
    sums[-1] += last - length
    found = -sums % _ONES
    if cut.protocol == _UDP:
        found[found == 0] = _ONES
    words[:, place] = found
    return Rows(table, length, last)


def _head(packet: Bytes, version: int, protocol: int, start: int, header: int) -> bytearray:
    """The head of every segment, with zeros where they differ."""
    head = bytearray(packet[:header])
    places = [(2, 6), (10, 12)] if version == 4 else [(4, 6)]
    places += [(start + 4, start + 8), (start + 12, start + 14), (start + 16, start + 18)] if protocol == _TCP else []
    places += [(start + 4, start + 8)] if protocol == _UDP else []
    for begin, end in places:
        head[begin:end] = bytes(end - begin)
    return head


def _flags(packet: Bytes, start: int, count: int, offload: Offload) -> Any:
    """The 16-bit word of each row that holds the length of its TCP head and its flags."""
    word = int.from_bytes(packet[start + 12 : start + 14], "big")
    found = numpy.full(count, word & ~(_FIN | _PSH), numpy.int64)
    found[-1] = word
    if offload.kind & ECN:
        found[1:] &= ~_CWR
    return found


def join_rows(rows: Rows) -> list[bytes] | None:
    """Records for a TUN device: rows of one TCP connection that follow each other are one super-packet.

    `None` where a row is of another kind, or damaged, or where most do not follow each other: then they are to be
    looked at one by one. Whatever follows the last byte of a row up to the width of the table is zero.
    """
    table, length, last = rows
    count = len(table)
    if count < 2 or length < 40 or last > length:
        return None
    head = table[0, :120].tobytes()
    if head[0] == 0x45 and head[9] == _TCP and not head[6] & 0x3F and not head[7]:
        version, start = 4, 20
    elif head[0] >> 4 == 6 and head[6] == _TCP and length >= 60:
        version, start = 6, 40
    else:
        return None
    header = start + (head[start + 12] >> 4) * 4
    size = length - header
    if header < start + 20 or size <= 0 or last <= header or header + size * (count - 1) + last - header > _LARGEST:
        return None
    # Little copies of whole columns: what follows looks at few bytes of each row.
    words = numpy.ascontiguousarray(table[:, :header]).view(">u2").astype(numpy.int64)
    at = start // 2
    flags = words[:, at + 6]
    if (flags & (0xFF & ~_PSH) != _ACK).any() or (flags >> 8 != head[start + 12]).any():
        return None
    place = 1 if version == 4 else 2
    extra = 0 if version == 4 else 40
    if (words[:-1, place] != length - extra).any() or int(words[-1, place]) != last - extra:
        return None
    if version == 4 and (
        (words[:, [0, 4]] != words[0, [0, 4]]).any() or (numpy.add.reduce(words[:, :10], axis=1) % _ONES).any()
    ):
        return None
    sums = _sums(table)
    if version == 4:
        sums += words[:, 6] + words[:, 7] + words[:, 8] + words[:, 9] + _TCP + length - start
    else:  # the row holds the addresses of the pseudo head, and 8 bytes that do not belong there
        sums += _TCP + length - start - numpy.add.reduce(words[:, :4], axis=1)
    sums[-1] += last - length
    if (sums % _ONES).any():
        return None
    sequences = words[:, at + 2] << 16 | words[:, at + 3]
    breaks = (words[1:] != words[:-1])[:, _constant(start, header // 2)].any(axis=1)
    breaks |= (sequences[1:] - sequences[:-1] - size) & 0xFFFFFFFF != 0
    breaks |= flags[:-1] & _PSH != 0
    if not breaks.any():
        return [_joined(rows, version, start, header)]
    begins = [0, *(numpy.flatnonzero(breaks) + 1).tolist()]
    if len(begins) > 1 + count // _FEW:
        return None
    ends = [*begins[1:], count]
    return [
        _joined(Rows(table[begin:end], length, last if end == count else length), version, start, header)
        for begin, end in zip(begins, ends, strict=True)
    ]


def _joined(rows: Rows, version: int, start: int, header: int) -> bytes:
    table, length, last = rows
    if len(table) == 1:
        packet: bytes = table[0, :last].tobytes()
        return PLAIN_HEAD + packet
    total = header + (length - header) * (len(table) - 1) + last - header
    head = bytearray(table[0, :header].tobytes())
    if version == 4:
        head[2:4] = total.to_bytes(2, "big")
        head[10:12] = b"\0\0"
        head[10:12] = (~sum16(head[:20]) & _ONES).to_bytes(2, "big")
        addresses = head[12:20]
    else:
        head[4:6] = (total - 40).to_bytes(2, "big")
        addresses = head[8:40]
    head[start + 13] = int(table[-1, start + 13])
    pseudo = (sum16(addresses) + _TCP + total - start) % _ONES or _ONES
    head[start + 16 : start + 18] = pseudo.to_bytes(2, "big")
    offload = Offload(NEEDS_CHECKSUM, TCP4 if version == 4 else TCP6, header, length - header, start, 16)
    return b"".join(
        (offload.pack(), head, table[:-1, header:length].tobytes(), table[-1, header:last].tobytes()),
    )


def _sums(part: Any) -> Any:
    """Of each row the sum of its 16-bit big-endian words modulo 0xFFFF; rows are whole 32-bit words."""
    words = part.view(numpy.uint32) if part.flags.c_contiguous else numpy.ascontiguousarray(part).view(numpy.uint32)
    totals = numpy.add.reduce(words, axis=1, dtype=numpy.uint64).view(numpy.int64)
    # To exchange the bytes of a 16-bit number is to multiply it by 256, modulo 0xFFFF.
    return totals * 256 if numpy.little_endian else totals


@lru_cache(64)
def _order(count: int) -> Any:
    return numpy.arange(count, dtype=numpy.int64)


@lru_cache(64)
def _constant(start: int, width: int) -> Any:
    """Which 16-bit words of a head are the same in every segment: not lengths, identity, sums, sequence and flags."""
    found = numpy.ones(width, bool)
    at = start // 2
    found[[1, 2, 5] if start == 20 else [2]] = False
    found[[at + 2, at + 3, at + 6, at + 8]] = False
    return found
