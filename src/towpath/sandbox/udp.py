"""UDP out of a run: a connected socket outside for each association, answers injected as from the one asked."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from towpath.hosting.loop import IN, Loop
from towpath.kernel.scope import DROP, REPEAT
from towpath.kernel.system import sockets
from towpath.policy.policy import Decision
from towpath.sandbox import ruleset
from towpath.sandbox.flows import Flow
from towpath.sandbox.uplink import HostUplink, Uplink
from towpath.wire.ip import Packet, text_of, unreachable4, unreachable6, version_of
from towpath.wire.quic_initial import QuicFlow

if TYPE_CHECKING:
    from towpath.hosting.screening import Screening
    from towpath.kernel.scope import Queue
    from towpath.providers.flow import Direction
    from towpath.providers.verdict import Drop
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger
    from towpath.wire.tls_hello import ClientHello

__all__ = ["Injector", "UdpIntake"]

_LARGEST = 65535
_DATAGRAMS_AT_ONCE = 64
_IDLE_UNANSWERED, _IDLE = 60.0, 300.0
_SWEEP_INTERVAL = 5.0
_MOST_FLOWS = 16384
_HEAD = struct.Struct(">HHHH")
_EDGES = 1 | 1 << 31  # EPOLLIN | EPOLLET

Key = tuple[bytes, int, bytes, int]

_PORT, _HOST, _NETWORK, _POLICY, _SILENCE = "port", "host", "network", "policy", "silence"
_DROP_REMEMBERED = 10.0
_MOST_WAITING = 32
"""Datagrams of one flow that wait for the filters' answer."""
_CODES4 = {_NETWORK: 0, _HOST: 1, _PORT: 3, _POLICY: 13}
_CODES6 = {_NETWORK: 0, _HOST: 3, _PORT: 4, _POLICY: 1}
_REASONS = {
    errno.ECONNREFUSED: _PORT,
    errno.EHOSTUNREACH: _HOST,
    errno.ENETUNREACH: _NETWORK,
    errno.EACCES: _POLICY,
    errno.EPERM: _POLICY,
}
_MARKS = {
    _PORT: ruleset.REFUSED,
    _HOST: ruleset.HOST_UNREACHABLE,
    _NETWORK: ruleset.NO_ROUTE,
    _POLICY: ruleset.PROHIBITED,
}


class Injector:
    """Sends packets inside the scope that look as if they came from anywhere; raw sockets by IP version."""

    def __init__(self, raw_udp: dict[int, socket.socket], raw_icmp: dict[int, socket.socket]) -> None:
        self._udp = raw_udp
        self._icmp = raw_icmp

    def datagram(self, flow: Flow, data: bytes) -> None:
        """A UDP answer to the flow's source. A full buffer loses it, as networks do."""
        head = _HEAD.pack(flow.port, flow.source_port, min(8 + len(data), _LARGEST), 0)
        self._send(self._udp, flow, [head, data])

    def unreachable(self, flow: Flow, what: str) -> None:
        """An ICMP error about the flow's datagram."""
        ends = (flow.source, flow.address, flow.source_port, flow.port)
        data = unreachable4(_CODES4[what], *ends) if len(flow.address) == 4 else unreachable6(_CODES6[what], *ends)
        self._send(self._icmp, flow, [data])

    def echo(self, flow: Flow, data: bytes) -> None:
        self._send(self._icmp, flow, [data])

    def _send(self, group: dict[int, socket.socket], flow: Flow, parts: list[bytes]) -> None:
        sender = group[version_of(flow.address)]
        try:
            sender.sendmsg(parts, sockets.from_address(flow.address), 0, (text_of(flow.source), 0))
        except OSError:
            return  # the program has gone, or its buffer is full


class _Association:
    __slots__ = ("answered", "flow", "held", "outside", "packets", "quic", "refused", "screening", "touched")

    def __init__(self, flow: Flow, outside: socket.socket) -> None:
        self.flow = flow
        self.outside = outside
        self.quic: QuicFlow | None = None
        self.held: list[bytes] = []
        self.touched = time.monotonic()
        self.answered = False
        self.refused = False
        self.screening: Screening | None = None
        """While a filter wants to see its datagrams."""
        self.packets = [0, 0]


