"""The session of a tunnel: what its states promise, in every order of events."""

from __future__ import annotations

import itertools

import pytest

from towpath.hosting.tunnel_machine import SessionState, StartOutcome, TunnelMachine
from towpath.providers import DisconnectCause, StopReason, TunnelFailed


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def kinds(machine: TunnelMachine) -> list[str]:
    return [action.kind for action in machine.take()]


def pass_time(machine: TunnelMachine, clock: Clock, seconds: float) -> None:
    end = clock.now + seconds
    while machine.deadline is not None and machine.deadline <= end:
        clock.now = max(clock.now, machine.deadline)
        machine.tick()
    clock.now = end


def test_ten_thousand_starts_while_connecting_give_one_start(clock: Clock) -> None:
    machine = TunnelMachine(clock)
    outcomes = [machine.start(client=f"app {n % 10}") for n in range(10_000)]
    assert outcomes == [StartOutcome.STARTED] + [StartOutcome.PENDING] * 9_999
    actions = machine.take()
    assert [action.kind for action in actions].count("launch") == 1 == machine.starts
    assert sum(action.kind == "log" for action in actions) == 10, "a line for each client"
    clock.now += 1
    for _ in range(3):
        machine.start(client="app 1")
    assert [a.text for a in machine.take()] == ["1000 starts by app 1 skipped: the session is connecting"]


def test_connecting_has_a_deadline_and_the_next_start_a_new_process(clock: Clock) -> None:
    machine = TunnelMachine(clock)
    machine.start()
    machine.take()
    pass_time(machine, clock, 60)
    assert machine.state is SessionState.DISCONNECTED
    assert "kill" in kinds(machine)
    assert machine.last_error is not None
    assert machine.last_error.cause is DisconnectCause.SERVER_NOT_RESPONDING
    assert machine.start() is StartOutcome.STARTED


@pytest.mark.parametrize("way", ["connecting", "connected", "reasserting", "disconnecting"])
def test_stop_is_honoured_within_five_seconds_in_every_state(clock: Clock, way: str) -> None:
    machine = TunnelMachine(clock, on_demand=True)
    machine.start()
    if way != "connecting":
        machine.started()
    if way == "reasserting":
        machine.reasserting(True)
    if way == "disconnecting":
        machine.cancelled(TunnelFailed(DisconnectCause.SERVER_DEAD))
    machine.take()
    machine.stop()
    pass_time(machine, clock, 5)
    assert machine.state is SessionState.DISCONNECTED
    assert kinds(machine)[-2:] == ["kill", "state"]
    pass_time(machine, clock, 1000)
    assert machine.state is SessionState.DISCONNECTED, "whoever stopped it does not want it back"


def test_a_start_while_disconnecting_follows_once(clock: Clock) -> None:
    machine = TunnelMachine(clock)
    machine.start()
    machine.started()
    machine.stop()
    assert [machine.start() for _ in range(3)] == [StartOutcome.QUEUED] * 3
    machine.take()
    machine.stopped()
    assert kinds(machine).count("launch") == 1
    assert machine.state is SessionState.CONNECTING


def test_back_off_doubles_to_a_minute_and_a_new_network_ends_it(clock: Clock) -> None:
    machine = TunnelMachine(clock, on_demand=True)
    machine.start()
    waits = []
    for _ in range(8):
        machine.died("gone")
        assert machine.deadline is not None
        waits.append(machine.deadline - clock.now)
        pass_time(machine, clock, waits[-1])
        assert machine.state is SessionState.CONNECTING
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60]
    machine.died("gone")
    machine.network_changed(available=True)
    pass_time(machine, clock, 0)
    assert machine.state is SessionState.CONNECTING
    machine.died("gone")
    assert machine.deadline == clock.now + 1


def test_waking_without_a_network_waits_for_one_and_then_starts_once(clock: Clock) -> None:
    machine = TunnelMachine(clock, on_demand=True)
    machine.start()
    machine.died("gone")
    machine.sleep()
    machine.wake(network=False)
    launched = machine.starts
    pass_time(machine, clock, 600)
    assert machine.starts == launched
    for _ in range(5):
        machine.network_changed(available=True)
        pass_time(machine, clock, 0)
    assert machine.starts == launched + 1


def test_nothing_starts_while_the_machine_sleeps(clock: Clock) -> None:
    machine = TunnelMachine(clock, on_demand=True)
    machine.start()
    machine.died("gone")
    machine.sleep()
    pass_time(machine, clock, 10) if machine.deadline is None else machine.tick()
    assert machine.starts == 1


def test_disconnect_on_sleep_gives_that_reason(clock: Clock) -> None:
    machine = TunnelMachine(clock, disconnect_on_sleep=True)
    machine.start()
    machine.started()
    machine.take()
    machine.sleep()
    assert [a.reason for a in machine.take() if a.kind == "stop"] == [StopReason.SLEEP]
    assert not machine.may_sleep
    machine.stopped()
    assert machine.may_sleep


