"""Interfaces and paths: what the machine can use to reach others, now and as it changes.

    from towpath.path import PathMonitor, list_interfaces, watch_interfaces

    for interface in list_interfaces():
        print(interface.name, interface.type, *interface.addresses)

Everything is an immutable snapshot. The facts are the kernel's own, and what NetworkManager says is metered where it
runs; nothing is sent to the network.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.kernel.network import AddressFlag, LinkFlag, Metered, Operational
    from towpath.path.interface import (
        Interface,
        InterfaceAddress,
        InterfaceChange,
        Interfaces,
        Usability,
        list_interfaces,
    )
    from towpath.path.marks import Mark, PathPolicy
    from towpath.path.medium import InterfaceType
    from towpath.path.monitor import PathMonitor, path_for
    from towpath.path.path import Path, PathRequirements, PathStatus, UnsatisfiedReason
    from towpath.path.watch import watch_interfaces

__all__ = [
    "AddressFlag",
    "Interface",
    "InterfaceAddress",
    "InterfaceChange",
    "InterfaceType",
    "Interfaces",
    "LinkFlag",
    "Mark",
    "Metered",
    "Operational",
    "Path",
    "PathMonitor",
    "PathPolicy",
    "PathRequirements",
    "PathStatus",
    "UnsatisfiedReason",
    "Usability",
    "list_interfaces",
    "path_for",
    "watch_interfaces",
]

_HOMES = {
    "towpath.kernel.network": ("AddressFlag", "LinkFlag", "Metered", "Operational"),
    "towpath.path.interface": (
        "Interface",
        "InterfaceAddress",
        "InterfaceChange",
        "Interfaces",
        "Usability",
        "list_interfaces",
    ),
    "towpath.path.marks": ("Mark", "PathPolicy"),
    "towpath.path.medium": ("InterfaceType",),
    "towpath.path.monitor": ("PathMonitor", "path_for"),
    "towpath.path.path": ("Path", "PathRequirements", "PathStatus", "UnsatisfiedReason"),
    "towpath.path.watch": ("watch_interfaces",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
