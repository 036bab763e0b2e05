"""UDP out of a run: a connected socket outside for each association, answers injected as from the one asked."""

from __future__ import annotations

import errno
import socket
import struct
import time
from typing import TYPE_CHECKING

from towpath.kernel.scope import REPEAT
from towpath.kernel.system import sockets
from towpath.policy.policy import Decision
from towpath.sandbox import ruleset
from towpath.sandbox.flows import Flow
from towpath.hosting.loop import IN, Loop
from towpath.wire.ip import Packet, text_of, unreachable4, unreachable6, version_of
from towpath.wire.quic_initial import QuicFlow

if TYPE_CHECKING:
    from towpath.kernel.scope import Queue
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

_PORT, _HOST, _NETWORK, _POLICY = "port", "host", "network", "policy"
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
    __slots__ = ("answered", "flow", "held", "outside", "quic", "refused", "touched")

    def __init__(self, flow: Flow, outside: socket.socket) -> None:
        self.flow = flow
        self.outside = outside
        self.quic: QuicFlow | None = None
        self.held: list[bytes] = []
        self.touched = time.monotonic()
        self.answered = False
        self.refused = False


class UdpIntake:
    """Takes first datagrams from the queue to decide, and all datagrams from the transparent sockets to relay."""

    def __init__(self, loop: Loop, queue: Queue, judge: Judge, ledger: Ledger, injector: Injector) -> None:
        self._loop = loop
        self._queue = queue
        self._judge = judge
        self._ledger = ledger
        self._injector = injector
        self._table: dict[Key, _Association] = {}
        self._sweeping = False

    def listen(self, intake: socket.socket) -> None:
        self._loop.watch(intake.fileno(), IN, lambda _events: self._receive(intake))

    def first(self, packet_id: int, packet: Packet) -> None:
        """Decides about a datagram that belongs to no decided flow."""
        key = (packet.source, packet.source_port, packet.destination, packet.destination_port)
        refusal = None if key in self._table else self._open(key)
        if refusal is None:
            self._queue.verdict(packet_id, REPEAT, ruleset.ALLOWED)
        else:
            self._queue.verdict(packet_id, REPEAT, _MARKS[refusal])

    def _open(self, key: Key) -> str | None:
        """Makes the association; what to answer instead if there is none to be."""
        flow = Flow("udp", *key)
        decision = self._judge.flow("udp", flow.address, flow.port)
        self._ledger.opened(flow, decision, self._judge.names.of(flow.address))
        if decision.verdict == "deny":
            self._ledger.refused(flow, decision)
            return _POLICY
        if len(self._table) >= _MOST_FLOWS:
            self._close(next(iter(self._table)))
        try:
            outside = sockets.dial_datagram(version_of(flow.address), text_of(flow.address), flow.port)
        except OSError as error:
            flow.error = errno.errorcode.get(error.errno or 0, str(error))
            self._ledger.closed(flow)
            return _REASONS.get(error.errno or 0, _HOST)
        association = self._table[key] = _Association(flow, outside)
        if decision.verdict == "look":
            association.quic = QuicFlow(lambda hello: self._admits(flow, hello))
        self._judge.names.hold(flow.address)
        self._loop.watch(outside.fileno(), _EDGES, lambda _events: self._answer(key, association))
        if not self._sweeping:
            self._sweeping = True
            self._loop.later(_SWEEP_INTERVAL, self._sweep)
        return None

    def _admits(self, flow: Flow, hello: ClientHello) -> bool:
        decision = self._judge.seen("udp", flow.address, flow.port, "quic", hello.server_name)
        if hello.server_name:
            flow.name, flow.name_from = hello.server_name, "quic sni"
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
            if association is None:
                # The kernel remembers an allowed flow longer than this table does.
                refusal = self._open(key)
                if refusal is not None:
                    self._injector.unreachable(Flow("udp", *key), refusal)
                    continue
                association = self._table[key]
            self._pass_on(key, association, data)

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
            seen = self._judge.seen("udp", flow.address, flow.port, "other", None)
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
            if not association.refused:
                self._injector.datagram(flow, data)
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
        self._ledger.closed(association.flow)

    def close(self) -> None:
        for key in list(self._table):
            self._close(key)
