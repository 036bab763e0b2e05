"""Packets and datagrams as a tunnel's provider meets them: a TUN queue and UDP sockets in one event loop.

Back-pressure: while a link has no room, the queue is not read, and the programs' own transports slow down.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from towpath.kernel.system import datagram_rows
from towpath.providers.packets import Buffer, DatagramHandler, Datagrams, Packet, PacketHandler, PeerAddress
from towpath.wire.virtio_net import HEAD_SIZE

__all__ = ["SocketLink", "TunFlow"]

_BATCHES_AT_ONCE = 32
_ROWS_AT_ONCE = 32
_BATCHES_KEPT = 4
_MOST_KEPT = 256
"""Sends that wait for room in a link."""


class TunFlow:
    """Implements `towpath.providers.packets.PacketFlow` on a TUN queue."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: Any) -> None:
        self._loop = loop
        self._queue = queue
        self._handler: PacketHandler | None = None
        self._full: set[object] = set()
        self._reading = False
        self._waiting: deque[list[Packet]] = deque()
        self._singles: deque[bytes] = deque()
        self._arrived = asyncio.Event()
        self.watch: Callable[[bytes | bytearray | memoryview, bool], None] | None = None
        """Sees each record that passes, and whether it goes out."""
        self.figures = dict.fromkeys(("packets_out", "bytes_out", "packets_in", "bytes_in", "refused"), 0)

    def deliver_to(self, handler: PacketHandler) -> None:
        self._handler = handler
        self._read_on()

    def hold(self, who: object) -> None:
        """A link is full."""
        self._full.add(who)
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._queue.descriptor)

    def free(self, who: object) -> None:
        self._full.discard(who)
        self._read_on()

    def _read_on(self) -> None:
        if self._handler is not None and not self._full and not self._reading:
            self._reading = True
            self._loop.add_reader(self._queue.descriptor, self.poll)

    def poll(self) -> None:
        """Looks whether there are packets, without having been told of any: what was written is often answered at once.

        Reading goes on until there are none, but not for so long that the links' turn does not come.
        """
        queue, figures = self._queue, self.figures
        for _ in range(_BATCHES_AT_ONCE):
            handler = self._handler
            if self._full or handler is None:
                return
            try:
                records = queue.receive()
            except OSError:
                self.close()
                return
            if records:
                figures["packets_out"] += len(records)
                figures["bytes_out"] += sum(map(len, records)) - HEAD_SIZE * len(records)
                if self.watch is not None:
                    for record in records:
                        self.watch(record, True)
                handler([Packet(record) for record in records])
            if queue.drained:
                return

    def write(self, packets: Sequence[Packet]) -> None:
        send, refused, length = self._queue.send, 0, 0
        for packet in packets:
            record = packet.record
            if self.watch is not None:
                self.watch(record, False)
            if send(record):
                length += len(record) - HEAD_SIZE
            else:
                refused += 1
        figures = self.figures
        figures["packets_in"] += len(packets) - refused
        figures["bytes_in"] += length
        figures["refused"] += refused

    async def read(self) -> list[Packet]:
        if self._handler is None:
            self.deliver_to(self._keep)
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        batch = self._waiting.popleft()
        if len(self._waiting) < _BATCHES_KEPT:
            self.free(self)
        return batch

    def _keep(self, packets: list[Packet]) -> None:
        self._waiting.append([Packet(bytes(packet.record)) for packet in packets])
        if len(self._waiting) >= _BATCHES_KEPT:
            self.hold(self)
        self._arrived.set()

    async def read_one(self) -> bytes:
        while not self._singles:
            self._singles.extend(one for packet in await self.read() for one in packet.split())
        return self._singles.popleft()

    def write_one(self, data: Buffer) -> None:
        self.write([Packet.of(data)])

    def close(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._queue.descriptor)
        self._reading = False
        self._handler = None


