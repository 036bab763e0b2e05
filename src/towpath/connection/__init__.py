"""Connections and listeners: a program says what it wants, and gets a channel that explains itself.

::

    from towpath.connection import Connection, Parameters
    from towpath.protocols import Lines

    async with Connection("news.example:443", Parameters.tls(framers=[Lines()])) as connection:
        await connection.send(b"hello")
        print((await connection.receive_message()).content)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.connection.connection import Connection
    from towpath.connection.context import FINAL, MessageContext
    from towpath.connection.endpoint import (
        AddressEndpoint,
        Endpoint,
        HostEndpoint,
        ServiceEndpoint,
        UnixEndpoint,
        UrlEndpoint,
    )
    from towpath.connection.events import BetterPath, ConnectionEvent, PathChanged, StateChanged, ViabilityChanged
    from towpath.connection.group import ConnectionGroup
    from towpath.connection.group_listener import GroupListener
    from towpath.connection.listener import Listener
    from towpath.connection.liveness import Liveness
    from towpath.connection.measurement import Measurement
    from towpath.connection.multicast import GroupMessage, MulticastGroup
    from towpath.connection.parameters import ExpiredDns, Keepalive, Parameters, ServiceClass, Tcp, Udp
    from towpath.connection.report import AttemptReport, EstablishmentReport, ResolutionReport, TransferReport
    from towpath.connection.states import State

_HOMES = {
    "connection": ("Connection",),
    "context": ("FINAL", "MessageContext"),
    "endpoint": ("AddressEndpoint", "Endpoint", "HostEndpoint", "ServiceEndpoint", "UnixEndpoint", "UrlEndpoint"),
    "events": ("BetterPath", "ConnectionEvent", "PathChanged", "StateChanged", "ViabilityChanged"),
    "group": ("ConnectionGroup",),
    "group_listener": ("GroupListener",),
    "listener": ("Listener",),
    "liveness": ("Liveness",),
    "measurement": ("Measurement",),
    "multicast": ("GroupMessage", "MulticastGroup"),
    "parameters": ("ExpiredDns", "Keepalive", "Parameters", "ServiceClass", "Tcp", "Udp"),
    "report": ("AttemptReport", "EstablishmentReport", "ResolutionReport", "TransferReport"),
    "states": ("State",),
}

__all__ = [
    "FINAL",
    "AddressEndpoint",
    "AttemptReport",
    "BetterPath",
    "Connection",
    "ConnectionEvent",
    "ConnectionGroup",
    "Endpoint",
    "EstablishmentReport",
    "ExpiredDns",
    "GroupListener",
    "GroupMessage",
    "HostEndpoint",
    "Keepalive",
    "Listener",
    "Liveness",
    "Measurement",
    "MessageContext",
    "MulticastGroup",
    "Parameters",
    "PathChanged",
    "ResolutionReport",
    "ServiceClass",
    "ServiceEndpoint",
    "State",
    "StateChanged",
    "Tcp",
    "TransferReport",
    "Udp",
    "UnixEndpoint",
    "UrlEndpoint",
    "ViabilityChanged",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