@pytest.mark.parametrize(
    ("command", "reason", "after"),
    [
        (TunnelMachine.stop, StopReason.USER_INITIATED, SessionState.DISCONNECTED),
        (TunnelMachine.remove, StopReason.CONFIGURATION_REMOVED, SessionState.INVALID),
        (TunnelMachine.disable, StopReason.CONFIGURATION_DISABLED, SessionState.DISCONNECTED),
        (TunnelMachine.supersede, StopReason.SUPERSEDED, SessionState.DISCONNECTED),
        (TunnelMachine.update, StopReason.EXTENSION_UPDATE, SessionState.CONNECTING),
    ],
)
def test_the_reason_that_is_told_is_the_cause(
    clock: Clock, command: object, reason: StopReason, after: SessionState
) -> None:
    machine = TunnelMachine(clock)
    machine.start()
    machine.take()
    command(machine)  # type: ignore[operator]
    assert [a.reason for a in machine.take() if a.kind == "stop"] == [reason]
    machine.stopped()
    assert machine.state is after


def test_what_is_removed_or_disabled_is_not_started(clock: Clock) -> None:
    removed, disabled = TunnelMachine(clock), TunnelMachine(clock)
    removed.remove()
    disabled.disable()
    assert (removed.start(), disabled.start()) == (StartOutcome.INVALID, StartOutcome.DISABLED)


EVENTS = {
    "start": lambda m: m.start(),
    "stop": lambda m: m.stop(),
    "up": lambda m: m.started(),
    "failed": lambda m: m.started(TunnelFailed(DisconnectCause.NEGOTIATION_FAILED)),
    "reassert": lambda m: m.reasserting(True),
    "again": lambda m: m.reasserting(False),
    "died": lambda m: m.died(),
    "stopped": lambda m: m.stopped(),
    "sleep": lambda m: m.sleep(),
    "wake": lambda m: m.wake(network=False),
    "network": lambda m: m.network_changed(available=True),
    "remove": lambda m: m.remove(),
}
NEXT = {
    # From which states a state may be entered (table 2.2 of the sessions' reference: start, completion, stop ...).
    "connecting": {"disconnected"},
    "connected": {"connecting", "reasserting"},
    "reasserting": {"connected"},
    "disconnecting": {"connecting", "connected", "reasserting"},
    "disconnected": {"disconnecting"},
    "invalid": {"disconnecting", "disconnected"},
}


@pytest.mark.parametrize("stuck", ["connecting", "reasserting", "disconnecting", "asleep"])
def test_removing_the_configuration_ends_a_session_that_is_stuck(clock: Clock, stuck: str) -> None:
    machine = TunnelMachine(clock, on_demand=True)
    machine.start()
    if stuck != "connecting":
        machine.started()
    if stuck == "reasserting":
        machine.reasserting(True)
    if stuck == "disconnecting":
        machine.stop()
    if stuck == "asleep":
        machine.sleep()
    machine.take()
    machine.remove()
    pass_time(machine, clock, 5)
    assert machine.state is SessionState.INVALID
    assert kinds(machine)[-2:] == ["kill", "state"]
    assert machine.deadline is None
    assert machine.start() is StartOutcome.INVALID


def test_skipped_starts_are_told_of_once_a_second_for_each_client(clock: Clock) -> None:
    machine = TunnelMachine(clock)
    machine.start()
    told: dict[str, list[float]] = {"one": [], "two": []}
    for tick in range(400):
        clock.now = 100 + tick / 100
        for client in told:
            machine.start(client=client)
        for action in machine.take():
            for client in told:
                if action.kind == "log" and f"by {client} " in action.text:
                    told[client].append(clock.now)
    for moments in told.values():
        assert len(moments) == 4
        assert all(later - earlier >= 1 for earlier, later in itertools.pairwise(moments))


def test_a_deadline_of_connecting_is_one_of_awake_time(clock: Clock) -> None:
    """The machine's clock stands still while it sleeps: an hour of that is nothing."""
    machine = TunnelMachine(clock)
    machine.start()
    pass_time(machine, clock, 59)
    machine.sleep()
    machine.wake()
    assert machine.state.words == "connecting"
    pass_time(machine, clock, 1)
    assert machine.state.words == "disconnected"


@pytest.mark.parametrize("on_sleep", [False, True])
def test_no_order_of_events_leaves_a_session_waiting_for_ever(on_sleep: bool) -> None:
    """All sequences of five events: sleep and wake in any state among them."""
    for order in itertools.product(EVENTS, repeat=4):
        clock = Clock()
        machine = TunnelMachine(clock, on_demand=True, disconnect_on_sleep=on_sleep)
        state, launched, ended = "disconnected", 0, 0
        for name in ("start", *order):
            EVENTS[name](machine)
            machine.tick()
            for action in machine.take():
                launched += action.kind == "launch"
                ended += action.kind == "kill"
                if action.kind == "state":
                    assert state in NEXT[action.text], (order, state, action.text)
                    state = action.text
            assert state == machine.state.words
            assert launched - ended == (state in ("connecting", "connected", "reasserting", "disconnecting")), order
            if state in ("connecting", "reasserting", "disconnecting"):
                assert machine.deadline is not None, order
        machine.stop()
        pass_time(machine, clock, 5)
        assert machine.state in (SessionState.DISCONNECTED, SessionState.INVALID), order
