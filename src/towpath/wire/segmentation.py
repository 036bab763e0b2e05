"""Cutting super-packets into the packets of a wire, and joining those again: software segmentation and coalescing.

Only for a peer that cannot take super-packets; between two TUN devices the kernel does all of this. With numpy the rows
of a super-packet are made at once, without it one by one: the same bytes either way. RFC 9293, RFC 768, RFC 791, RFC
8200, RFC 1071, RFC 6864 (identification), RFC 3168 section 6.1.2 (CWR).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from towpath.errors import PeerViolation
from towpath.wire.virtio_net import (
    ECN,
    NEEDS_CHECKSUM,
    PLAIN,
    PLAIN_HEAD,
    TCP4,
    TCP6,
    UDP_SEGMENTS,
    Offload,
)

__all__ = ["Bytes", "Cut", "cut_packet", "join_packets", "plan_cut", "split_packet", "sum16"]

Bytes = bytes | bytearray | memoryview

_TCP, _UDP = 6, 17
_FIN, _PSH, _CWR = 0x01, 0x08, 0x80
_ACK_ONLY = 0x10
_LARGEST = 65_535
_MOST_JOINED = 62_000
"""Bytes of a joined packet: what still fits a UDP datagram if it is to travel whole once more."""
_H = struct.Struct(">H")
_L = struct.Struct(">L")


def sum16(data: Bytes) -> int:
    """The sum of RFC 1071, not complemented, 0 to 0xFFFF: a number modulo 0xFFFF is the sum of its 16-bit digits."""
    value = int.from_bytes(data, "big")
    if len(data) & 1:
        value <<= 8
    return value % 0xFFFF or (0xFFFF if value else 0)


class Cut:
    """How a packet is cut: where its transport and its payload begin, and how much payload each segment has."""

    __slots__ = ("header", "protocol", "size", "start", "version")

    def __init__(self, version: int, protocol: int, start: int, header: int, size: int) -> None:
        self.version = version
        self.protocol = protocol
        self.start = start
        self.header = header
        self.size = size


def plan_cut(packet: Bytes, offload: Offload) -> Cut | None:
    """How to cut `packet`; `None` for one that is a single packet already. Raises `PeerViolation` for a lie."""
    kind = offload.kind & ~ECN
    if kind == PLAIN:
        return None
    length = len(packet)
    version = packet[0] >> 4 if length else 0
    start = offload.checksum_start
    wanted = {TCP4: (4, _TCP), TCP6: (6, _TCP)}.get(kind)
    protocol = _UDP if kind == UDP_SEGMENTS else _TCP
    if version not in (4, 6) or (wanted is not None and wanted[0] != version):
        raise PeerViolation("segment-version", f"IP version {version}")
    if (
        not offload.flags & NEEDS_CHECKSUM
        or start < (20 if version == 4 else 40)
        or length < start + (8 if protocol == _UDP else 20)
    ):
        raise PeerViolation("segment-checksum", f"a transport head at {start} of {length} bytes")
    if version == 4 and ((packet[0] & 15) * 4 != start or packet[9] != protocol):
        raise PeerViolation("segment-header", "the IPv4 head does not end where the transport begins")
    header = start + (8 if protocol == _UDP else (packet[start + 12] >> 4) * 4)
    if header < start + 8 or header > length or (protocol == _TCP and header < start + 20):
        raise PeerViolation("segment-header", "the transport head is longer than the packet")
    if not offload.segment_size or not length - header:
        raise PeerViolation("segment-size", f"{offload.segment_size} of {length - header} bytes")
    return Cut(version, protocol, start, header, offload.segment_size)


def split_packet(packet: Bytes, offload: Offload) -> list[bytes]:
    """The packets that a super-packet stands for, whole and finished. Raises `PeerViolation` for a lying head."""
    cut = plan_cut(packet, offload)
    if cut is None:
        return [_finish(packet, offload)]
    payload = memoryview(packet)[cut.header :]
    count = -(-len(payload) // cut.size)
    return [_segment(packet, payload, cut, at, count, offload) for at in range(count)]


def cut_packet(packet: Bytes, offload: Offload, most: int) -> list[bytes]:
    """Records of at most `most` bytes, or of one segment each, that stand for the same packets: nothing is summed.

    Raises `PeerViolation` for a lying head.
    """
    cut = plan_cut(packet, offload)
    if cut is None:
        return [offload.pack() + packet]
    header, size, start = cut.header, cut.size, cut.start
    payload = memoryview(packet)[header:]
    each = max(1, (most - header) // size) * size
    addresses = sum16(packet[12:20] if cut.version == 4 else packet[8:40]) + cut.protocol
    place = start + (16 if cut.protocol == _TCP else 6)
    records = []
    for at in range(0, len(payload), each):
        part = payload[at : at + each]
        head = bytearray(packet[:header])
        length = header + len(part)
        if cut.version == 4:
            _H.pack_into(head, 2, length)
            _H.pack_into(head, 4, (_H.unpack_from(head, 4)[0] + at // size) & 0xFFFF)
            _H.pack_into(head, 10, 0)
            _H.pack_into(head, 10, ~sum16(head[:start]) & 0xFFFF)
        else:
            _H.pack_into(head, 4, length - 40)
        kind = offload.kind
        if cut.protocol == _TCP:
            _L.pack_into(head, start + 4, (_L.unpack_from(head, start + 4)[0] + at) & 0xFFFFFFFF)
            if at + each < len(payload):
                head[start + 13] &= ~(_FIN | _PSH) & 0xFF
            if at and kind & ECN:
                head[start + 13] &= ~_CWR & 0xFF
                kind &= ~ECN
        else:
            _H.pack_into(head, start + 4, length - start)
        _H.pack_into(head, place, (addresses + length - start) % 0xFFFF or 0xFFFF)
        one = len(part) <= size
        left = Offload(NEEDS_CHECKSUM, PLAIN if one else kind, header, 0 if one else size, start, place - start)
        records.append(b"".join((left.pack(), head, part)))
    return records


def _finish(packet: Bytes, offload: Offload) -> bytes:
    if not offload.flags & NEEDS_CHECKSUM:
        return bytes(packet)
    place = offload.checksum_start + offload.checksum_offset
    if place + 2 > len(packet) or offload.checksum_start >= len(packet):
        raise PeerViolation("segment-checksum", f"a checksum at {place} of {len(packet)} bytes")
    made = bytearray(packet)
    _H.pack_into(made, place, ~sum16(made[offload.checksum_start :]) & 0xFFFF or 0xFFFF)
    return bytes(made)


def _segment(packet: Bytes, payload: memoryview, cut: Cut, at: int, count: int, offload: Offload) -> bytes:
    part = payload[at * cut.size : (at + 1) * cut.size]
    head = bytearray(packet[: cut.header])
    length = len(head) + len(part)
    if cut.version == 4:
        _H.pack_into(head, 2, length)
        _H.pack_into(head, 4, (_H.unpack_from(head, 4)[0] + at) & 0xFFFF)
        _H.pack_into(head, 10, 0)
        _H.pack_into(head, 10, ~sum16(head[: cut.start]) & 0xFFFF)
        addresses = head[12:20]
    else:
        _H.pack_into(head, 4, length - 40)
        addresses = head[8:40]
    start = cut.start
    if cut.protocol == _TCP:
        place = start + 16
        _L.pack_into(head, start + 4, (_L.unpack_from(head, start + 4)[0] + at * cut.size) & 0xFFFFFFFF)
        if at < count - 1:
            head[start + 13] &= ~(_FIN | _PSH) & 0xFF
        if at and offload.kind & ECN:
            head[start + 13] &= ~_CWR & 0xFF
    else:
        place = start + 6
        _H.pack_into(head, start + 4, length - start)
    _H.pack_into(head, place, 0)
    total = sum16(addresses) + cut.protocol + length - start + sum16(head[start:] + part)
    _H.pack_into(head, place, ~(total % 0xFFFF or 0xFFFF) & 0xFFFF or (0 if cut.protocol == _TCP else 0xFFFF))
    return bytes(head) + part


class _Run:
    """Packets of one TCP connection that follow each other without a gap."""

    __slots__ = ("closed", "header", "next", "parts", "size", "start", "total", "version")

    def __init__(self, packet: Bytes, version: int, start: int, header: int, payload: int, sequence: int) -> None:
        self.version = version
        self.start = start
        self.header = header
        self.parts = [packet]
        self.size = payload
        self.total = len(packet)
        self.next = (sequence + payload) & 0xFFFFFFFF
        self.closed = bool(packet[start + 13] & _PSH)

    def takes(self, packet: Bytes, start: int, header: int, payload: int, sequence: int) -> bool:
        if self.closed or sequence != self.next or header != self.header or payload > self.size:
            return False
        first = self.parts[0]
        at = self.start
        return (
            self.total + payload <= _MOST_JOINED
            and packet[at + 8 : at + 13] == first[at + 8 : at + 13]  # acknowledgement and head length
            and packet[at + 14 : at + 16] == first[at + 14 : at + 16]  # window
            and packet[at + 18 : header] == first[at + 18 : header]  # urgent pointer and options
            and _same_network_head(first, packet, self.version)
        )

    def add(self, packet: Bytes, payload: int) -> None:
        self.parts.append(packet)
        self.total += payload
        self.next = (self.next + payload) & 0xFFFFFFFF
        self.closed = payload < self.size or bool(packet[self.start + 13] & _PSH)

    def record(self) -> bytes:
        """The joined packet behind its head."""
        if len(self.parts) == 1:
            return PLAIN_HEAD + self.parts[0]
        head = bytearray(self.parts[0][: self.header])
        start = self.start
        if self.version == 4:
            _H.pack_into(head, 2, self.total)
            _H.pack_into(head, 10, 0)
            _H.pack_into(head, 10, ~sum16(head[:start]) & 0xFFFF)
            addresses = head[12:20]
        else:
            _H.pack_into(head, 4, self.total - 40)
            addresses = head[8:40]
        head[start + 13] |= self.parts[-1][start + 13] & _PSH
        pseudo = sum16(addresses) + _TCP + self.total - start
        _H.pack_into(head, start + 16, pseudo % 0xFFFF or 0xFFFF)
        offload = Offload(NEEDS_CHECKSUM, TCP4 if self.version == 4 else TCP6, self.header, self.size, start, 16)
        return b"".join((offload.pack(), head, *(memoryview(part)[self.header :] for part in self.parts)))


def _same_network_head(first: Bytes, other: Bytes, version: int) -> bool:
    if version == 4:  # type of service; flags and fragment offset; time to live
        return first[1] == other[1] and first[6:9] == other[6:9]
    return first[0:4] == other[0:4] and first[7] == other[7]


def join_packets(packets: Sequence[Bytes]) -> list[bytes]:
    """Records (a head of `virtio_net`, then the packet) for a TUN device: what follows each other in TCP is joined.

    Packets of one connection keep their order. What cannot be joined, or whose checksum is wrong, stays as it is.
    """
    records: list[_Run | Bytes] = []
    runs: dict[bytes, _Run] = {}
    for packet in packets:
        found = _stream_part(packet)
        if found is None:
            records.append(packet)
            continue
        version, start, header, payload, sequence = found
        key = bytes(packet[12 if version == 4 else 8 : start]) + bytes(packet[start : start + 4])
        run = runs.get(key)
        if payload and packet[start + 13] & ~_PSH == _ACK_ONLY:
            if run is not None and run.takes(packet, start, header, payload, sequence):
                if _sum_is_right(packet, version, start):
                    run.add(packet, payload)
                    continue
            elif len(packets) > 1 and _sum_is_right(packet, version, start):
                runs[key] = run = _Run(packet, version, start, header, payload, sequence)
                records.append(run)
                continue
        runs.pop(key, None)  # what follows must not overtake this one
        records.append(packet)
    return [one.record() if isinstance(one, _Run) else PLAIN_HEAD + one for one in records]


def _stream_part(packet: Bytes) -> tuple[int, int, int, int, int] | None:
    """Version, start of the TCP head, start of the payload, its length, and the sequence number; `None` for others."""
    length = len(packet)
    if length < 40:
        return None
    if packet[0] == 0x45:
        if packet[9] != _TCP or _H.unpack_from(packet, 2)[0] != length or packet[6] & 0x3F or packet[7]:
            return None
        version, start = 4, 20
    elif packet[0] >> 4 == 6:
        if length < 60 or packet[6] != _TCP or _H.unpack_from(packet, 4)[0] != length - 40:
            return None
        version, start = 6, 40
    else:
        return None
    header = start + (packet[start + 12] >> 4) * 4
    if header < start + 20 or header > length:
        return None
    return version, start, header, length - header, _L.unpack_from(packet, start + 4)[0]


def _sum_is_right(packet: Bytes, version: int, start: int) -> bool:
    addresses = packet[12:20] if version == 4 else packet[8:40]
    total = sum16(addresses) + _TCP + len(packet) - start + sum16(packet[start:])
    return total % 0xFFFF == 0 and (version == 6 or sum16(packet[:start]) == 0xFFFF)
