"""What a packet tunnel carries: packets of programs, as large as the kernel makes them, and datagrams to a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeAlias

from towpath.wire.segmentation import cut_packet, join_packets, split_packet
from towpath.wire.virtio_net import HEAD_SIZE, NEEDS_CHECKSUM, PLAIN, PLAIN_HEAD, Offload, read_offload

__all__ = [
    "Buffer", "DatagramHandler", "DatagramLink", "Datagrams", "Offload", "Packet", "PacketFlow", "PacketHandler",
    "PeerAddress", "join_packets", "read_offload",
]  # fmt: skip

Buffer: TypeAlias = bytes | bytearray | memoryview
PeerAddress: TypeAlias = tuple[str, int]
"""An IP address as text, and a port."""


class Packet:
    """An IP packet of up to 64 KB behind the 10 bytes that say what is still to be done to it: `record` holds both.

    >>> packet = Packet.of(bytes([0x45]) + bytes(19))
    >>> packet.version, packet.whole, len(packet.record)
    (4, True, 30)

    What a packet flow delivers lies in a buffer that is used again: it is good until the handler returns, and
    `bytes(packet.record)` keeps it.
    """

    __slots__ = ("record",)

    def __init__(self, record: Buffer) -> None:
        self.record = record

    @classmethod
    def of(cls, data: Buffer) -> Packet:
        """A packet that is whole and finished."""
        return cls(PLAIN_HEAD + data)

    @property
    def data(self) -> Buffer:
        """The IP packet."""
        return self.record[HEAD_SIZE:]

    @property
    def version(self) -> int:
        """4 or 6 of a sane packet; 0 to 15 of any other."""
        return self.record[HEAD_SIZE] >> 4 if len(self.record) > HEAD_SIZE else 0

    @property
    def offload(self) -> Offload:
        """What is to be done. Raises `PeerViolation` for a record that no device made."""
        return read_offload(self.record)

    @property
    def whole(self) -> bool:
        """Whether it can go on a wire as it is: not to be cut, its checksum finished."""
        return not self.record[0] & NEEDS_CHECKSUM and self.record[1] == PLAIN

    def cut(self, most: int) -> list[bytes]:
        """Records of at most `most` bytes (of a segment, where that is more) that stand for the same packets.

        For peers that take records and paths that lose: nothing is copied but heads, and nothing summed. Raises
        `PeerViolation` for one that lies.
        """
        return [bytes(self.record)] if self.whole else cut_packet(self.data, self.offload, most)

    def split(self) -> list[bytes]:
        """The packets that it stands for, as they go on a wire. Raises `PeerViolation` for one that lies."""
        return [bytes(self.data)] if self.whole else split_packet(self.data, self.offload)


PacketHandler: TypeAlias = Callable[[list[Packet]], None]


class PacketFlow(Protocol):
    """The packets of the programs, both ways. Reading stops by itself while a link has no room to send."""

    def deliver_to(self, handler: PacketHandler) -> None:
        """Calls `handler` with each batch that programs have sent."""

    async def read(self) -> list[Packet]:
        """The next batch, copied; for who wants to wait instead of being called."""

    def write(self, packets: Sequence[Packet]) -> None:
        """Gives packets to the programs. What the kernel refuses is counted and lost."""

    async def read_one(self) -> bytes:
        """The next single packet, cut from its super-packet and with its checksum: the simple view."""

    def write_one(self, data: Buffer) -> None:
        """Gives one whole packet to the programs."""


class Datagrams:
    """Datagrams of one sender that came in one read: `size` bytes each in `data`, the last perhaps shorter.

    >>> [bytes(one) for one in Datagrams(b"aabbc", 2, ("192.0.2.1", 9))]
    [b'aa', b'bb', b'c']
    """

    __slots__ = ("data", "size", "source")

    def __init__(self, data: Buffer, size: int, source: PeerAddress) -> None:
        self.data = data
        self.size = size
        self.source = source

    def __len__(self) -> int:
        return -(-len(self.data) // self.size) if self.data else 1

    def __iter__(self) -> Iterator[Buffer]:
        data, size = self.data, self.size or 1
        return iter([data[at : at + size] for at in range(0, len(data), size)] or [data])


DatagramHandler: TypeAlias = Callable[[Datagrams], None]


class DatagramLink(Protocol):
    """UDP to a server, or of one. It was opened by who may; it survives a change of the network below."""

    @property
    def datagram_size(self) -> int:
        """The largest content that passes the path to the server in one packet, as far as is known."""

    @property
    def remote(self) -> PeerAddress | None:
        """The server's address, or `None` for a link that listens."""

    @property
    def refused(self) -> int:
        """How many datagrams could not be sent, or were sent back by somebody on the way."""

    @property
    def trouble(self) -> str:
        """Why the last of them was, as "Connection refused": nobody listens there; "" where there was none."""

    def deliver_to(self, handler: DatagramHandler) -> None:
        """Calls `handler` with what has come; it lies in a buffer that is used again."""

    def send(self, parts: Sequence[Buffer], size: int = 0, to: PeerAddress | None = None) -> None:
        """Sends the parts, joined, as one datagram; or as datagrams of `size` bytes, the last perhaps shorter.

        A link that listens needs `to`. It never waits: what finds no room is kept while it is little, and meanwhile
        the packet flow is not read.
        """

    def send_each(self, datagrams: Sequence[Buffer], to: PeerAddress | None = None) -> None:
        """Sends datagrams of any sizes."""

    def close(self) -> None:
        """Ends it."""
