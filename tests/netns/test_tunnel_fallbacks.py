"""Every feature of the kernel's that the data path uses can be missing, and the packets are the same."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from towpath.errors import FeatureMissing
from towpath.kernel.tunnel import TunnelPlan
from towpath.linux.datagram_rows import DatagramSocket
from towpath.linux.tun import ALL_OFFLOADS, TunQueue, open_tun
from towpath.linux.tunnel_device import TunnelLink
from towpath.providers import Packet
from towpath.testing import Lab
from towpath.testing.plan import LabPlan
from towpath.wire.virtio_net import NEEDS_CHECKSUM, TCP4, read_offload


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(LabPlan().host("one")) as lab:
        yield lab


def _sum_is_right(packet: bytes) -> bool:
    words = packet[12:20] + struct.pack(">HH", packet[9], len(packet) - 20) + packet[20:]
    words += bytes(len(words) & 1)
    total: int = sum(struct.unpack(f">{len(words) // 2}H", words))
    return total % 0xFFFF == 0


def _bulk_from_a_device(heads: bool, offloads: tuple[int, ...]) -> tuple[list[int], bytes, bool, int, bool]:
    """Speaks TCP as the far side: how large the records were, the bytes, whether all sums were right, what was had."""
    device = open_tun("t0", heads=heads, offloads=offloads)
    TunnelLink(device.name).apply(TunnelPlan((("10.3.0.1", 24),), (), (), 1400))
    queue = TunQueue(device.queue, heads=device.heads)
    client = socket.socket()
    client.setblocking(False)
    assert client.connect_ex(("10.3.0.2", 80)) == errno.EINPROGRESS
    sizes: list[int] = []
    received, sums, acknowledged, wanted = b"", True, 0, bytes(range(256)) * 200
    sent = 0
    while len(received) < len(wanted):
        assert select.select([device.queue], [], [], 60)[0], "the device is silent"
        for record in queue.receive():
            packet = Packet(bytes(record))
            if packet.version != 4 or packet.data[9] != 6:
                continue
            for one in packet.split():
                sums = sums and _sum_is_right(one)
                head = 20 + (one[32] >> 4) * 4
                sequence = struct.unpack_from(">L", one, 24)[0]
                flags, payload = one[33], one[head:]
                if flags & 2:
                    acknowledged, answer = sequence + 1, 0x12
                else:
                    answer = 0x10
                    if payload and sequence == acknowledged:
                        received += payload
                        acknowledged = (sequence + len(payload)) & 0xFFFFFFFF
                assert queue.send(bytes(10) + _answer(one, acknowledged, answer))
            if len(packet.data) > 60:
                sizes.append(len(packet.data))
        if sent < len(wanted):
            try:
                sent += client.send(wanted[sent:])
            except (BlockingIOError, BrokenPipeError):
                pass  # it is not connected yet, or has no room
    client.close()
    os.close(device.queue)
    return sizes, received, sums, device.offloads, device.heads


def _answer(packet: bytes, acknowledged: int, flags: int) -> bytes:
    ports = packet[22:24] + packet[20:22]
    sequence = 1000 if flags & 2 else 1001
    options = b"\2\4\5\x50" if flags & 2 else b""
    tcp = (
        ports + struct.pack(">LLBBHHH", sequence, acknowledged, (20 + len(options)) << 2, flags, 65000, 0, 0) + options
    )
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, 6, 0) + packet[16:20] + packet[12:16]

    def sum_of(data: bytes) -> int:
        total = sum(struct.unpack(f">{len(data) // 2}H", data))
        return 0xFFFF - (total % 0xFFFF or 0xFFFF)

    ip = ip[:10] + struct.pack(">H", sum_of(ip)) + ip[12:]
    pseudo = ip[12:20] + struct.pack(">HH", 6, len(tcp))
    return ip + tcp[:16] + struct.pack(">H", sum_of(pseudo + tcp)) + tcp[18:]


@pytest.mark.parametrize(
    ("heads", "offloads", "large"),
    [(True, ALL_OFFLOADS, True), *[(True, (one,), bool(one & 2)) for one in ALL_OFFLOADS[1:]], (False, (), False)],
)
def test_a_device_gives_the_same_bytes_with_whatever_the_kernel_can(
    lab: Lab, heads: bool, offloads: tuple[int, ...], large: bool
) -> None:
    sizes, received, sums, chosen, has_heads = lab["one"].call(_bulk_from_a_device, heads, offloads)
    assert received == bytes(range(256)) * 200
    assert sums, "every packet has a right checksum once it was cut"
    assert (max(sizes) > 1400) is large, sizes
    assert has_heads is heads
    assert chosen == (offloads[0] if heads else 0)


def _datagrams_from_a_device(offloads: tuple[int, ...]) -> tuple[list[bytes], bool, bool, int]:
    """A program sends a row of datagrams by one call: what they hold, whether the sums are right, whether one record
    held several, and what was had.
    """
    device = open_tun("t1", offloads=offloads)
    TunnelLink(device.name).apply(TunnelPlan((("10.4.0.1", 24),), (), (), 1400))
    queue = TunQueue(device.queue, heads=True)
    found: list[bytes] = []
    sums = True
    several = False
    with socket.socket(type=socket.SOCK_DGRAM) as program:
        program.connect(("10.4.0.2", 9))
        program.setsockopt(socket.SOL_UDP, 103, 1000)  # UDP_SEGMENT
        assert program.send(b"".join(bytes([at]) * 1000 for at in range(20)) + b"end") == 20_003
        while len(found) < 21:
            assert select.select([device.queue], [], [], 5)[0], "the device is silent"
            for record in queue.receive():
                packet = Packet(bytes(record))
                if packet.version != 4 or packet.data[9] != 17:
                    continue
                segments = packet.split()
                several = several or len(segments) > 1
                found += [one[28:] for one in segments]
                sums = sums and all(map(_sum_is_right, segments))
    os.close(device.queue)
    return found, sums, several, device.offloads


@pytest.mark.parametrize("offloads", [ALL_OFFLOADS, ALL_OFFLOADS[1:], ALL_OFFLOADS[-1:]], ids=["all", "no USO", "none"])
def test_rows_of_a_program_s_datagrams_are_the_same_where_the_device_does_not_cut_them(
    lab: Lab, offloads: tuple[int, ...]
) -> None:
    found, sums, several, chosen = lab["one"].call(_datagrams_from_a_device, offloads)
    assert found == [*(bytes([at]) * 1000 for at in range(20)), b"end"]
    assert sums, "every packet has a right checksum once it was cut"
    assert several is bool(chosen & 0x20), "TUN_F_USO4, Linux 6.2"
    assert chosen in offloads


def test_a_missing_node_is_named() -> None:
    with pytest.raises(FeatureMissing, match="/nowhere/tun") as caught:
        open_tun("t0", node="/nowhere/tun")
    assert "modprobe tun" in (caught.value.hint or "")


def test_offload_heads_are_those_of_the_kernel(lab: Lab) -> None:
    assert read_offload(struct.pack("=BBHHHH", NEEDS_CHECKSUM, TCP4, 52, 1348, 20, 16)).segment_size == 1348


@pytest.mark.parametrize("segments", [True, False])
@pytest.mark.parametrize("coalesces", [True, False])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("connected", [True, False])
def test_rows_of_datagrams_arrive_as_they_were_sent(
    segments: bool, coalesces: bool, address: str, connected: bool
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as one, socket.socket(family, socket.SOCK_DGRAM) as other:
        for made in (one, other):
            made.bind((address, 0))
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        to = other.getsockname()[:2]
        if connected:
            one.connect(to)
        sender = DatagramSocket(one, segments=segments, coalesces=False)
        receiver = DatagramSocket(other, coalesces=coalesces)
        data = os.urandom(1200 * 120 + 77)
        target = None if connected else to
        sender.send([data[:1000], data[1000:]], 1200, target)
        sender.send([b"a single one"], 0, target)
        sender.send([bytes(2000)], 0, target)
        got: list[bytes] = []
        while len(got) < 123:
            assert select.select([other], [], [], 60)[0]
            while (row := receiver.receive()) is not None:
                view, size, source = row
                assert source == one.getsockname()[:2]
                got += [bytes(view[at : at + size]) for at in range(0, len(view), size)]
        assert b"".join(got[:121]) == data
        assert {len(piece) for piece in got[:120]} == {1200}
        assert got[121:] == [b"a single one", bytes(2000)]
        assert sender.refused == 0


_SIZES = {
    "equal": [1400] * 150,
    "equal and a shorter one at the end": [1400] * 30 + [7],
    "growing": list(range(1, 1500, 10)),
    "shrinking": list(range(1500, 1, -10)),
    "large between small": [100, 1400, 100, 1400] * 20,
    "longer than a slot": [1400, 9000, 40_000, 65_000, 1400, 1400],
    "nothing in some": [0, 0, 5, 0, 1400, 0],
}


@pytest.mark.parametrize("sizes", _SIZES.values(), ids=_SIZES)
def test_datagrams_that_nothing_joins_come_as_they_are_in_few_reads(sizes: list[int]) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        receiver = DatagramSocket(other, coalesces=False)
        sent = [bytes([at % 251]) * size for at, size in enumerate(sizes)]
        for turn in range(3):
            got: list[bytes] = []
            for data in sent:
                one.sendto(data, other.getsockname())
            while (row := receiver.receive()) is not None:
                view, size, source = row
                assert source == ("127.0.0.1", one.getsockname()[1])
                got += [bytes(view[at : at + size]) for at in range(0, len(view), size)] if size else [b""]
            assert got == sent, f"in turn {turn}"


def test_datagrams_of_several_senders_are_never_in_one_row() -> None:
    with ExitStack() as stack:
        other, *senders = (stack.enter_context(socket.socket(type=socket.SOCK_DGRAM)) for _ in range(4))
        other.bind(("127.0.0.1", 0))
        receiver = DatagramSocket(other, coalesces=False)
        for at in (0, 0, 0, 1, 1, 2, 0, 2, 2):
            senders[at].sendto(bytes([at]) * 1000, other.getsockname())
        rows = [(bytes(row[0]), row[2][1]) for row in iter(receiver.receive, None)]
        ports = [sender.getsockname()[1] for sender in senders]
        wanted = ((0, 3), (1, 2), (2, 1), (0, 1), (2, 2))
        assert b"".join(data for data, _port in rows) == b"".join(bytes([at]) * 1000 * count for at, count in wanted)
        assert all(port == ports[data[0]] and set(data) == {data[0]} for data, port in rows)


def test_what_the_kernel_joins_is_told_apart_after_single_ones() -> None:
    """Reads go from one large place to many small ones and back, and no byte depends on it."""
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        one.connect(other.getsockname())
        sender, receiver = DatagramSocket(one), DatagramSocket(other)
        sent: list[bytes] = []
        got: list[bytes] = []
        for size, count in (
            (1400, 1),
            (1400, 1),
            (1400, 1),
            (500, 40),
            (1200, 30),
            (90, 1),
            (90, 1),
            (1400, 1),
            (60, 9),
        ):
            row = [os.urandom(size) for _ in range(count)]
            sent += row
            assert sender.send(row, size, None) is None
            if count == 1:
                assert select.select([other], [], [], 5)[0]
            while count == 1 and (single := receiver.receive()) is not None:
                got.append(bytes(single[0]))
            while count > 1 and len(got) < len(sent):
                assert select.select([other], [], [], 5)[0]
                while (found := receiver.receive()) is not None:
                    view, each, _source = found
                    got += [bytes(view[at : at + each]) for at in range(0, len(view), each)]
        assert got == sent


@pytest.mark.parametrize("segments", [True, False])
def test_what_finds_no_room_is_given_back_and_nothing_is_sent_twice(segments: bool) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        one.setblocking(False)
        sender = DatagramSocket(one, segments=segments, coalesces=False)  # a kind of socket that knows of no segments
        data = b"".join(number.to_bytes(2, "big") * 500 for number in range(600))
        got: list[bytes] = []
        left: bytes | bytearray | memoryview | None = data
        while left is not None:
            left = sender.send([left], 1000, None)
            assert left is None or len(left) % 1000 == 0
            while select.select([other], [], [], 0)[0]:
                got.append(other.recv(2000))
        assert b"".join(got) == data