class UdpIntake:
    """Takes first datagrams from the queue to decide, and all datagrams from the transparent sockets to relay."""

    def __init__(
        self,
        loop: Loop,
        queue: Queue,
        judge: Judge,
        ledger: Ledger,
        injector: Injector,
        filtering: Filtering | None,
        uplink: Uplink | None = None,
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._judge = judge
        self._ledger = ledger
        self._injector = injector
        self._filtering = filtering
        self._uplink = uplink or HostUplink()
        self._table: dict[Key, _Association] = {}
        self._asked: dict[Key, list[Callable[[str | None], None]]] = {}
        self._dropped: dict[Key, tuple[str, float]] = {}
        """What filters have dropped: a flow's next datagrams are no new flows."""
        self._sweeping = False

    def listen(self, intake: socket.socket) -> None:
        self._loop.watch(intake.fileno(), IN, lambda _events: self._receive(intake))

    def first(self, packet_id: int, packet: Packet) -> None:
        """Decides about a datagram that belongs to no decided flow."""
        key = (packet.source, packet.source_port, packet.destination, packet.destination_port)

        def decided(refusal: str | None) -> None:
            if refusal == _SILENCE:
                self._queue.verdict(packet_id, DROP)
            else:
                self._queue.verdict(packet_id, REPEAT, _MARKS[refusal] if refusal else ruleset.ALLOWED)

        if key in self._table:
            decided(_POLICY if self._table[key].refused else None)
        else:
            self._decide(key, decided)

    def _decide(self, key: Key, decided: Callable[[str | None], None]) -> None:
        """Makes the association; or says what to answer instead if there is none to be."""
        remembered = self._dropped.get(key)
        if remembered is not None and remembered[1] > time.monotonic():
            decided(remembered[0])
            return
        waiting = self._asked.get(key)
        if waiting is not None:
            if len(waiting) < _MOST_WAITING:
                waiting.append(decided)
            else:
                decided(_SILENCE)
            return
        flow = Flow("udp", *key)
        decision = self._judge.flow(flow)
        self._ledger.opened(flow, decision, self._judge.names.of(flow.address))
        if decision.verdict == "deny":
            self._ledger.refused(flow, decision)
            decided(_POLICY)
        elif self._filtering is None:
            decided(self._open(key, flow, decision))
        else:
            self._asked[key] = [decided]
            self._filtering.ask(flow, lambda refusal, silent: self._filtered(key, flow, decision, refusal, silent))

    def _filtered(self, key: Key, flow: Flow, decision: Decision, refusal: Decision | None, silent: bool) -> None:
        waiting = self._asked.pop(key)
        if refusal is None:
            outcome = self._open(key, flow, decision)
        else:
            self._ledger.refused(flow, refusal)
            self._ledger.closed(flow)
            outcome = _SILENCE if silent else _POLICY
            if len(self._dropped) >= _MOST_FLOWS:
                self._dropped.clear()
            self._dropped[key] = outcome, time.monotonic() + _DROP_REMEMBERED
        for decided in waiting:
            decided(outcome)

    def _open(self, key: Key, flow: Flow, decision: Decision) -> str | None:
        if len(self._table) >= _MOST_FLOWS:
            self._close(next(iter(self._table)))
        try:
            outside = self._uplink.dial_datagram(version_of(flow.address), text_of(flow.address), flow.port)
        except OSError as error:
            flow.error = errno.errorcode.get(error.errno or 0, str(error))
            self._ledger.closed(flow)
            return _REASONS.get(error.errno or 0, _HOST)
        association = self._table[key] = _Association(flow, outside)
        if decision.verdict == "look" or self._ledger.learner is not None:
            association.quic = QuicFlow(lambda hello: self._admits(flow, hello))
        if flow.screening is not None:
            self._join(key, association, flow.screening)
        self._judge.names.hold(flow.address)
        self._loop.watch(outside.fileno(), _EDGES, lambda _events: self._answer(key, association))
        if not self._sweeping:
            self._sweeping = True
            self._loop.later(_SWEEP_INTERVAL, self._sweep)
        return None

    def _join(self, key: Key, association: _Association, screening: Screening) -> None:
        if not screening.transparent:
            association.screening = screening
            screening.passing = lambda direction: self._deliver(key, association, direction)
        screening.cut = lambda drop: self._cut(association, drop)

    def _deliver(self, key: Key, association: _Association, direction: Direction) -> None:
        """Filters let something pass, perhaps all from here on."""
        screening = association.screening
        if screening is None:
            return
        for data in screening.take_passed(direction):
            if direction == "outbound":
                self._send_out(key, association, data)
            else:
                self._injector.datagram(association.flow, data)
        if screening.transparent:
            association.screening = None

    def _cut(self, association: _Association, drop: Drop) -> None:
        """A filter has dropped a flow after it had begun."""
        if self._filtering is not None and not association.refused:
            refusal = self._filtering.refusal(association.flow, drop)
            self._ledger.refused(association.flow, refusal, begun=True)
            association.refused = True
            association.held = []

    def under_way(self) -> list[tuple[Flow, int, int, int | None]]:
        """The associations: bytes sent and received so far; a round trip is not known."""
        flows = [association.flow for association in self._table.values()]
        return [(flow, flow.sent, flow.received, None) for flow in flows]

    def cut(self, refused: Callable[[Flow], Decision | None]) -> int:
        """Ends the associations that are refused now; gives how many."""
        found = [(one, decision) for one in self._table.values() if not one.refused and (decision := refused(one.flow))]
        for association, decision in found:
            self._ledger.refused(association.flow, decision, begun=True)
            association.refused = True
            association.held = []
        return len(found)

    def _admits(self, flow: Flow, hello: ClientHello) -> bool:
        decision = self._judge.seen(flow, "quic", hello.server_name)
        if hello.server_name:
            flow.note(hello.server_name, "quic sni")
            if flow.screening is not None:
                flow.screening.named(hello.server_name, "quic sni")
        if decision.verdict == "allow":
            self._ledger.decided(flow, decision)
            return True
        self._ledger.refused(flow, decision)
        return False

    def _receive(self, intake: socket.socket) -> None:
        family = intake.family
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data, ancillary, _flags, source = intake.recvmsg(_LARGEST, 128)
            except BlockingIOError:
                return
            except OSError:
                continue
            target = sockets.original_destination(ancillary)
            if target is None:
                continue
            key = (socket.inet_pton(family, source[0]), source[1], *target)
            association = self._table.get(key)
            if association is not None:
                self._pass_on(key, association, data)
            else:
                # The kernel remembers an allowed flow longer than this table does.
                self._decide(key, partial(self._redecided, key, data))

    def _redecided(self, key: Key, data: bytes, refusal: str | None) -> None:
        if refusal is None:
            self._pass_on(key, self._table[key], data)
        elif refusal != _SILENCE:
            self._injector.unreachable(Flow("udp", *key), refusal)

    def _pass_on(self, key: Key, association: _Association, data: bytes) -> None:
        association.touched = time.monotonic()
        if association.refused:
            self._injector.unreachable(association.flow, _POLICY)
            return
        if association.quic is None:
            self._send(key, association, data)
            return
        verdict = association.quic.receive(data)
        if verdict == "hold":
            association.held.append(data)
        elif verdict == "pass":
            held, association.held = association.held, []
            for earlier in held:
                self._send(key, association, earlier)
            self._send(key, association, data)
        else:
            self._refuse(association)

    def _refuse(self, association: _Association) -> None:
        flow, fault = association.flow, association.quic.fault if association.quic else None
        if fault:
            seen = self._judge.seen(flow, "other", None)
            decision = Decision("deny", seen.rule, f"{seen.reason} ({fault})", seen.evidence, seen.hint)
            if seen.verdict == "allow":
                association.quic = None
                for earlier in association.held:
                    association.outside.send(earlier)
                association.held = []
                return
            self._ledger.refused(flow, decision)
        association.refused = True
        association.held = []
        self._injector.unreachable(flow, _POLICY)

    def _send(self, key: Key, association: _Association, data: bytes) -> None:
        screening = association.screening
        if screening is None:
            self._send_out(key, association, data)
        elif not screening.full("outbound"):  # else lost, as a full queue on the way would lose it
            screening.take("outbound", data)
            self._deliver(key, association, "outbound")

    def _send_out(self, key: Key, association: _Association, data: bytes) -> None:
        association.packets[0] += 1
        try:
            association.flow.sent += association.outside.send(data)
        except BlockingIOError:
            return  # lost, as a full queue on the way would lose it
        except OSError as error:
            self._failed(key, association, error)

    def _answer(self, key: Key, association: _Association) -> None:
        flow = association.flow
        for _ in range(_DATAGRAMS_AT_ONCE):
            try:
                data = association.outside.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError as error:
                self._failed(key, association, error)
                if self._table.get(key) is not association:
                    return
                continue
            association.touched = time.monotonic()
            association.answered = True
            flow.received += len(data)
            association.packets[1] += 1
            if association.refused:
                continue
            if association.screening is None:
                self._injector.datagram(flow, data)
            elif not association.screening.full("inbound"):
                association.screening.take("inbound", data)
                self._deliver(key, association, "inbound")
        self._loop.soon(lambda: self._answer_more(key, association))

    def _answer_more(self, key: Key, association: _Association) -> None:
        if self._table.get(key) is association:
            self._answer(key, association)

    def _failed(self, key: Key, association: _Association, error: OSError) -> None:
        sockets.drain_errors(association.outside)
        flow = association.flow
        flow.error = errno.errorcode.get(error.errno or 0, str(error))
        if error.errno in _REASONS:
            self._injector.unreachable(flow, _REASONS[error.errno])

    def _sweep(self) -> None:
        now = time.monotonic()
        for key, association in list(self._table.items()):
            if now - association.touched > (_IDLE if association.answered else _IDLE_UNANSWERED):
                self._close(key)
        self._sweeping = bool(self._table)
        if self._sweeping:
            self._loop.later(_SWEEP_INTERVAL, self._sweep)

    def _close(self, key: Key) -> None:
        association = self._table.pop(key)
        self._loop.forget(association.outside.fileno())
        association.outside.close()
        self._judge.names.release(association.flow.address)
        association.flow.packets = association.packets[0], association.packets[1]
        self._ledger.closed(association.flow)

    def close(self) -> None:
        for key in list(self._table):
            self._close(key)
