"""The manager of one run: it holds the scope's descriptors, answers its questions and relays its flows.

It is one process with one loop, outside of every namespace of the run, with no right but its user's own.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.kernel import system
from towpath.kernel.scope import CommandExit
from towpath.policy.policy import Policy
from towpath.sandbox.dns import DnsService, resolvers
from towpath.sandbox.echo import EchoIntake
from towpath.sandbox.judge import Judge
from towpath.sandbox.loop import IN, Loop
from towpath.sandbox.names import NameEvidence
from towpath.sandbox.publish import Published
from towpath.sandbox.report import Ledger
from towpath.sandbox.tcp import TcpIntake
from towpath.sandbox.udp import Injector, UdpIntake
from towpath.wire import ip

if TYPE_CHECKING:
    from towpath.sandbox.options import RunOptions

__all__ = ["Manager"]

_DROP = 0
_DRAIN = 5.0
_RECHECK_STOP = 0.05
_IP_VERSION_ECHO = ((4, ip.ICMP), (6, ip.ICMP6))


class Manager:
    """Serves a scope until its command ends."""

    def __init__(self, options: RunOptions, scope: system.LinuxScope) -> None:
        self._options = options
        self._scope = scope
        self._policy = Policy.load(options.allow, options.deny, options.policy)
        self._records = self._open_records()
        self._ledger = Ledger(sys.stderr, level=options.level, records=self._records, table=options.report == "table")
        self._loop = Loop()
        self._pool = system.pipes.PipePool()
        self._own = system.addresses.OwnAddresses()
        self._judge = Judge(self._policy, NameEvidence(), self._own)
        self._published = Published(self._loop, self._pool, self._ledger, scope.request_sockets)
        self._ended: CommandExit | None = None

    def _open_records(self) -> TextIO | None:
        if self._options.report != "json":
            return None
        if self._options.report_file is None:
            return sys.stderr
        try:
            return open(self._options.report_file, "w", encoding="utf-8")
        except OSError as error:
            raise ConfigInvalid("--report-file", f"{self._options.report_file}: {error.strerror}") from None

    def run(self) -> CommandExit:
        """Lets the command run, and gives how it ended."""
        for host_port, port in self._options.publish:
            chosen = self._published.open(host_port, port)
            self._ledger.say("info", f"127.0.0.1:{chosen} leads to port {port} inside")
        self._scope.await_attachments()
        self._attach()
        signals = system.signals.SignalReader()
        self._loop.watch(signals.fileno(), IN, lambda _events: self._pass_on(signals))
        self._loop.watch(self._scope.fileno(), IN, lambda _events: self._hear())
        system.signals.step_back()
        self._scope.release({"TOWPATH_POLICY": self._policy_text()})
        self._published.start()
        self._loop.run()
        assert self._ended is not None
        return self._ended

    def _policy_text(self) -> str:
        """For programs that ask why they are refused: the rules in deciding order, then what holds without one."""
        rules = [f"{rule.action} {rule.text}" for rule in self._policy.rules]
        return "; ".join([*rules, f"default {self._policy.default}"])

    def _attach(self) -> None:
        held = self._scope.attachments
        injector = Injector(held.raw_udp, held.raw_icmp)
        local = frozenset(self._options.allow_local)
        self._queue = held.queue
        self._tcp = TcpIntake(self._loop, held.queue, self._judge, self._ledger, self._pool, local)
        self._udp = UdpIntake(self._loop, held.queue, self._judge, self._ledger, injector)
        self._echo = EchoIntake(self._loop, held.queue, self._judge, self._ledger, injector)
        dns = DnsService(self._loop, self._judge, self._ledger, resolvers())
        for listener in (*held.tcp.values(), *held.local.values()):
            self._tcp.listen(listener)
        for intake in held.udp.values():
            self._udp.listen(intake)
        for intake in held.dns_udp.values():
            dns.listen(intake)
        for listener in held.dns_tcp.values():
            dns.listen_stream(listener)
        self._owners = system.owners.OwnerFinder(held.diagnosis)
        self._ledger.use_owners(self._owners)
        self._loop.watch(held.queue.fileno(), IN, lambda _events: self._packets())
        self._loop.watch(self._own.fileno(), IN, lambda _events: self._own.refresh())

    def _packets(self) -> None:
        """Undecided packets. What cannot be read as a packet is dropped: nothing unread passes."""
        queue = self._queue
        for identity, data in queue.receive():
            try:
                packet = ip.parse(data)
            except PeerViolation:
                queue.verdict(identity, _DROP)
                continue
            if packet.protocol == ip.TCP:
                self._tcp.syn(identity, packet)
            elif packet.protocol == ip.UDP:
                self._udp.first(identity, packet)
            elif (packet.version, packet.protocol) in _IP_VERSION_ECHO:
                self._echo.request(identity, packet)
            else:
                queue.verdict(identity, _DROP)
        self._ledger.overruns = queue.overruns

    def _pass_on(self, signals: system.signals.SignalReader) -> None:
        for number, from_terminal in signals.receive():
            if not from_terminal:
                self._scope.signal(number)

    def _hear(self) -> None:
        for event in self._scope.receive():
            if isinstance(event, CommandExit):
                self._leave(event)
            elif isinstance(event, system.SocketsMade):
                self._published.provide(event)
            elif isinstance(event, system.ProcessFolder):
                self._owners.use_processes(event.descriptor)
            elif isinstance(event, system.CommandStopped):
                # ^Z stops the manager as well; only a stop of the command alone has to be followed.
                self._loop.later(_RECHECK_STOP, self._follow_stop)

    def _follow_stop(self) -> None:
        if self._ended is None and self._owners.is_stopped(2):
            system.signals.stop_self()

    def _leave(self, ended: CommandExit) -> None:
        """What the command sent just before it ended is still on its way."""
        self._ended = ended
        self._loop.forget(self._scope.fileno())
        self._loop.later(_DRAIN, self._loop.stop)
        self._loop.soon(self._leave_when_drained)

    def _leave_when_drained(self) -> None:
        if self._tcp.draining():
            self._loop.later(0.002, self._leave_when_drained)
        else:
            self._loop.stop()

    def finish(self) -> None:
        """Ends all flows and writes the report."""
        self._tcp.close()
        self._udp.close()
        self._echo.close()
        self._published.close()
        self._own.close()
        self._pool.close()
        self._ledger.finish()
        if self._options.report == "table":
            from towpath.sandbox.table import print_table

            if self._options.report_file:
                with open(self._options.report_file, "w", encoding="utf-8") as file:
                    print_table(self._ledger, file)
            else:
                print_table(self._ledger, sys.stderr)
        if self._records not in (None, sys.stderr):
            assert self._records is not None
            self._records.close()
        self._loop.close()
