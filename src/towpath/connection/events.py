"""What an observer of a connection is told."""

from __future__ import annotations

from dataclasses import dataclass

from towpath.connection.states import State
from towpath.path.path import Path

__all__ = ["BetterPath", "ConnectionEvent", "PathChanged", "StateChanged", "ViabilityChanged"]


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A new state; why, when it is waiting or failed. CANCELLED is told once, and last of all."""

    state: State
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The way to the peer is another, or a part of it is."""

    path: Path


@dataclass(frozen=True, slots=True)
class ViabilityChanged:
    """Whether packets can leave and come now. Not viable is not lost: keep the connection, and wait."""

    viable: bool


@dataclass(frozen=True, slots=True)
class BetterPath:
    """Whether a preferred interface leads to the peer by now: a new connection would use it, this one does not."""

    available: bool


ConnectionEvent = StateChanged | PathChanged | ViabilityChanged | BetterPath
