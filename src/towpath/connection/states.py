"""The states of connections and listeners, and which may follow which.

::

    SETUP ──► PREPARING ──► READY ──► FAILED ──► CANCELLED
                │    ▲
                ▼    │          from every state but the last, CANCELLED; from PREPARING and WAITING also FAILED
               WAITING
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from towpath.errors import Misuse

__all__ = ["NEXT", "Lifecycle", "State"]


class State(StrEnum):
    """Where a connection is in its life."""

    SETUP = "setup"
    PREPARING = "preparing"
    WAITING = "waiting"
    """There is no path now; another attempt follows when the path changes, or `restart` is called."""
    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"


NEXT: Mapping[State, frozenset[State]] = {
    State.SETUP: frozenset({State.PREPARING, State.CANCELLED}),
    State.PREPARING: frozenset({State.WAITING, State.READY, State.FAILED, State.CANCELLED}),
    State.WAITING: frozenset({State.PREPARING, State.FAILED, State.CANCELLED}),
    State.READY: frozenset({State.FAILED, State.CANCELLED}),
    State.FAILED: frozenset({State.CANCELLED}),
    State.CANCELLED: frozenset(),
}


class Lifecycle:
    """Holds a state and moves it along the table; any other move is `Misuse`.

    >>> life = Lifecycle()
    >>> life.move(State.PREPARING)
    >>> life.state
    <State.PREPARING: 'preparing'>
    """

    __slots__ = ("error", "state")

    def __init__(self) -> None:
        self.state = State.SETUP
        self.error: Exception | None = None
        """Why it waits or failed; the error of a failed one stays when it is cancelled."""

    def move(self, state: State, error: Exception | None = None) -> None:
        if state not in NEXT[self.state]:
            raise Misuse(f"a connection that is {self.state} cannot become {state}")
        self.state = state
        if state is not State.CANCELLED:
            self.error = error
