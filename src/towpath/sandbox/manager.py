"""The manager of one run: it holds the scope's descriptors, answers its questions and relays its flows.

It is one process with one loop, outside of every namespace of the run, with no right but its user's own. What serves
flows is taken up when the first one comes: until then packets wait in the queue and connections in the backlog.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from towpath.errors import ConfigInvalid
from towpath.kernel import system
from towpath.kernel.scope import CommandExit
from towpath.policy.policy import Policy
from towpath.sandbox.loop import IN, Loop
from towpath.sandbox.report import Ledger

if TYPE_CHECKING:
    from towpath.sandbox.options import RunOptions
    from towpath.sandbox.services import Services

__all__ = ["Manager"]

_DRAIN = 5.0
_DRAIN_INTERVAL = 0.002
_RECHECK_STOP = 0.05
_HEAD_START = 0.004
"""Seconds for the command to end without a flow, before the time is used to make ready for one."""
_COMMAND_PID = 2
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Manager:
    """Serves a scope until its command ends. Raises `ConfigInvalid` for a policy or report that cannot be used."""

    def __init__(self, options: RunOptions, scope: system.LinuxScope) -> None:
        self._options = options
        self._scope = scope
        self._policy = Policy.load(options.allow, options.deny, options.policy)
        self._report = self._open_report()
        as_json = options.report == "json"
        self._ledger = Ledger(
            sys.stderr,
            level=options.level,
            records=self._report if as_json else None,
            table=options.report == "table",
        )
        self._warn_of_loopback()
        self._loop = Loop()
        self._services: Services | None = None
        self._first: list[int] = []
        self._ended: CommandExit | None = None

    def _warn_of_loopback(self) -> None:
        for rule in self._policy.rules:
            if rule.action == "allow" and rule.host.text in _LOOPBACK:
                port = rule.port or "PORT"
                self._ledger.say(
                    "warning",
                    f"{rule.where}: {rule.text} names the run's own loopback, which is always open; for a service of "
                    f"the host's: --allow-local {port}",
                )

    def _open_report(self) -> TextIO:
        if self._options.report_file is None:
            return sys.stderr
        try:
            return open(self._options.report_file, "w", encoding="utf-8")
        except OSError as error:
            raise ConfigInvalid("--report-file", f"{self._options.report_file}: {error.strerror}") from None

    def run(self) -> CommandExit:
        """Lets the command run, and gives how it ended."""
        self._scope.await_attachments()
        if self._options.publish:
            self._serve().publish(self._options.publish)
        signals = system.signals.SignalReader()
        self._loop.watch(signals.fileno(), IN, lambda _events: self._pass_on(signals))
        self._loop.watch(self._scope.fileno(), IN, lambda _events: self._hear())
        self._await_first_flow()
        system.signals.step_back()
        self._scope.release({"TOWPATH_POLICY": self._policy_text()})
        if self._services is not None:
            self._services.start()
        self._loop.later(_HEAD_START, self._make_ready)
        self._loop.run()
        assert self._ended is not None
        return self._ended

    def _policy_text(self) -> str:
        """For programs that ask why they are refused: the rules in deciding order, then what holds without one."""
        rules = [f"{rule.action} {rule.text}" for rule in self._policy.rules]
        return "; ".join([*rules, f"default {self._policy.default}"])

    def _await_first_flow(self) -> None:
        """Three kinds of things can come first: an undecided packet, or a question over UDP or TCP."""
        held = self._scope.attachments
        self._ledger.use_owners(lambda: system.owners.OwnerFinder(held.diagnosis))
        if self._services is None:
            questions = (*held.dns_udp.values(), *held.dns_tcp.values())
            self._first = [held.queue.fileno(), *(one.fileno() for one in questions)]
            for descriptor in self._first:
                self._loop.watch(descriptor, IN, lambda _events: self._make_ready())

    def _serve(self) -> Services:
        if self._services is None:
            from towpath.sandbox.services import Services

            for descriptor in self._first:
                self._loop.forget(descriptor)
            self._services = Services(self._loop, self._scope, self._policy, self._ledger, self._options)
        return self._services

    def _make_ready(self) -> None:
        self._serve()

    def _pass_on(self, signals: system.signals.SignalReader) -> None:
        for number, from_terminal in signals.receive():
            # A hang-up goes to the leader of the session alone, ^C to all that run in the foreground.
            if not from_terminal or number == system.signals.HANG_UP:
                self._scope.signal(number)

    def _hear(self) -> None:
        for event in self._scope.receive():
            if isinstance(event, CommandExit):
                self._leave(event)
            elif isinstance(event, system.SocketsMade):
                self._serve().provide(event)
            elif isinstance(event, system.ProcessFolder):
                self._ledger.use_processes(event.descriptor)
            elif isinstance(event, system.CommandStopped):
                # ^Z stops the manager as well; only a stop of the command alone has to be followed.
                self._loop.later(_RECHECK_STOP, self._follow_stop)

    def _follow_stop(self) -> None:
        if self._ended is None and self._ledger.owners().is_stopped(_COMMAND_PID):
            system.signals.stop_self()

    def _leave(self, ended: CommandExit) -> None:
        """What the command sent just before it ended is still on its way."""
        self._ended = ended
        self._loop.forget(self._scope.fileno())
        self._loop.later(_DRAIN, self._loop.stop)
        # Not at once: a connection that it made last may still have to be accepted.
        self._loop.later(_DRAIN_INTERVAL if self._services else 0, self._leave_when_drained)

    def _leave_when_drained(self) -> None:
        if self._services is not None and self._services.draining():
            self._loop.later(_DRAIN_INTERVAL, self._leave_when_drained)
        else:
            self._loop.stop()

    def finish(self) -> None:
        """Ends all flows and writes the report."""
        if self._services is not None:
            self._services.close()
        self._ledger.finish()
        if self._options.report == "table":
            from towpath.sandbox.table import print_table

            print_table(self._ledger, self._report)
        if self._report is not sys.stderr:
            self._report.close()
        self._loop.close()
