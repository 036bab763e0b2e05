"""The life of a tunnel's session as a state machine: what has happened goes in, what is to be done comes out.

It does nothing itself and is told the time, of a clock that stands still while the machine sleeps: a deadline is one of
awake time. Whatever is waited for has a deadline; so no order of starts, stops, sleeps, wakes and deaths leaves a
session connecting or disconnecting for ever.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.reasons import StopReason

__all__ = ["Action", "SessionState", "StartOutcome", "TunnelMachine"]


class SessionState(Enum):
    """Numbers are those of Apple's NEVPNStatus."""

    INVALID = 0
    DISCONNECTED = 1
    CONNECTING = 2
    CONNECTED = 3
    REASSERTING = 4
    DISCONNECTING = 5

    @property
    def words(self) -> str:
        return self.name.lower()


class StartOutcome(Enum):
    """What became of a start."""

    STARTED = "started"
    PENDING = "pending"
    """It is connecting already: the same result is yours."""
    QUEUED = "queued"
    """It is disconnecting: one start follows."""
    RUNNING = "running"
    INVALID = "invalid"
    DISABLED = "disabled"


@dataclass(frozen=True)
class Action:
    """What the owner of the machine has to do.

    `kind` is "launch" (a new provider process, then its start with `options`), "stop" (its hook, with `reason`), "kill"
    (the process, if there is one), "sleep", "wake", "network" (hooks), "state" (tell that it has changed), "log".
    """

    kind: str
    reason: StopReason = StopReason.NONE
    options: dict[str, str] | None = None
    text: str = ""


CONNECT_SECONDS = 60.0
REASSERT_SECONDS = 300.0
STOP_SECONDS = 4.5
SLEEP_SECONDS = 4.5
_MOST_BACK_OFF = 60.0
_STEADY_SECONDS = 60.0
"""A session that lasted for so long begins its back-off anew."""
_LOG_INTERVAL = 1.0


