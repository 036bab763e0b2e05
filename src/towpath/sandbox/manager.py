"""The manager of one run: it holds the scope's descriptors, answers its questions and relays its flows.

It is one process with one loop, outside of every namespace of the run, with no right but its user's own. All its code
is loaded before the command is executed, and nothing after.
"""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, TextIO

from towpath.errors import ConfigInvalid
from towpath.hosting import imports
from towpath.hosting.loop import IN, Loop
from towpath.kernel import system
from towpath.kernel.scope import CommandExit
from towpath.policy.policy import Policy
from towpath.policy.rule import readable_slots
from towpath.sandbox.report import Ledger
from towpath.sandbox.services import Services
from towpath.sandbox.watched import Watched
from towpath.wire import quic_keys

if TYPE_CHECKING:
    from towpath.sandbox.capture import Capture
    from towpath.sandbox.filter_run import FilterRun
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.judge import Judge
    from towpath.sandbox.options import RunOptions
    from towpath.sandbox.tunnel_run import TunnelRun
    from towpath.sandbox.viewer import Viewer
__all__ = ["Manager"]

_DRAIN = 5.0
_DRAIN_INTERVAL = 0.002
_RECHECK_STOP = 0.05
_VIEWER_PATIENCE = 5.0
_VIEWER_INTERVAL = 0.05
_COMMAND_PID = 2
_LONGEST_POLICY = 16384
"""Bytes of TOWPATH_POLICY: the environment of a program is passed whole, and has little room (execve(2))."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Manager:
    """Serves a scope until its command ends. Raises `ConfigInvalid` for a policy or report that cannot be used."""

    def __init__(
        self,
        options: RunOptions,
        scope: system.LinuxScope,
        filters: FilterRun | None,
        viewer: Viewer | None = None,
        tunnel: TunnelRun | None = None,
    ) -> None:
        self._options = options
        self._viewer = viewer
        self._watched: Watched | None = None
        self._filters = filters
        self._tunnel = tunnel
        self._scope = scope
        self._policy = Policy.load(options.allow, options.deny, options.policy)
        self._report = self._open_report()
        as_json = options.report == "json"
        self._ledger = Ledger(
            sys.stderr,
            level=options.level,
            records=self._report if as_json else None,
            table=options.report in ("table", "markdown"),
        )
        self._learnt = self._open_learnt()
        self._capture = self._open_capture()
        self._warn_of_loopback()
        self._loop = Loop()
        self._services: Services | None = None
        self._ended: CommandExit | None = None

    def _seal(self, file: IO[Any], path: str, what: str) -> None:
        """The file may be the command's to write: what it added is cut off, and a file put in its place is named."""
        from towpath.hosting.outputs import names_descriptor  # which whoever opened the file has loaded

        file.flush()
        if names_descriptor(path):
            file.close()
            return
        ours = os.fstat(file.fileno())
        longer = stat.S_ISREG(ours.st_mode) and ours.st_size != (written := os.lseek(file.fileno(), 0, os.SEEK_CUR))
        if longer:
            os.ftruncate(file.fileno(), written)
        file.close()
        try:
            there = os.stat(path)
        except OSError as error:
            self._ledger.say("error", f"{path} cannot be read any more: {error.strerror}")
            return
        if (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            self._ledger.say("error", f"{path} was replaced while the command ran: it is not this {what}")
        elif longer:
            self._ledger.say("error", f"{path} was written to by others while the command ran; it was cut back")

    def _warn_of_loopback(self) -> None:
        for rule in self._policy.rules:
            if rule.action == "allow" and rule.host.text in _LOOPBACK:
                port = rule.port or "PORT"
                self._ledger.say(
                    "warning",
                    f"{rule.where}: {rule.text} names the run's own loopback, which is always open; for a service of "
                    f"the host's: --allow-local {port}",
                )

    def _open_learnt(self) -> TextIO | None:
        path = self._options.learn
        if path is None:
            return None
        from towpath.hosting.outputs import open_output
        from towpath.policy.learn import Learner

        self._ledger.learner = Learner(requests=self._options.learn_requests)
        try:
            return open(path, "x", encoding="utf-8", opener=open_output)
        except FileExistsError:
            hint = "choose another name, and compare: towpath policy diff"
            raise ConfigInvalid("--learn", f"{path} exists already", hint) from None
        except OSError as error:
            raise ConfigInvalid("--learn", f"{path}: {error.strerror}") from None

    def _open_capture(self) -> Capture | None:
        if self._options.capture is None:
            return None
        from towpath.sandbox.capture import Capture

        capture = Capture(self._options.capture, " ".join(self._options.argv), secrets=self._options.capture_secrets)
        self._ledger.observe(capture)
        return capture

    def _close_capture(self, capture: Capture) -> None:
        try:
            lost = capture.finish()
            self._seal(capture.file, self._options.capture or "", "capture")
        except OSError as error:
            self._ledger.say("error", f"{self._options.capture} is not whole: {error.strerror}")
            return
        if lost:
            self._ledger.say("warning", f"{lost} packets are not in {self._options.capture}: they came too fast")

    def _write_learnt(self, file: TextIO) -> None:
        """Whatever the command has written there meanwhile goes."""
        assert self._ledger.learner is not None
        command = " ".join(self._options.argv)
        os.ftruncate(file.fileno(), 0)
        file.write(self._ledger.learner.text(f"towpath run -- {command}", wildcards=self._options.learn_wildcards))
        self._seal(file, self._options.learn or "", "policy")

    def _open_report(self) -> TextIO:
        if self._options.report_file is None:
            return sys.stderr
        from towpath.hosting.outputs import open_output

        try:
            return open(self._options.report_file, "w", encoding="utf-8", opener=open_output)
        except OSError as error:
            raise ConfigInvalid("--report-file", f"{self._options.report_file}: {error.strerror}") from None

    def run(self) -> CommandExit:
        """Lets the command run, and gives how it ended."""
        self._load_everything()
        if self._filters is not None:
            self._filters.begin(self._loop, self._ledger)
        if self._tunnel is not None:
            self._tunnel.begin(self._loop, self._ledger)
        self._scope.await_attachments()
        held = self._scope.attachments
        self._owners = system.owners.OwnerFinder(held.diagnosis)
        self._ledger.use_owners(self._owners)
        services = self._services = Services(
            self._loop,
            self._scope,
            self._policy,
            self._ledger,
            self._options,
            self._filtered_by(),
            self._filters.proxy if self._filters else None,
            self._capture,
            self._tunnel,
        )
        services.publish(self._options.publish)
        self._let_watch(services)
        signals = system.signals.SignalReader()
        self._loop.watch(signals.fileno(), IN, lambda _events: self._pass_on(signals))
        self._loop.watch(self._scope.fileno(), IN, lambda _events: self._hear())
        system.signals.step_back()
        imports.close()
        static = self._filters.static_table() if self._filters is not None else []
        environment = {"TOWPATH_POLICY": self._policy_text()}
        if self._capture is not None and self._capture.key_log is not None:
            environment["SSLKEYLOGFILE"] = self._capture.key_log
        if self._tunnel is not None:
            environment |= self._tunnel.environment
        self._scope.release(environment, static, self._search())
        services.start()
        self._loop.run()
        assert self._ended is not None
        return self._ended

    def _search(self) -> list[str]:
        """Domains for short names that a DNS proxy and a tunnel bring."""
        proxy = self._filters.proxy if self._filters is not None else None
        return [
            *(proxy.search if proxy is not None else []),
            *(self._tunnel.search if self._tunnel is not None else []),
        ]

    def _let_watch(self, services: Services) -> None:
        argv = self._options.argv
        watched = self._watched = Watched(self._loop, self._ledger, services, argv, quic=self._reads_quic)
        watched.send_signal = self._scope.signal
        if self._viewer is not None:
            watched.start()
            if self._viewer.start(self._ledger.say):
                self._await_viewer(self._viewer, watched)

    def _await_viewer(self, viewer: Viewer, watched: Watched) -> None:
        """The command may be shorter than it takes to begin to draw."""
        enough = time.monotonic() + _VIEWER_PATIENCE
        watched.followed = self._loop.stop
        while not (watched.has_viewers or viewer.has_ended() or time.monotonic() > enough):
            timer = self._loop.later(_VIEWER_INTERVAL, self._loop.stop)
            self._loop.run()
            timer.cancel()
        watched.followed = lambda: None

    def _filtered_by(self) -> Callable[[Judge], Filtering | None] | None:
        filters = self._filters
        if filters is None:
            return None
        return lambda judge: filters.filtering(judge, self._ledger)

    def _load_everything(self) -> None:
        """What only some runs need. Once the command runs, its files could answer for a module that is missing."""
        if self._options.report == "json":
            import json  # noqa: F401
        if self._options.report in ("table", "markdown"):
            import towpath.sandbox.table  # noqa: F401
        self._reads_quic = self._learnt is not None or any(
            slot[0] == "udp" for rule in self._policy.rules for slot in readable_slots(rule)
        )
        if self._reads_quic:
            quic_keys.load()

    def _policy_text(self) -> str:
        """For programs that ask why they are refused: the rules in deciding order, then what holds without one."""
        words, room = [], _LONGEST_POLICY
        for rule in self._policy.rules:
            words.append(f"{rule.action} {rule.text}")
            room -= len(words[-1].encode()) + 2
            if room < 0:
                words[-1] = f"and {len(self._policy.rules) - len(words) + 1} rules more"
                break
        return "; ".join([*words, f"default {self._policy.default}"])

    def _pass_on(self, signals: system.signals.SignalReader) -> None:
        for number, from_terminal in signals.receive():
            if number == system.signals.HANG_UP and self._options.reload and not from_terminal:
                if self._filters is not None:
                    self._filters.reload()
                continue
            # A hang-up goes to the leader of the session alone, ^C to all that run in the foreground.
            if not from_terminal or number == system.signals.HANG_UP:
                self._scope.signal(number)

    def _hear(self) -> None:
        for event in self._scope.receive():
            if isinstance(event, CommandExit):
                self._leave(event)
            elif isinstance(event, system.SocketsMade):
                if self._services is not None:
                    self._services.provide(event)
            elif isinstance(event, system.ProcessFolder):
                self._owners.use_processes(event.descriptor)
            elif isinstance(event, system.CommandStopped):
                # ^Z stops the manager as well; only a stop of the command alone has to be followed.
                self._loop.later(_RECHECK_STOP, self._follow_stop)

    def _follow_stop(self) -> None:
        if self._ended is None and self._owners.is_stopped(_COMMAND_PID):
            system.signals.stop_self()

    def _leave(self, ended: CommandExit) -> None:
        """What the command sent just before it ended is still on its way."""
        self._ended = ended
        self._loop.forget(self._scope.fileno())
        self._loop.later(_DRAIN, self._loop.stop)
        # Not at once: a connection that it made last may still have to be accepted.
        self._loop.later(_DRAIN_INTERVAL, self._leave_when_drained)

    def _leave_when_drained(self) -> None:
        if self._services is not None and self._services.draining():
            self._loop.later(_DRAIN_INTERVAL, self._leave_when_drained)
        else:
            self._loop.stop()

    def finish(self) -> None:
        """Ends all flows and writes the report."""
        if self._services is not None:
            self._services.close()
        if self._watched is not None and self._ended is not None:
            self._watched.end(self._ended.code, self._ended.signal)
        if self._viewer is not None:
            self._viewer.finish()
        if self._filters is not None:
            self._filters.stop()
        if self._tunnel is not None:
            self._tunnel.stop()
        if self._capture is not None:
            self._close_capture(self._capture)
        self._ledger.finish()
        if self._learnt is not None:
            self._write_learnt(self._learnt)
        if self._options.report == "table":
            from towpath.sandbox.table import print_table

            print_table(self._ledger, self._report)
        elif self._options.report == "markdown":
            from towpath.sandbox.table import print_markdown

            print_markdown(self._ledger, self._options.argv, self._policy_text(), self._report)
        if self._report is not sys.stderr:
            self._seal(self._report, self._options.report_file or "", "report")
        self._loop.close()
