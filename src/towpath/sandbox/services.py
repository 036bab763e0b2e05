"""Everything that serves the flows of a run, joined together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from towpath.errors import PeerViolation
from towpath.hosting.loop import IN, Loop
from towpath.hosting.names import NameEvidence
from towpath.kernel.scope import DROP
from towpath.kernel.system import SocketsMade, addresses, pipes
from towpath.sandbox.dns import DnsService
from towpath.sandbox.echo import EchoIntake
from towpath.sandbox.judge import Judge
from towpath.sandbox.publish import Published
from towpath.sandbox.tcp import TcpIntake
from towpath.sandbox.udp import Injector, UdpIntake
from towpath.sandbox.uplink import HostUplink, Uplink
from towpath.wire import ip

if TYPE_CHECKING:
    from towpath.hosting.dns_provider import DnsProvider
    from towpath.kernel.scope import Scope
    from towpath.policy.policy import Decision, Policy
    from towpath.policy.rule import Rule
    from towpath.sandbox.capture import Capture
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.flows import Flow
    from towpath.sandbox.options import RunOptions
    from towpath.sandbox.report import Ledger
    from towpath.sandbox.tunnel_run import TunnelRun

__all__ = ["Services"]

_SCHEMES = {"sni": "tls", "host": "http", "quic sni": "quic"}
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
        tunnel: TunnelRun | None = None,
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
        uplink: Uplink = tunnel.uplink if tunnel is not None else HostUplink()
        self._judge = judge = Judge(policy, NameEvidence(), self._own, ledger.find_owner, uplink)
        judge.tell = ledger.warn
        if tunnel is not None:
            tunnel.settings_changed = self._tunnel_changed
        filtering = filtered_by(judge) if filtered_by is not None else None
        injector = Injector(held.raw_udp, held.raw_icmp)
        local = frozenset(options.allow_local)
        self._published = Published(loop, self._pool, ledger, scope.request_sockets)
        self._published.filtering = filtering
        self._tcp = TcpIntake(loop, held.queue, judge, ledger, self._pool, local, filtering, uplink)
        self._udp = UdpIntake(loop, held.queue, judge, ledger, injector, filtering, uplink)
        self._echo = EchoIntake(loop, held.queue, judge, ledger, injector, uplink)
        if tunnel is None:
            dns = self._dns = DnsService(loop, judge, ledger, filtering, proxy, uplink)
        else:
            dns = self._dns = DnsService(loop, judge, ledger, filtering, proxy, tunnel.names, tunnel.whom)
        dns.follow_system(loop)
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

    def _tunnel_changed(self) -> None:
        self._judge.forget()
        self._dns.ask_anew()

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

    @property
    def policy(self) -> Policy:
        """The one by which flows are decided now."""
        return self._judge.policy

    def replace_policy(self, policy: Policy) -> None:
        """Decides by another one from now on; what is under way goes on."""
        self._judge.replace(policy)
        self._dns.forget()

    def watch_names(self, watching: bool) -> None:
        """Counts the names that are asked for, or does so no more."""
        self._dns.watch(watching)

    def flush_names(self, names: Sequence[str]) -> int:
        """Forgets answers to questions, see `NameService.flush`."""
        return self._dns.flush(names)

    def names(self) -> dict[str, Any]:
        """What was counted of names."""
        return self._dns.report()

    def under_way(self) -> list[tuple[Flow, int, int, int | None]]:
        """The flows that are open: bytes sent and received so far, and the round trip in microseconds if known."""
        return [*self._tcp.under_way(), *self._udp.under_way()]

    def cut_denied(self, rule: Rule) -> int:
        """Ends what is under way and would be refused by this very rule now; gives how many flows."""
        if rule.action != "deny":
            return 0

        def refused(flow: Flow) -> Decision | None:
            decision = self._judge.flow(flow)
            if decision.verdict == "look":
                scheme = _SCHEMES.get(flow.name_from, "other")
                decision = self._judge.seen(flow, scheme, flow.name if scheme != "other" else None)
            return decision if decision.verdict == "deny" and decision.rule is rule else None

        return self._tcp.cut(refused) + self._udp.cut(refused)

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
