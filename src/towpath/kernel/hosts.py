"""Little internets: the values that describe one, and what an operating system does with them.

A world is a tree. Its root is a router; every other node has one or more cards, each plugged into a port of a router
or into a bridge of a router. The operating system makes the nodes, plugs them together, runs one function in each, and
lets processes of the owner enter them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import Protocol

__all__ = ["Bridge", "Card", "Hosts", "Node", "Route", "Serve", "World"]


@dataclass(frozen=True, slots=True)
class Card:
    """A network card called `device`, and the port of the node `upstream` that it is plugged into.

    A port is either a port of `bridge`, or routed: then the card's addresses are /32 and /128, and the router answers
    for the gateway's addresses on that port alone. The first card of a node carries its default routes; those of card
    n have metric 100 * n. `delay` in seconds puts a relay between the two ends that holds each frame that long; `None`
    joins them directly.
    """

    device: str
    upstream: str
    port: str
    bridge: str | None
    address4: IPv4Interface
    gateway4: IPv4Address
    address6: IPv6Interface
    gateway6: IPv6Address
    delay: float | None = None


@dataclass(frozen=True, slots=True)
class Bridge:
    """A switch inside a router, with the router's own addresses on it."""

    device: str
    address4: IPv4Interface
    address6: IPv6Interface


@dataclass(frozen=True, slots=True)
class Route:
    """How a router reaches a network that lies behind another router."""

    network: IPv4Network | IPv6Network
    gateway: IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Node:
    """A host or a router.

    `files` are laid over existing files of the file system, for this node alone: path to content. A router sends what
    it has no route for to its first card; the root, which has none, answers that the destination is unreachable.
    `own6` is the address that a router's errors come from where its ports have none but link-local ones.
    """

    name: str
    cards: tuple[Card, ...] = ()
    bridges: tuple[Bridge, ...] = ()
    routes: tuple[Route, ...] = ()
    forwards: bool = False
    own6: IPv6Address | None = None
    files: Mapping[str, bytes] | None = None


Serve = Callable[[str, socket.socket, Callable[[], None]], None]
"""What runs in each node: `serve(name, channel, ready)`. It calls `ready` once and returns never."""


class World(Protocol):
    """A running world. Its owner's death, however it comes, ends it and everything in it."""

    def handle(self, node: str) -> int:
        """The descriptor that `Hosts.enter` takes; it is the world's, to be duplicated but not closed."""

    def channel(self, node: str) -> socket.socket:
        """The owner's end of the stream socket whose other end `serve` was given."""

    def set_card(self, node: str, device: str, *, up: bool) -> None:
        """Pulls the plug of a card, or plugs it in again. Raises `HostFault`."""

    def set_delay(self, node: str, device: str, seconds: float) -> None:
        """Changes the delay of a card that was made with one."""

    def close(self) -> None:
        """Kills every process in the world and waits until they are gone; safe to call twice."""


class Hosts(Protocol):
    """What Towpath asks of an operating system to make worlds. Raises `HostFault` where the system says no."""

    def start(self, nodes: Sequence[Node], serve: Serve, seconds: float) -> World:
        """Makes a world of `nodes`, of which the first is the root, and returns when each node is ready.

        Raises `TimedOut` after `seconds`, and `HostFault` with the words of a node that failed.
        """

    def enter(self, handle: int, *, administrator: bool) -> None:
        """Moves this process into a node; to be called in a freshly forked process, before it executes a program.

        The caller goes on as a new process that lives in the node; the forked one stays behind as its shadow: it
        passes signals on, ends as the new process ends, and takes it along when it is killed. The working directory
        stays the same path. The new process has the caller's user id and no capability (user 0 keeps CAP_SETFCAP,
        without which the kernel lets it map itself into no user namespace); an `administrator` has all of them.
        """

    def system_bundle(self) -> str | None:
        """The file in which this system keeps its trusted certificate authorities, or `None`."""
