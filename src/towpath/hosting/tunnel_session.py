"""One tunnel while it is held: its machine, its worker, its device, its links. To be used from the loop's thread.

The device's descriptor is kept here: a worker that dies takes nothing with it, and the next one is handed the same
device, on which the programs' connections wait.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from towpath.errors import HostFault
from towpath.hosting import messages
from towpath.hosting import tunnel_messages as told
from towpath.hosting.link import WorkerLink
from towpath.hosting.loop import IN
from towpath.hosting.tunnel_kernel import TunnelKernel
from towpath.hosting.tunnel_links import TunnelLinks
from towpath.hosting.tunnel_machine import Action, SessionState, StartOutcome, TunnelMachine
from towpath.kernel import system
from towpath.kernel.tunnel import make_plan
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.reasons import StopReason

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.hosting.loop import Loop, Timer
    from towpath.hosting.nursery import Nursery
    from towpath.kernel.tunnel import TunnelAttachment
    from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["TunnelServices", "TunnelSession"]

_SETTLE = 0.1
"""Seconds in which the changes of one event of the network come together."""
_REPLY_PATIENCE = 30.0
_MOST_FIGURES = 16 << 20
_JUMP_LOOK = 5.0
_JUMP = 2.0
"""Seconds by which the clock that runs while the machine sleeps must be ahead of the other: it slept."""


class TunnelServices(NamedTuple):
    """What a session needs of who holds it."""

    say: Callable[[str, str], None]
    changed: Callable[[SessionState], None]
    """The state is another one."""
    settled: Callable[[TunnelSettings | None], None]
    """Settings are in force, or none are any more. May raise `HostFault`: then the old ones are to hold."""


class TunnelSession:
    """Runs the provider of `bundle` on `attachment`."""

    def __init__(
        self,
        loop: Loop,
        nursery: Nursery,
        bundle: Bundle,
        attachment: TunnelAttachment,
        services: TunnelServices,
        *,
        on_demand: bool = False,
        disconnect_on_sleep: bool = False,
    ) -> None:
        self.name = bundle.manifest.id
        self.settings: TunnelSettings | None = None
        self.since: float | None = None
        """When it was connected, in seconds since 1970."""
        self._loop = loop
        self._nursery = nursery
        self._bundle = bundle
        self._attachment = attachment
        self._services = services
        self._machine = TunnelMachine(
            time.monotonic, on_demand=on_demand, disconnect_on_sleep=disconnect_on_sleep, network=True
        )
        self._available = True
        self._worker: WorkerLink | None = None
        self._links = TunnelLinks(loop, attachment)
        self._kernel = TunnelKernel(loop, attachment, services.say)
        self._numbers = itertools.count(1)
        self._asked: dict[int, Callable[[dict[str, Any]], None]] = {}
        self._parts: dict[int, bytes] = {}
        """Of figures that have not come whole."""
        self._answers: dict[int, Callable[[bytes | None], None]] = {}
        self._prepared: list[Callable[[], object]] = []
        self._timer: Timer | None = None
        self._broken: TunnelFailed | None = None
        self._settling = False
        self._closed = False
        self._paths = system.path_changes.PathChanges()
        loop.watch(self._paths.fileno(), IN, lambda _events: self._path_changed())
        self._ahead = _ahead()
        self._look: Timer = loop.later(_JUMP_LOOK, self._look_for_jump)

    @property
    def state(self) -> SessionState:
        return self._machine.state

    @property
    def last_error(self) -> TunnelFailed | None:
        """Why it ended last."""
        return self._machine.last_error

    # What may be asked for.

    def start(self, options: dict[str, str] | None = None, *, client: str = "") -> StartOutcome:
        outcome = self._machine.start(options, client=client)
        self._proceed()
        return outcome

    def keep_connected(self) -> None:
        """From here on it is started again whenever it ended by itself."""
        self._machine.on_demand = True

    def stop(self, reason: StopReason = StopReason.USER_INITIATED) -> None:
        self._machine.stop(reason)
        self._proceed()

    def sleep(self, prepared: Callable[[], object] = lambda: None) -> None:
        """The machine is about to sleep; `prepared` is called when it may, within 5 s."""
        self._prepared.append(prepared)
        self._machine.sleep()
        self._proceed()

    def wake(self) -> None:
        """The machine has slept."""
        self._machine.wake(network=self._attachment.has_network())
        self._links.rebind()
        self._kernel.rebind()
        self._proceed()

    def status(self, answer: Callable[[dict[str, Any]], None]) -> None:
        """Figures of now; without the provider's where it does not answer within a second."""
        number = next(self._numbers)
        known = self._figures()
        if self._worker is None:
            answer(known)
            return
        timer = self._loop.later(1.0, lambda: self._no_figures(number))

        def answered(figures: dict[str, Any]) -> None:
            timer.cancel()
            answer(figures | known)  # of who runs it a provider says nothing

        self._asked[number] = answered
        self._worker.send(told.StatusWanted(number))

    def _no_figures(self, number: int) -> None:
        self._parts.pop(number, None)
        _answer(self._asked.pop(number, None), {})

    def _figures(self) -> dict[str, Any]:
        failure = self._machine.last_error
        return {
            "tunnel": self.name,
            "state": self.state.words,
            "since": self.since,
            "starts": self._machine.starts,
            "network": self._available,
            "last_error": failure and {"cause": failure.cause.words, "reason": str(failure)},
            "device": self._attachment.name,
            "implementation": "kernel" if self._kernel.used else "userspace",
            "paths": self._links.paths,
            "names": _names(self.settings),
            "settings": make_plan(self.settings).text().splitlines() if self.settings is not None else [],
        } | self._kernel.figures()

    def app_message(self, data: bytes, answer: Callable[[bytes | None], None]) -> None:
        """Puts a message to the provider; `answer` is called once, with `None` where it has none or does not run."""
        if self._worker is None:
            answer(None)
            return
        number = next(self._numbers)
        self._answers[number] = answer
        self._loop.later(_REPLY_PATIENCE, lambda: _answer(self._answers.pop(number, None), None))
        self._worker.send(told.AppMessage(number, data))

    def capture(self, descriptor: int) -> str | None:
        """Lets the provider's side write each packet to a capture file; or why it cannot."""
        if self._kernel.used:
            return f"its packets are the kernel's: tcpdump -i {self._attachment.name} sees them"
        if self._worker is None:
            return "the tunnel is not connected now"
        self._worker.send_descriptor(told.Capture(), descriptor)
        return None

    def end_capture(self) -> None:
        if self._worker is not None:
            self._worker.send(told.CaptureEnd())

    # What the machine wants done.

    def _proceed(self) -> None:
        while True:
            actions = self._machine.take()
            if not actions:
                break
            for action in actions:
                self._act(action)
        if self._prepared and self._machine.may_sleep:
            prepared, self._prepared = self._prepared, []
            for call in prepared:
                call()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._machine.deadline
        if due is not None and not self._closed:
            self._timer = self._loop.later(max(0.0, due - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._machine.tick()
        self._proceed()

    def _act(self, action: Action) -> None:
        worker = self._worker
        if action.kind == "launch":
            self._launch(action.options)
        elif action.kind == "kill":
            self._kill()
        elif action.kind == "state":
            self.since = time.time() if self.state is SessionState.CONNECTED and self.since is None else self.since
            if self.state in (SessionState.DISCONNECTED, SessionState.CONNECTING):
                self.since = None
            if not self._machine.returns and self.state is not SessionState.DISCONNECTING:
                self._withdraw()
            self._services.changed(self.state)
        elif action.kind == "log":
            self._services.say("info", action.text)
        elif worker is not None:
            if action.kind == "stop":
                worker.send(messages.Stop(int(action.reason)))
            elif action.kind == "sleep":
                worker.send(told.Sleep(next(self._numbers)))
            elif action.kind == "wake":
                worker.send(told.Wake())
            elif action.kind == "network":
                worker.send(told.NetworkChanged())

    def _withdraw(self) -> None:
        """It is over: no address, route or server of the tunnel's is in force any more."""
        if self.settings is None:
            return
        try:
            self._put(None)
        except HostFault as fault:
            self._services.say("error", f"what the tunnel had changed cannot be taken back: {fault}")

    def _launch(self, options: dict[str, str] | None) -> None:
        self._broken = None
        worker = self._worker = WorkerLink(
            self._loop,
            lambda message: self._hear(worker, message),
            self._services.say,
            lambda reason: self._gone(worker, reason),
            told.from_tunnel,
        )
        self._links.begin(worker)
        self._kernel.begin(worker)
        self._nursery.make(worker, self._bundle)
        worker.send_descriptor(told.TunOpened(self._attachment.heads, self._kernel.used), self._attachment.queue)
        worker.send(told.Start(options))

    def _kill(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.drop()
        self._links.begin(None)
        self._kernel.begin(None)
        asked, self._asked = self._asked, {}
        self._parts.clear()
        for answer in asked.values():
            answer({})
        answers, self._answers = self._answers, {}
        for reply in answers.values():
            reply(None)

    def _gone(self, worker: WorkerLink, reason: str) -> None:
        if worker is self._worker:
            self._worker = None
            if self._broken is not None:
                self._machine.started(self._broken)
            self._machine.died(f"the provider {self.name} has ended: {reason}")
            self._proceed()

    # What the worker says.

    def _hear(self, worker: WorkerLink, message: told.FromTunnel) -> None:
        if worker is not self._worker:
            return
        if isinstance(message, told.ApplyWanted):
            self._apply(worker, message)
        elif isinstance(message, told.LinkWanted):
            self._links.open(message)
        elif isinstance(message, told.KernelWanted):
            self._kernel.set_up(message)
        elif isinstance(message, told.KernelPeersWanted):
            self._kernel.look(message)
        elif isinstance(message, told.LinkClosed):
            self._links.forget(message.number)
        elif isinstance(message, told.StatusAnswer):
            self._figures_came(message)
        elif isinstance(message, told.AppAnswer):
            _answer(self._answers.pop(message.number, None), message.data)
        elif isinstance(message, messages.Said):
            self._services.say(message.level, message.text)
        else:
            self._change(message)
            self._proceed()

    def _change(self, message: told.FromTunnel) -> None:
        machine = self._machine
        if isinstance(message, told.Started):
            machine.started(_failure(message.cause, message.reason, message.hint) if message.cause else None)
        elif isinstance(message, messages.Broken):
            reason = f"{message.where}: {message.reason}"
            machine.started(TunnelFailed(DisconnectCause.CONFIGURATION_FAILED, reason, message.hint))
        elif isinstance(message, told.Reasserting):
            machine.reasserting(message.on)
        elif isinstance(message, told.Cancelled):
            machine.cancelled(_failure(message.cause, message.reason, None))
        elif isinstance(message, told.SleepDone):
            machine.slept()
        elif isinstance(message, messages.Ended):
            machine.stopped()

    def _figures_came(self, message: told.StatusAnswer) -> None:
        if message.number not in self._asked:
            return
        self._parts[message.number] = self._parts.get(message.number, b"") + message.figures
        if message.more and len(self._parts[message.number]) < _MOST_FIGURES:
            return
        answer, parts = self._asked.pop(message.number, None), self._parts.pop(message.number)
        if answer is not None:
            try:
                figures = json.loads(parts)
                json.dumps(figures)  # as deep as it is, it is to be written again
            except (ValueError, RecursionError):
                figures = {}
            answer(figures if isinstance(figures, dict) else {})

    def _apply(self, worker: WorkerLink, message: told.ApplyWanted) -> None:
        old = self.settings
        try:
            self._put(message.settings)
        except HostFault as fault:
            if self.settings is not old:
                self._put(old)
            cause = DisconnectCause.CONFIGURATION_FAILED
            worker.send(told.Applied(message.number, int(cause), f"the settings cannot be put in force: {fault}"))
        else:
            worker.send(told.Applied(message.number))

    def _put(self, settings: TunnelSettings | None) -> None:
        self._attachment.apply(make_plan(settings))
        self.settings = settings
        self._services.settled(settings)
        if settings is not None:
            self._kernel.speak()

    # The network.

    def _path_changed(self) -> None:
        self._paths.drain()
        if not self._settling:
            self._settling = True
            self._loop.later(_SETTLE, self._settled)

    def _settled(self) -> None:
        self._settling = False
        if self._closed:
            return
        available = self._attachment.has_network()
        moved = self._links.rebind() or self._kernel.rebind()
        if moved or available is not self._available or self.state is SessionState.DISCONNECTED:
            self._available = available
            self._machine.network_changed(available=available)
            self._proceed()

    def _look_for_jump(self) -> None:
        """A machine that slept without telling: one clock went on, the other stood still."""
        ahead = _ahead()
        slept, self._ahead = ahead - self._ahead, ahead
        if slept > _JUMP:
            self._services.say("info", f"the machine slept for {slept:.0f} s")
            self.wake()
        self._look = self._loop.later(_JUMP_LOOK, self._look_for_jump)

    def close(self) -> None:
        """Nothing of it is left but the attachment, which is its owner's."""
        self._closed = True
        self._look.cancel()
        if self._timer is not None:
            self._timer.cancel()
        self._kill()
        if self._paths.fileno() >= 0:
            self._loop.forget(self._paths.fileno())
            self._paths.close()


def _names(settings: TunnelSettings | None) -> dict[str, Any] | None:
    """Whom the settings would have asked for names: for all, where no `domains` are given."""
    dns = settings.dns if settings is not None else None
    if dns is None or not dns.servers:
        return None
    return {"servers": list(dns.servers), "domains": None if dns.takes_all else list(dns.match_domains or ())}


def _answer(waiting: Callable[[Any], None] | None, value: object) -> None:
    if waiting is not None:
        waiting(value)


def _ahead() -> float:
    """By how much the clock that counts sleep is ahead: how long this machine has slept since it was started."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


def _failure(cause: int, reason: str, hint: str | None) -> TunnelFailed:
    try:
        return TunnelFailed(DisconnectCause(cause), reason, hint)
    except ValueError:
        return TunnelFailed(DisconnectCause.PLUGIN_FAILED, reason, hint)
