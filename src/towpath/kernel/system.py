"""The facilities of this operating system, by name: the one module that imports `towpath.linux`.

There is one answer so far. Another would be chosen here, and nowhere else.
"""

from __future__ import annotations

from towpath.linux import addresses, mounts, owners, pipes, signals, sockets
from towpath.linux.scope import CommandStopped, LinuxScope, ProcessFolder, SocketsMade

__all__ = [
    "CommandStopped",
    "LinuxScope",
    "ProcessFolder",
    "SocketsMade",
    "addresses",
    "mounts",
    "owners",
    "pipes",
    "signals",
    "sockets",
]
