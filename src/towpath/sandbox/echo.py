"""Ping out of a run: the request is dropped inside, asked outside by a datagram ICMP socket, and answered inside."""

from __future__ import annotations

import errno
import socket
import struct
import time
from typing import TYPE_CHECKING

from towpath.hosting.loop import IN, Loop
from towpath.kernel.scope import DROP, REPEAT
from towpath.policy.policy import Decision
from towpath.sandbox import ruleset
from towpath.sandbox.flows import Flow
from towpath.sandbox.uplink import HostUplink, Uplink
from towpath.wire.ip import Packet, echo_reply, text_of, version_of

if TYPE_CHECKING:
    from towpath.kernel.scope import Queue
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.report import Ledger
    from towpath.sandbox.udp import Injector

__all__ = ["EchoIntake"]

_IDLE = 30.0
_SWEEP_INTERVAL = 10.0
_HEAD = struct.Struct(">BBHHH")

Key = tuple[bytes, int, bytes]


class _Pinger:
    __slots__ = ("flow", "outside", "touched")

    def __init__(self, flow: Flow, outside: socket.socket) -> None:
        self.flow = flow
        self.outside = outside
        self.touched = time.monotonic()


class EchoIntake:
    """One socket outside for each identifier and destination; the kernel there chooses its own identifier."""

    def __init__(
        self, loop: Loop, queue: Queue, judge: Judge, ledger: Ledger, injector: Injector, uplink: Uplink | None = None
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._judge = judge
        self._ledger = ledger
        self._injector = injector
        self._uplink = uplink or HostUplink()
        self._table: dict[Key, _Pinger] = {}

    def request(self, packet_id: int, packet: Packet) -> None:
        """Decides about one echo request and, when it may, asks it outside."""
        identifier, sequence = packet.source_port, packet.destination_port
        key = (packet.source, identifier, packet.destination)
        pinger = self._table.get(key)
        if pinger is None:
            opened = self._open(key)
            if isinstance(opened, int):
                self._queue.verdict(packet_id, REPEAT, opened)
                return
            pinger = opened
        pinger.touched = time.monotonic()
        request = _HEAD.pack(8 if packet.version == 4 else 128, 0, 0, 0, sequence) + packet.payload
        try:
            pinger.outside.send(request)
        except OSError as error:
            unreachable = ruleset.NO_ROUTE if error.errno == errno.ENETUNREACH else ruleset.HOST_UNREACHABLE
            self._queue.verdict(packet_id, REPEAT, unreachable)
            return
        pinger.flow.sent += len(packet.payload)
        self._queue.verdict(packet_id, DROP)

    def _open(self, key: Key) -> _Pinger | int:
        source, identifier, address = key
        flow = Flow("icmp", source, identifier, address, 0)
        decision = self._judge.flow(flow)
        self._ledger.opened(flow, decision, self._judge.names.of(address))
        if decision.verdict == "deny":
            self._ledger.refused(flow, decision)
            return ruleset.PROHIBITED
        version = version_of(address)
        try:
            outside = self._uplink.echo_socket(version)
        except PermissionError:
            setting = "the host's net.ipv4.ping_group_range does not admit this user's group"
            hint = "an administrator can run: sysctl -w net.ipv4.ping_group_range='0 2147483647'"
            self._ledger.refused(flow, Decision("deny", None, setting, "", hint))
            return ruleset.PROHIBITED
        try:
            outside.connect((text_of(address), 0))
        except OSError as error:
            outside.close()
            flow.error = errno.errorcode.get(error.errno or 0, str(error))
            self._ledger.closed(flow)
            return ruleset.NO_ROUTE if error.errno == errno.ENETUNREACH else ruleset.HOST_UNREACHABLE
        pinger = _Pinger(flow, outside)
        if not self._table:
            self._loop.later(_SWEEP_INTERVAL, self._sweep)
        self._table[key] = pinger
        self._loop.watch(outside.fileno(), IN, lambda _events: self._answer(pinger, version))
        return pinger

    def _answer(self, pinger: _Pinger, version: int) -> None:
        try:
            data = pinger.outside.recv(1 << 16)
        except OSError as error:
            pinger.flow.error = errno.errorcode.get(error.errno or 0, str(error))
            return
        if len(data) < 8 or data[0] not in (0, 129):
            return
        pinger.flow.received += len(data) - 8
        sequence = struct.unpack_from(">H", data, 6)[0]
        self._injector.echo(pinger.flow, echo_reply(version, pinger.flow.source_port, sequence, data[8:]))

    def _sweep(self) -> None:
        now = time.monotonic()
        for key, pinger in list(self._table.items()):
            if now - pinger.touched > _IDLE:
                self._close(key)
        if self._table:
            self._loop.later(_SWEEP_INTERVAL, self._sweep)

    def _close(self, key: Key) -> None:
        pinger = self._table.pop(key)
        self._loop.forget(pinger.outside.fileno())
        pinger.outside.close()
        self._ledger.closed(pinger.flow)

    def close(self) -> None:
        for key in list(self._table):
            self._close(key)