class TunnelMachine:
    """One session of one configuration.

    >>> machine = TunnelMachine(lambda: 0.0)
    >>> [machine.start().value for _ in range(3)]
    ['started', 'pending', 'pending']
    >>> [action.kind for action in machine.take()]
    ['launch', 'state', 'log']

    With `on_demand` a session that ended by itself is started again: after 1, 2, 4 ... 60 s, at once when the network
    has changed, and never without one. `last_error` is why it ended last.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        on_demand: bool = False,
        disconnect_on_sleep: bool = False,
        network: bool = True,
    ) -> None:
        self.state = SessionState.DISCONNECTED
        self.last_error: TunnelFailed | None = None
        self.on_demand = on_demand
        self.enabled = True
        self.starts = 0
        """How often a provider was launched."""
        self._clock = clock
        self._disconnect_on_sleep = disconnect_on_sleep
        self._network = network
        self._actions: list[Action] = []
        self._deadline: float | None = None
        self._retry_at: float | None = None
        self._back_off = 1.0
        self._since = 0.0
        self._queued: tuple[dict[str, str] | None] | None = None
        self._removed = False
        self._asleep = False
        self._sleep_deadline: float | None = None
        self._wanted = False
        self._skipped: Counter[str] = Counter()
        self._logged: dict[str, float] = {}

    def take(self) -> list[Action]:
        """What is to be done now, in order; once."""
        actions, self._actions = self._actions, []
        return actions

    @property
    def deadline(self) -> float | None:
        """When `tick` has something to do, in the clock's seconds."""
        due = [at for at in (self._deadline, self._retry_at, self._sleep_deadline) if at is not None]
        return min(due, default=None)

    @property
    def returns(self) -> bool:
        """Whether it is connected, or will try to be without being asked."""
        return self.state in _ACTIVE or self._queued is not None or self._retry_at is not None

    def _do(self, kind: str, **more: object) -> None:
        self._actions.append(Action(kind, **more))  # type: ignore[arg-type]

    def _enter(self, state: SessionState, seconds: float | None = None) -> None:
        self._deadline = None if seconds is None else self._clock() + seconds
        if state is not self.state:
            self.state = state
            self._do("state", text=state.words)

    # Commands.

    def start(self, options: dict[str, str] | None = None, *, client: str = "") -> StartOutcome:
        """Somebody wants it connected. `client` is who, for the log."""
        if self.state is SessionState.INVALID:
            return StartOutcome.INVALID
        if not self.enabled:
            return StartOutcome.DISABLED
        self._wanted = True
        if self.state is SessionState.DISCONNECTED:
            self._launch(options)
            return StartOutcome.STARTED
        if self.state is SessionState.DISCONNECTING:
            if not self._removed:
                self._queued = (options,)
            return StartOutcome.QUEUED
        self._skip(client)
        return StartOutcome.PENDING if self.state is SessionState.CONNECTING else StartOutcome.RUNNING

    def _skip(self, client: str) -> None:
        """Starts that change nothing are told of once a second for each client, with their number."""
        self._skipped[client] += 1
        now = self._clock()
        if now - self._logged.get(client, float("-inf")) >= _LOG_INTERVAL:
            self._logged[client] = now
            count = self._skipped.pop(client)
            who = f" by {client}" if client else ""
            self._do("log", text=f"{count} start{'s' * (count > 1)}{who} skipped: the session is {self.state.words}")

    def _launch(self, options: dict[str, str] | None) -> None:
        self._retry_at = None
        self.starts += 1
        self._do("launch", options=options)
        self._enter(SessionState.CONNECTING, CONNECT_SECONDS)

    def stop(self, reason: StopReason = StopReason.USER_INITIATED) -> None:
        """Somebody wants it disconnected; it is so within 5 s, whatever the provider does."""
        self._queued = None
        self._wanted = False
        self._retry_at = None
        self._end(reason)

    def remove(self) -> None:
        """The configuration has gone."""
        self._removed = True
        self.on_demand = False
        self.stop(StopReason.CONFIGURATION_REMOVED)
        if self.state is SessionState.DISCONNECTED:
            self._enter(SessionState.INVALID)

    def disable(self) -> None:
        """The configuration is switched off."""
        self.enabled = False
        self.stop(StopReason.CONFIGURATION_DISABLED)

    def supersede(self) -> None:
        """Another session takes this one's place."""
        self.stop(StopReason.SUPERSEDED)

    def update(self) -> None:
        """The extension is replaced: what ran is started again with the new one."""
        if self.state in _ACTIVE:
            self._queued = (None,)
            self._end(StopReason.EXTENSION_UPDATE)

    def _end(self, reason: StopReason) -> None:
        if self.state in _ACTIVE:
            self._do("stop", reason=reason)
            self._enter(SessionState.DISCONNECTING, STOP_SECONDS)

    # What the provider does.

    def started(self, failure: TunnelFailed | None = None) -> None:
        """The provider's start has returned."""
        if self.state is not SessionState.CONNECTING:
            return
        if failure is not None:
            self._failed(failure)
        else:
            self.last_error = None
            self._since = self._clock()
            self._enter(SessionState.CONNECTED)

    def reasserting(self, on: bool) -> None:
        """The provider says so; it counts only while connected."""
        if on and self.state is SessionState.CONNECTED:
            self._enter(SessionState.REASSERTING, REASSERT_SECONDS)
        elif not on and self.state is SessionState.REASSERTING:
            self._enter(SessionState.CONNECTED)

    def cancelled(self, failure: TunnelFailed) -> None:
        """The provider ends the session; its stop is called nevertheless."""
        if self.state in _ACTIVE:
            self._failed(failure, StopReason.PROVIDER_FAILED)

    def died(self, reason: str = "") -> None:
        """The provider's process has gone."""
        if self.state in _ACTIVE:
            self.last_error = TunnelFailed(DisconnectCause.PLUGIN_FAILED, reason or "the provider's process died")
            self._enter(SessionState.DISCONNECTING)
        if self.state is SessionState.DISCONNECTING:
            self._disconnected()

    def stopped(self) -> None:
        """The provider's stop has returned."""
        if self.state is SessionState.DISCONNECTING:
            self._disconnected()

    def _failed(self, failure: TunnelFailed, reason: StopReason = StopReason.CONNECTION_FAILED) -> None:
        self.last_error = failure
        self._end(reason)

    def _disconnected(self) -> None:
        self._do("kill")  # the next start uses a new process
        if self._removed:
            self._enter(SessionState.INVALID)
            return
        self._enter(SessionState.DISCONNECTED)
        if self._since and self._clock() - self._since >= _STEADY_SECONDS:
            self._back_off = 1.0
        self._since = 0.0
        queued, self._queued = self._queued, None
        if queued is not None and self.enabled:
            self._launch(queued[0])
        elif self.on_demand and self._wanted and self.enabled:
            self._retry_at = self._clock() + self._back_off
            self._back_off = min(self._back_off * 2, _MOST_BACK_OFF)

    # What the machine does.

    def sleep(self) -> None:
        """The machine is about to sleep."""
        if self._asleep:
            return
        self._asleep = True
        if self._disconnect_on_sleep and self.state in _ACTIVE:
            self._end(StopReason.SLEEP)
        elif self.state in (SessionState.CONNECTED, SessionState.REASSERTING):
            self._sleep_deadline = self._clock() + SLEEP_SECONDS
            self._do("sleep")

    def slept(self) -> None:
        """The provider's sleep has returned."""
        self._sleep_deadline = None

    @property
    def may_sleep(self) -> bool:
        """Whether nothing is waited for any more before the machine sleeps."""
        return self._sleep_deadline is None and self.state is not SessionState.DISCONNECTING

    def wake(self, *, network: bool = True) -> None:
        """The machine goes on, with a network or without one yet. May come without a `sleep` before it."""
        self._asleep = False
        self._sleep_deadline = None
        self._network = network
        if self.state in (SessionState.CONNECTED, SessionState.REASSERTING):
            self._do("wake")
        elif self.state is SessionState.DISCONNECTED and self._retry_at is not None:
            self._retry_soon()

    def network_changed(self, *, available: bool) -> None:
        """The path below is another one, or there is none."""
        came = available and not self._network
        self._network = available
        if self.state in (SessionState.CONNECTED, SessionState.REASSERTING, SessionState.CONNECTING):
            self._do("network")
        elif self.state is SessionState.DISCONNECTED and (came or available) and self._retry_at is not None:
            self._retry_soon()

    def _retry_soon(self) -> None:
        self._back_off = 1.0
        self._retry_at = self._clock()

    def tick(self) -> None:
        """Does what is due."""
        now = self._clock()
        if self._sleep_deadline is not None and now >= self._sleep_deadline:
            self._sleep_deadline = None
            self._do("log", text="the provider's sleep takes too long: the machine sleeps without it")
        if self._deadline is not None and now >= self._deadline:
            self._late()
        if self._retry_at is not None and now >= self._retry_at and not self._asleep:
            if self._network:
                self._launch(None)
            else:
                self._retry_at = now + 1.0  # looked at again: nobody need tell of the network

    def _late(self) -> None:
        if self.state is SessionState.DISCONNECTING:
            self._do("log", text="the provider did not stop in time: it is killed")
            self._disconnected()
            return
        words = {
            SessionState.CONNECTING: f"it has not started in {CONNECT_SECONDS:g} s",
            SessionState.REASSERTING: f"it could not connect again in {REASSERT_SECONDS:g} s",
        }[self.state]
        self.last_error = TunnelFailed(DisconnectCause.SERVER_NOT_RESPONDING, words)
        # A provider that hangs is not asked: it would hang in its stop as well.
        self._enter(SessionState.DISCONNECTING)
        self._disconnected()


_ACTIVE = (SessionState.CONNECTING, SessionState.CONNECTED, SessionState.REASSERTING)