class SocketLink:
    """Implements `towpath.providers.packets.DatagramLink` on a UDP socket, which `rebind` may replace."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, flow: TunFlow, made: socket.socket, remote: PeerAddress | None
    ) -> None:
        self._loop = loop
        self._flow = flow
        self._made = datagram_rows.DatagramSocket(made)
        self._remote = remote
        self._handler: DatagramHandler | None = None
        self._kept: deque[tuple[bytes, int, PeerAddress | None]] = deque()
        self.closed: Callable[[], None] = lambda: None
        self.figures = dict.fromkeys(("datagrams_in", "bytes_in", "bytes_out", "dropped"), 0)

    @property
    def datagram_size(self) -> int:
        return self._made.datagram_size()

    @property
    def remote(self) -> PeerAddress | None:
        return self._remote

    @property
    def refused(self) -> int:
        """Datagrams that the kernel would not send, or that were refused on the way."""
        return self._made.refused

    @property
    def trouble(self) -> str:
        """Why the last of them was."""
        return self._made.trouble

    def deliver_to(self, handler: DatagramHandler) -> None:
        first = self._handler is None
        self._handler = handler
        if first:
            self._loop.add_reader(self._made.socket, self._readable)

    def _readable(self) -> None:
        made, figures = self._made, self.figures
        for _ in range(_ROWS_AT_ONCE):
            if self._handler is None:
                return
            row = made.receive()
            if row is None:
                break
            data, size, source = row
            figures["datagrams_in"] += -(-len(data) // size) if size else 1
            figures["bytes_in"] += len(data)
            self._handler(Datagrams(data, size, source))
            if made.drained:
                break
        self._flow.poll()

    def send(self, parts: Sequence[Buffer], size: int = 0, to: PeerAddress | None = None) -> None:
        total = sum(map(len, parts))
        self.figures["bytes_out"] += total
        left = b"".join(parts) if self._kept else self._made.send(parts, size, to, total)
        if left is not None:
            self._keep(bytes(left), size, to)

    def send_each(self, datagrams: Sequence[Buffer], to: PeerAddress | None = None) -> None:
        """Those of one size that follow each other go in one call."""
        run: list[Buffer] = []
        for datagram in datagrams:
            if run and len(datagram) > len(run[0]):
                self._send_run(run, to)
                run = []
            run.append(datagram)
            if len(datagram) < len(run[0]):
                self._send_run(run, to)
                run = []
        if run:
            self._send_run(run, to)

    def _send_run(self, run: list[Buffer], to: PeerAddress | None) -> None:
        self.send(run, len(run[0]) if len(run) > 1 else 0, to)

    def _keep(self, data: bytes, size: int, to: PeerAddress | None) -> None:
        if len(self._kept) >= _MOST_KEPT:
            self.figures["dropped"] += 1
            return
        if not self._kept:
            self._flow.hold(self)
            self._loop.add_writer(self._made.socket, self._writable)
        self._kept.append((data, size, to))

    def _writable(self) -> None:
        while self._kept:
            data, size, to = self._kept[0]
            left = self._made.send((data,), size, to)
            if left is not None:
                self._kept[0] = bytes(left), size, to
                return
            self._kept.popleft()
        self._loop.remove_writer(self._made.socket)
        self._flow.free(self)

    def rebind(self, made: socket.socket, remote: PeerAddress | None) -> None:
        """Goes on with another socket: the path has changed. What waited for room is lost, as on a path that went."""
        self._stop()
        self._made = datagram_rows.DatagramSocket(made, segments=self._made.segments)
        self._remote = remote
        if self._handler is not None:
            self._loop.add_reader(made, self._readable)

    def _stop(self) -> None:
        self._loop.remove_reader(self._made.socket)
        if self._kept:
            self._kept.clear()
            self._loop.remove_writer(self._made.socket)
            self._flow.free(self)
        self._made.socket.close()

    def close(self) -> None:
        if self._made.socket.fileno() >= 0:
            self._stop()
            self._handler = None
            self.closed()
