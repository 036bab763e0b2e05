"""Cutting and joining: the same bytes with numpy and without, valid on the wire, and nothing lost on the way back."""

from __future__ import annotations

import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from towpath.errors import PeerViolation
from towpath.providers import Packet
from towpath.wire.ip import checksum
from towpath.wire.segment_rows import Rows, join_rows, split_rows
from towpath.wire.segmentation import cut_packet, join_packets, split_packet, sum16
from towpath.wire.virtio_net import ECN, NEEDS_CHECKSUM, PLAIN_HEAD, TCP4, TCP6, UDP_SEGMENTS, Offload, read_offload

numpy = pytest.importorskip("numpy")

Super = tuple[bytes, Offload]


@st.composite
def super_packets(draw: st.DrawFn, transport: str | None = None, *, joined: bool = False) -> Super:
    """`joined`: of 13 segments at least, and with flags that segments keep when they are joined."""
    version = draw(st.sampled_from((4, 6)))
    transport = transport or draw(st.sampled_from(("tcp", "udp")))
    size = draw(st.integers(1, 1500))
    payload = draw(st.integers(12 * size + 1 if joined else 1, min(62_000, size * 60)))
    data = (draw(st.binary(min_size=1, max_size=64)) * (payload // 1 + 1))[:payload]
    if transport == "tcp":
        options = b"\1\1\x08\x0a" + draw(st.binary(min_size=8, max_size=8)) if draw(st.booleans()) else b""
        flags = 0x10 | draw(st.sampled_from((0, 8) if joined else (0, 8, 9, 0x80, 0x88)))
        head = struct.pack(
            ">HHLLBBHHH", 1234, 443, draw(st.integers(0, 2**32 - 1)), 7, (20 + len(options)) << 2, flags, 500, 0, 0
        )
        head, protocol, place = head + options, 6, 16
    else:
        head, protocol, place, flags = struct.pack(">HHHH", 1234, 443, 8 + payload, 0), 17, 6, 0
    if version == 4:
        identity = draw(st.integers(0, 65_535))
        ip = struct.pack(
            ">BBHHHBBH4s4s",
            0x45,
            0,
            20 + len(head) + payload,
            identity,
            0x4000,
            64,
            protocol,
            0,
            b"\n\0\0\1",
            b"\n\0\0\2",
        )
        ip = ip[:10] + struct.pack(">H", ~sum16(ip) & 0xFFFF) + ip[12:]
        addresses = ip[12:20]
    else:
        addresses = draw(st.binary(min_size=32, max_size=32))
        ip = struct.pack(">IHBB", 6 << 28, len(head) + payload, protocol, 64) + addresses
    start = len(ip)
    pseudo = (sum16(addresses) + protocol + len(head) + payload) % 0xFFFF
    packet = bytearray(ip + head + data)
    struct.pack_into(">H", packet, start + place, pseudo)
    kind = UDP_SEGMENTS if transport == "udp" else {4: TCP4, 6: TCP6}[version]
    if flags & 0x80:
        kind |= ECN
    return bytes(packet), Offload(NEEDS_CHECKSUM, kind, start + len(head), size, start, place)


def is_whole(packet: bytes) -> bool:
    """Whether every length and checksum is right."""
    start, protocol = (20, packet[9]) if packet[0] >> 4 == 4 else (40, packet[6])
    if packet[0] >> 4 == 4:
        lengths = int.from_bytes(packet[2:4], "big") == len(packet) and checksum(packet[:20]) == 0
        addresses = packet[12:20]
    else:
        lengths = int.from_bytes(packet[4:6], "big") == len(packet) - 40
        addresses = packet[8:40]
    pseudo = addresses + struct.pack(">HH", protocol, len(packet) - start)
    return lengths and checksum(pseudo + packet[start:]) == 0


@given(super_packets())
def test_segments_are_valid_packets_with_all_of_the_payload(given: Super) -> None:
    packet, offload = given
    header = offload.checksum_start + (8 if offload.kind == UDP_SEGMENTS else packet[offload.checksum_start + 12] >> 2)
    segments = split_packet(packet, offload)
    assert all(map(is_whole, segments))
    assert b"".join(one[header:] for one in segments) == packet[header:]
    assert all(len(one) - header == offload.segment_size for one in segments[:-1])


@given(super_packets())
def test_rows_are_the_same_segments(given: Super) -> None:
    packet, offload = given
    rows = split_rows(packet, offload)
    assert rows is not None
    ends = [rows.length] * (len(rows.table) - 1) + [rows.last]
    found = [row[:end].tobytes() for row, end in zip(rows.table, ends, strict=True)]
    assert found == split_packet(packet, offload)
    assert not any(row[end:].any() for row, end in zip(rows.table, ends, strict=True))


@given(super_packets("tcp"))
def test_what_was_cut_is_joined_again_to_the_same_segments(given: Super) -> None:
    packet, offload = given
    assume(not packet[offload.checksum_start + 13] & 0x81)
    segments = split_packet(packet, offload)
    joined = join_packets(segments)
    again = [one for record in joined for one in split_packet(record[10:], read_offload(record))]
    assert again == segments
    rows = split_rows(packet, offload)
    assert rows is not None
    at_once = join_rows(rows)
    if len(segments) > 1 and len(joined) == 1:
        assert at_once == joined


@given(super_packets("tcp", joined=True), st.data())
def test_rows_with_a_gap_become_what_lies_on_both_sides_of_it(given: Super, data: st.DataObject) -> None:
    packet, offload = given
    segments = split_packet(packet, offload)
    gap = data.draw(st.integers(1, len(segments) - 2))
    rows = split_rows(packet, offload)
    assert rows is not None
    records = join_rows(Rows(numpy.delete(rows.table, gap, axis=0), rows.length, rows.last))
    assert records is not None
    again = [one for record in records for one in Packet(record).split()]
    assert len(records) == 2
    assert again == segments[:gap] + segments[gap + 1 :]


@given(super_packets("tcp"), st.data())
def test_a_damaged_segment_is_never_joined(given: Super, data: st.DataObject) -> None:
    packet, offload = given
    assume(not packet[offload.checksum_start + 13] & 0x81)
    segments = split_packet(packet, offload)
    assume(len(segments) > 1)
    which = data.draw(st.integers(0, len(segments) - 1))
    at = data.draw(st.integers(offload.checksum_start, len(segments[which]) - 1))
    damaged = bytearray(segments[which])
    damaged[at] ^= data.draw(st.integers(1, 255))
    segments[which] = bytes(damaged)
    assert PLAIN_HEAD + damaged in join_packets(segments), "it goes on alone, as wrong as it is"
    rows = split_rows(packet, offload)
    assert rows is not None
    rows.table[which, : len(damaged)] = numpy.frombuffer(damaged, numpy.uint8)
    assert join_rows(Rows(*rows)) is None


@given(st.lists(super_packets("tcp"), min_size=2, max_size=3))
def test_flows_that_come_mixed_keep_their_order(given: list[Super]) -> None:
    flows = []
    for port, (packet, offload) in enumerate(given):
        changed = bytearray(packet)
        start = offload.checksum_start
        pseudo = int.from_bytes(changed[start + 16 : start + 18], "big")
        struct.pack_into(">H", changed, start, 5000 + port)
        struct.pack_into(">H", changed, start + 16, pseudo)
        flows.append(split_packet(bytes(changed), offload))
    mixed = [one for turn in range(max(map(len, flows))) for flow in flows if turn < len(flow) for one in [flow[turn]]]
    out = [one for record in join_packets(mixed) for one in split_packet(record[10:], read_offload(record))]
    for flow in flows:
        assert [one for one in out if one in flow] == flow


@given(super_packets(), st.integers(0, 5), st.integers(0, 65_535))
def test_a_head_that_lies_is_refused(given: Super, field: int, value: int) -> None:
    packet, offload = given
    fields = list(offload)
    fields[field] = value & 0xFF if field < 2 else value
    lie = Offload(*fields)
    try:
        found = split_packet(packet, lie)
    except PeerViolation:
        with pytest.raises(PeerViolation):
            split_rows(packet, lie)
        return
    assert sum(map(len, found)) >= len(packet)


@given(super_packets(), st.integers(0, 63_000))
def test_smaller_super_packets_stand_for_the_same_segments(given: Super, most: int) -> None:
    packet, offload = given
    records = cut_packet(packet, offload, most)
    segments = [one for record in records for one in split_packet(record[10:], read_offload(record))]
    assert segments == split_packet(packet, offload)
    largest = max(most, offload.segment_size + 120)
    assert all(len(record) - 10 <= largest for record in records)
