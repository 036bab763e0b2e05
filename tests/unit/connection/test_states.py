"""A connection moves through its states as the table says, and in no other way."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.connection.states import NEXT, Lifecycle, State
from towpath.errors import Misuse

TRANSITIONS = {
    "setup": {"preparing", "cancelled"},
    "preparing": {"waiting", "ready", "failed", "cancelled"},
    "waiting": {"preparing", "failed", "cancelled"},
    "ready": {"failed", "cancelled"},
    "failed": {"cancelled"},
    "cancelled": set(),
}


def test_c7_the_transitions_are_those_of_the_reference() -> None:
    assert {str(state): {str(other) for other in others} for state, others in NEXT.items()} == TRANSITIONS


@given(st.lists(st.sampled_from(State), max_size=12))
def test_c7_an_illegal_transition_is_misuse_and_changes_nothing(moves: list[State]) -> None:
    life = Lifecycle()
    for wanted in moves:
        before = life.state
        if wanted.value in TRANSITIONS[before.value]:
            life.move(wanted)
            assert life.state is wanted
        else:
            with pytest.raises(Misuse):
                life.move(wanted)
            assert life.state is before


def test_the_reason_of_a_failure_outlives_its_cancelling() -> None:
    life, reason = Lifecycle(), OSError("gone")
    for state, error in ((State.PREPARING, None), (State.FAILED, reason), (State.CANCELLED, None)):
        life.move(state, error)
    assert life.error is reason


def test_only_waiting_goes_back() -> None:
    order = list(State)
    back = {(a, b) for a, b in itertools.product(State, State) if b in NEXT[a] and order.index(b) < order.index(a)}
    assert back == {(State.WAITING, State.PREPARING)}
