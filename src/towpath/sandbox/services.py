"""Everything that serves the flows of a run, joined together."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.hosting.loop import IN, Loop
from towpath.hosting.names import NameEvidence
from towpath.kernel.scope import DROP
from towpath.kernel.system import SocketsMade, addresses, pipes
from towpath.sandbox.dns import DnsService, resolvers
from towpath.sandbox.echo import EchoIntake
from towpath.sandbox.judge import Judge
from towpath.sandbox.publish import Published
from towpath.sandbox.tcp import TcpIntake
from towpath.sandbox.udp import Injector, UdpIntake
from towpath.wire import ip

if TYPE_CHECKING:
    from towpath.hosting.dns_provider import DnsProvider
    from towpath.kernel.scope import Scope
    from towpath.policy.policy import Policy
    from towpath.sandbox.capture import Capture
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.options import RunOptions
    from towpath.sandbox.report import Ledger

__all__ = ["Services"]

_ECHO = ((4, ip.ICMP), (6, ip.ICMP6))


class Services:
    """Takes up a scope's attachments: from here on its packets are judged and its flows relayed."""

    def __init__(
        self,
        loop: Loop,
        scope: Scope,
        policy: Policy,
        ledger: Ledger,
        options: RunOptions,
        filtered_by: Callable[[Judge], Filtering | None] | None,
        proxy: DnsProvider | None,
        capture: Capture | None = None,
    ) -> None:
        held = scope.attachments
        self._loop = loop
        self._ledger = ledger
        self._queue = held.queue
        self._capture = capture
        if capture is not None and held.tap is not None:
            capture.begin(loop, held.tap)
        self._pool = pipes.PipePool()
        self._own = addresses.OwnAddresses()
        judge = Judge(policy, NameEvidence(), self._own, ledger.find_owner)
        judge.tell = ledger.warn
        filtering = filtered_by(judge) if filtered_by is not None else None
        injector = Injector(held.raw_udp, held.raw_icmp)
        local = frozenset(options.allow_local)
        self._published = Published(loop, self._pool, ledger, scope.request_sockets)
        self._published.filtering = filtering
        self._tcp = TcpIntake(loop, held.queue, judge, ledger, self._pool, local, filtering)
        self._udp = UdpIntake(loop, held.queue, judge, ledger, injector, filtering)
        self._echo = EchoIntake(loop, held.queue, judge, ledger, injector)
        dns = self._dns = DnsService(loop, judge, ledger, resolvers(), filtering, proxy)
        for listener in (*held.tcp.values(), *held.local.values()):
            self._tcp.listen(listener)
        for intake in held.udp.values():
            self._udp.listen(intake)
        for intake in held.dns_udp.values():
            dns.listen(intake)
        for listener in held.dns_tcp.values():
            dns.listen_stream(listener)
        loop.watch(held.queue.fileno(), IN, lambda _events: self._packets())
        loop.watch(self._own.fileno(), IN, lambda _events: self._own.refresh())

    def publish(self, ports: list[tuple[int, int]]) -> None:
        """Opens the host's ports. Raises `ConfigInvalid` when one is taken."""
        for host_port, port in ports:
            chosen = self._published.open(host_port, port)
            self._ledger.say("info", f"127.0.0.1:{chosen} leads to port {port} inside")

    def start(self) -> None:
        """The scope's first process can be asked for things now."""
        self._published.start()

    def provide(self, made: SocketsMade) -> None:
        self._published.provide(made)

    def _packets(self) -> None:
        """Undecided packets. What cannot be read as a packet is dropped: nothing unread passes."""
        queue = self._queue
        for identity, data in queue.receive():
            try:
                packet = ip.parse(data)
            except PeerViolation:
                queue.verdict(identity, DROP)
                continue
            if self._capture is not None:
                self._capture.queued(time.time_ns(), data)
            if packet.protocol == ip.TCP:
                self._tcp.syn(identity, packet)
            elif packet.protocol == ip.UDP:
                self._udp.first(identity, packet)
            elif (packet.version, packet.protocol) in _ECHO:
                self._echo.request(identity, packet)
                if self._capture is not None:
                    self._capture.taken(data)
            else:
                queue.verdict(identity, DROP)
        self._ledger.overruns = queue.overruns

    def draining(self) -> bool:
        """Whether bytes that a program sent are still on their way out."""
        return self._tcp.draining()

    def close(self) -> None:
        """Ends all flows."""
        self._dns.close()
        self._tcp.close()
        self._udp.close()
        self._echo.close()
        self._published.close()
        self._own.close()
        self._pool.close()
