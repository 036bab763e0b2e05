"""The facilities of this operating system, by name: the one module that imports `towpath.linux`.

There is one answer so far. Another would be chosen here, and nowhere else. Each is imported when it is first asked for,
because a command must not wait for what only its first flow needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.kernel.hosts import Hosts
    from towpath.kernel.network import Network
    from towpath.linux import (
        addresses,
        confinement,
        conntrack,
        datagram_rows,
        datagrams,
        generic_netlink,
        heap,
        host_table,
        host_tunnel,
        mounts,
        nfqueue,
        owners,
        packet_log,
        path_changes,
        peers,
        pipes,
        resolved,
        run_sockets,
        signals,
        sleep_watch,
        sockets,
        transports,
        tun,
        tunnel_scope,
        watch,
    )
    from towpath.linux.scope import CommandStopped, LinuxScope, ProcessFolder, SocketsMade

    hosts: Hosts
    """Makes little internets of hosts, and enters them."""

    network: Network
    """Reads links, addresses and routes, tells of changes, and answers which route a packet would take."""

__all__ = [
    "CommandStopped",
    "LinuxScope",
    "ProcessFolder",
    "SocketsMade",
    "addresses",
    "confinement",
    "conntrack",
    "datagram_rows",
    "datagrams",
    "heap",
    "generic_netlink",
    "host_table",
    "host_tunnel",
    "hosts",
    "mounts",
    "network",
    "nfqueue",
    "owners",
    "packet_log",
    "path_changes",
    "peers",
    "pipes",
    "resolved",
    "run_sockets",
    "signals",
    "sleep_watch",
    "sockets",
    "transports",
    "tun",
    "tunnel_scope",
    "watch",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: Any
    if name == "hosts":
        found = importlib.import_module("towpath.linux.hosts").LinuxHosts()
    elif name == "network":
        found = importlib.import_module("towpath.linux.network").LinuxNetwork()
    elif name[0].isupper():
        found = getattr(importlib.import_module("towpath.linux.scope"), name)
    else:
        found = importlib.import_module(f"towpath.linux.{name}")
    globals()[name] = found
    return found
