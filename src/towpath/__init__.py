"""Towpath: application networking for Linux.

The names that most programs need; all are found when they are first used.

    from towpath import Connection, Parameters
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.connection import Connection, Endpoint, Listener, Liveness, MessageContext, Parameters, State
    from towpath.errors import TowpathError
    from towpath.path import PathMonitor, PathRequirements
    from towpath.protocols import Framer, Layer, Message

__all__ = [
    "Connection",
    "Endpoint",
    "Framer",
    "Layer",
    "Listener",
    "Liveness",
    "Message",
    "MessageContext",
    "Parameters",
    "PathMonitor",
    "PathRequirements",
    "State",
    "TowpathError",
    "__version__",
]

__version__ = "0.1.0"

_HOMES = {
    "towpath.connection": ("Connection", "Endpoint", "Listener", "Liveness", "MessageContext", "Parameters", "State"),
    "towpath.errors": ("TowpathError",),
    "towpath.path": ("PathMonitor", "PathRequirements"),
    "towpath.protocols": ("Framer", "Layer", "Message"),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(module), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
