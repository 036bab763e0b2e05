"""The flows of a whole host while they are undecided: packets in, verdicts on packets out."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol, TypeAlias

from towpath.errors import PeerViolation
from towpath.hosting.first_words import NameFinder
from towpath.hosting.held_stream import HeldStream
from towpath.hosting.host_rules import ALLOWED, FIELD, REFUSED, WATCHED
from towpath.kernel import system
from towpath.kernel.scope import DROP, REPEAT
from towpath.providers.flow import Direction, Flow, FlowReport
from towpath.wire import ip

if TYPE_CHECKING:
    from towpath.hosting.filters import Filters
    from towpath.hosting.screening import Screening
    from towpath.kernel.system import conntrack, nfqueue
    from towpath.providers.verdict import Drop

__all__ = ["MOST_FOLLOWED", "MOST_UNDECIDED", "HostFlows", "Key"]

MOST_UNDECIDED = 4096
"""Flows that wait for a first verdict; more are treated as the failure policy says."""
MOST_FOLLOWED = 65536
"""Flows that are remembered until they end; of more the oldest is reported as ended, and left to the kernel."""
_MOST_SILENT = 4096
_SILENCE = 130.0
"""Seconds in which a program repeats a SYN that nothing answers (tcp(7), tcp_syn_retries)."""
_MOST_DATAGRAMS = 64
_INPUT = 1

Key: TypeAlias = tuple[int, bytes, int, bytes, int]
_Packet: TypeAlias = tuple[int, int]
"""Its id in the queue, and the mark it came with."""


class _Queue(Protocol):
    def verdict(self, packet: int, verdict: int, mark: int = 0) -> None: ...


class _Marker(Protocol):
    def set_mark(self, key: conntrack.FlowKey, mark: int, mask: int) -> bool: ...


class _HostFlow:
    __slots__ = ("finder", "gone", "key", "mark", "opener", "pending", "screening", "sequence", "streams")

    def __init__(self, key: Key, opener: Direction) -> None:
        self.key = key
        self.opener: Direction = opener
        self.mark = 0
        self.gone = False
        """Forgotten before it was decided."""
        self.screening: Screening | None = None
        self.pending: list[tuple[_Packet, bytes]] = []
        self.sequence = 0
        self.streams: dict[Direction, HeldStream[_Packet]] = {}
        self.finder: NameFinder | None = None


class HostFlows:
    """Puts new flows to `filters` and carries out what they say.

    `describe(key, hook)` gives the flow as filters see it. While somebody wants to see bytes of a flow, each of its
    packets comes here: the handshake and acknowledgements pass, packets with bytes wait in the queue until those were
    judged, and go on whole and in order, never changed.
    """

    def __init__(
        self,
        filters: Filters,
        queue: _Queue,
        marker: _Marker,
        describe: Callable[[Key, int], Flow],
        *,
        fail_open: bool,
    ) -> None:
        self._filters = filters
        self._queue = queue
        self._marker = marker
        self._describe = describe
        self._fail_open = fail_open
        self._flows: OrderedDict[Key, _HostFlow] = OrderedDict()
        self._undecided = 0
        self._silent: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    # Packets.

    def packet(self, queued: nfqueue.Queued) -> None:
        """A packet that the rules gave to the queue. What cannot be read is dropped: nothing unread passes."""
        try:
            packet = ip.parse(queued.data)
            segment = None if packet.protocol == ip.UDP else ip.segment(queued.data)
        except PeerViolation:
            self._queue.verdict(queued.id, DROP)
            return
        key = (packet.protocol, packet.source, packet.source_port, packet.destination, packet.destination_port)
        here = (queued.id, queued.mark & ~FIELD)
        flow = self._flows.get(key)
        opening = segment is None or segment.flags & (ip.SYN | ip.ACK) == ip.SYN
        if flow is None:
            answered = self._flows.get((key[0], key[3], key[4], key[1], key[2]))
            if answered is not None:
                self._later_packet(answered, here, _other(answered.opener), packet, segment)
            elif opening:
                self._new(key, here, queued.hook, packet, segment)
            else:
                self._send(here, ALLOWED)  # watched in an earlier life of this filter, and let go then
        elif segment is not None and opening and segment.sequence != flow.sequence:
            self._forget(flow, None)  # its addresses and ports are used again
            self._new(key, here, queued.hook, packet, segment)
        else:
            self._later_packet(flow, here, flow.opener, packet, segment)

    def _send(self, packet: _Packet, mark: int) -> None:
        self._queue.verdict(packet[0], REPEAT, packet[1] | mark)

    def _drop(self, packet: _Packet) -> None:
        self._queue.verdict(packet[0], DROP)

    def _new(self, key: Key, here: _Packet, hook: int, packet: ip.Packet, segment: ip.Segment | None) -> None:
        silent_until = self._silent.get(key)
        if silent_until is not None:
            if silent_until > time.monotonic():
                self._drop(here)
                return
            del self._silent[key]
        if self._undecided >= MOST_UNDECIDED:
            if self._fail_open:
                self._send(here, ALLOWED)
            else:
                self._drop(here)
            return
        flow = _HostFlow(key, "inbound" if hook == _INPUT else "outbound")
        flow.sequence = segment.sequence if segment is not None else 0
        flow.pending.append((here, packet.payload if segment is None else segment.payload))
        self._flows[key] = flow
        self._undecided += 1
        self._filters.screen(self._describe(key, hook), partial(self._decided, flow))
        if len(self._flows) > MOST_FOLLOWED:
            self._forget_oldest()

    def _later_packet(
        self, flow: _HostFlow, here: _Packet, direction: Direction, packet: ip.Packet, segment: ip.Segment | None
    ) -> None:
        if flow.mark == WATCHED:
            if segment is None:
                self._datagram(flow, here, direction, packet.payload)
            else:
                self._segment(flow, here, direction, segment)
        elif flow.mark:
            self._send(here, flow.mark)
        elif segment is None and len(flow.pending) < _MOST_DATAGRAMS:
            flow.pending.append((here, packet.payload))
        else:
            self._drop(here)  # a SYN again: the first of them waits

    # Verdicts.

    def _decided(self, flow: _HostFlow, screening: Screening, drop: Drop | None) -> None:
        flow.screening = screening
        self._undecided -= 1
        pending, flow.pending = flow.pending, []
        if flow.gone:
            self._forget(flow, None)
            return
        if drop is not None:
            self._refuse(flow, drop, pending)
            return
        screening.cut = lambda _drop: self._cut(flow)
        if screening.transparent:
            screening.settle()
            flow.mark = ALLOWED
            for packet, _ in pending:
                self._send(packet, ALLOWED)
            return
        flow.mark = WATCHED
        screening.passing = lambda _direction: self._pass(flow)
        opener = flow.opener
        flow.finder = NameFinder(screening) if opener == "outbound" and flow.key[0] == ip.TCP else None
        if flow.key[0] == ip.TCP:
            flow.streams[opener] = HeldStream(flow.sequence + 1 & 0xFFFFFFFF)
            packet, payload = pending[0]
            self._take(flow, opener, flow.sequence + 1 & 0xFFFFFFFF, payload, False, packet)
        else:
            flow.streams = {"outbound": HeldStream(0), "inbound": HeldStream(0)}
            for packet, payload in pending:
                self._datagram(flow, packet, opener, payload)

    def _refuse(self, flow: _HostFlow, drop: Drop, pending: list[tuple[_Packet, bytes]]) -> None:
        flow.mark = REFUSED
        for packet, _ in pending:
            if drop.silent:
                self._drop(packet)
            else:
                self._send(packet, REFUSED)
        if drop.silent:
            self._silent[flow.key] = time.monotonic() + _SILENCE
            if len(self._silent) > _MOST_SILENT:
                self._silent.popitem(last=False)
        # Its first packet went no further, so that connection tracking never knew of the flow and will not say its end.
        self._forget(flow, None)

    def _cut(self, flow: _HostFlow) -> None:
        """Dropped after it had begun: the next packet of either side is answered with a reset."""
        flow.mark = REFUSED
        for stream in flow.streams.values():
            waiting = stream.release_all()
            for packet in waiting[:1]:
                self._send(packet, REFUSED)
            for packet in waiting[1:]:
                self._drop(packet)
        flow.streams.clear()
        self._marker.set_mark(system.conntrack.FlowKey(*flow.key), REFUSED, FIELD)

    # Bytes of flows that are looked at.

    def _segment(self, flow: _HostFlow, here: _Packet, direction: Direction, segment: ip.Segment) -> None:
        if segment.flags & ip.RST:
            self._send(here, WATCHED)
            return
        sequence = segment.sequence
        if segment.flags & ip.SYN:
            sequence = sequence + 1 & 0xFFFFFFFF
        if direction not in flow.streams:
            flow.streams[direction] = HeldStream(sequence)
        self._take(flow, direction, sequence, segment.payload, bool(segment.flags & ip.FIN), here)

    def _take(
        self, flow: _HostFlow, direction: Direction, sequence: int, payload: bytes, fin: bool, here: _Packet
    ) -> None:
        screening = flow.screening
        assert screening is not None
        taken = flow.streams[direction].take(sequence, payload, fin, here)
        for packet in taken.passed:
            self._send(packet, WATCHED)
        for packet in taken.dropped:
            self._drop(packet)
        for chunk in taken.chunks:
            if flow.finder is not None and direction == flow.opener:
                flow.finder.hear(chunk)
            screening.take(direction, chunk)
        if taken.ended:
            screening.end(direction)
        if taken.chunks or taken.ended:
            self._pass(flow)

    def _datagram(self, flow: _HostFlow, here: _Packet, direction: Direction, payload: bytes) -> None:
        screening = flow.screening
        assert screening is not None
        if flow.mark != WATCHED:
            self._send(here, flow.mark)
        elif not flow.streams[direction].append(payload, here):
            self._drop(here)
        else:
            screening.take(direction, payload)
            self._pass(flow)

    def _pass(self, flow: _HostFlow) -> None:
        """Lets go what may: packets whose bytes have passed; all, when nobody wants to see any more."""
        screening = flow.screening
        if screening is None or flow.mark != WATCHED:
            return
        pieces = {direction: len(screening.take_passed(direction)) for direction in flow.streams}
        over = screening.transparent
        if over:
            flow.mark = ALLOWED
        for direction, stream in flow.streams.items():
            if over:
                released = stream.release_all()
            else:
                released = stream.release(pieces[direction], ending=not screening.holding(direction))
            for packet in released:
                self._send(packet, flow.mark)
        if over:
            screening.settle()
            flow.streams.clear()
            flow.finder = None

    # Ends.

    def ended(self, ended: conntrack.Ended) -> None:
        """Connection tracking has forgotten a flow."""
        flow = self._flows.get(ended.opened)
        if flow is None:
            # Where the destination was translated, packets are seen with the one that answers.
            opened, answered = ended.opened, ended.answered
            flow = self._flows.get((opened[0], opened[1], opened[2], answered[1], answered[2]))
        if flow is not None and flow.screening is not None:
            self._forget(flow, ended)

    def _forget_oldest(self) -> None:
        for flow in self._flows.values():
            if flow.mark in (ALLOWED, REFUSED):
                self._forget(flow, None, f"no longer followed: there are more than {MOST_FOLLOWED} flows")
                return

    def _forget(self, flow: _HostFlow, ended: conntrack.Ended | None, error: str | None = None) -> None:
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
        flow.gone = True
        for stream in flow.streams.values():
            for packet in stream.release_all():
                self._drop(packet)
        for packet, _ in flow.pending:
            self._drop(packet)
        flow.pending = []
        screening = flow.screening
        if screening is None:
            return
        sent = received = 0
        packets: tuple[int | None, int | None] = (None, None)
        if ended is not None:
            opened = (ended.bytes_sent, ended.packets_sent)
            answered = (ended.bytes_received, ended.packets_received)
            ours, theirs = (opened, answered) if flow.opener == "outbound" else (answered, opened)
            (sent, received), packets = (ours[0], theirs[0]), (ours[1], theirs[1])
        drop = screening.dropped
        self._filters.closed(
            screening,
            FlowReport(
                flow=screening.flow,
                verdict="allowed" if drop is None else "dropped",
                reason="" if drop is None else drop.reason,
                by=screening.by,
                sent=sent,
                received=received,
                packets_sent=packets[0],
                packets_received=packets[1],
                ended=time.time(),
                error=error,
            ),
        )

    def let_go(self) -> None:
        """Nobody decides any more: every packet that waits passes, and all flows are forgotten."""
        for flow in list(self._flows.values()):
            for stream in flow.streams.values():
                for packet in stream.release_all():
                    self._send(packet, ALLOWED)
            for packet, _ in flow.pending:
                self._send(packet, ALLOWED)
            flow.pending, flow.streams, flow.mark = [], {}, ALLOWED
            self._forget(flow, None)


def _other(direction: Direction) -> Direction:
    return "inbound" if direction == "outbound" else "outbound"
