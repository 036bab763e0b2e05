"""What an operating system knows of its network: plain facts, without an opinion.

Facts are what the kernel says, in words that are nobody's numbers: flags and hardware types are translated where they
are read. What they mean for a program (is this Wi-Fi? is there a path?) is decided in `towpath.path`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Protocol

__all__ = [
    "ANY_NETWORK",
    "Address",
    "AddressFacts",
    "AddressFlag",
    "Hop",
    "LinkFacts",
    "LinkFlag",
    "Metered",
    "Network",
    "NetworkChanges",
    "NetworkFacts",
    "Operational",
    "RouteFacts",
    "RouteKind",
]

Address = IPv4Address | IPv6Address


class LinkFlag(StrEnum):
    """What a link is set to, or found to be."""

    UP = "up"
    BROADCAST = "broadcast"
    DEBUG = "debug"
    LOOPBACK = "loopback"
    POINT_TO_POINT = "point-to-point"
    RUNNING = "running"
    NO_ARP = "no-arp"
    PROMISCUOUS = "promiscuous"
    ALL_MULTICAST = "all-multicast"
    MASTER = "master"
    SLAVE = "slave"
    MULTICAST = "multicast"
    PORT_SELECT = "port-select"
    AUTO_MEDIA = "auto-media"
    DYNAMIC = "dynamic"
    LOWER_UP = "lower-up"
    DORMANT = "dormant"
    ECHO = "echo"


class Operational(StrEnum):
    """The state of a link as RFC 2863 names them (ifOperStatus)."""

    UNKNOWN = "unknown"
    NOT_PRESENT = "not-present"
    DOWN = "down"
    LOWER_LAYER_DOWN = "lower-layer-down"
    TESTING = "testing"
    DORMANT = "dormant"
    UP = "up"


class Metered(StrEnum):
    """Whether data over a link costs something, as whoever manages it says, or guesses from what the link is."""

    YES = "yes"
    NO = "no"
    GUESSED_YES = "guessed-yes"
    GUESSED_NO = "guessed-no"


class AddressFlag(StrEnum):
    """How an address came to be and whether it may be used."""

    SECONDARY = "secondary"
    TEMPORARY = "temporary"
    OPTIMISTIC = "optimistic"
    DUPLICATE = "duplicate"
    DEPRECATED = "deprecated"
    TENTATIVE = "tentative"
    PERMANENT = "permanent"
    STABLE_PRIVACY = "stable-privacy"


class RouteKind(StrEnum):
    """What a route does with a packet."""

    UNICAST = "unicast"
    LOCAL = "local"
    BROADCAST = "broadcast"
    ANYCAST = "anycast"
    MULTICAST = "multicast"
    BLACKHOLE = "blackhole"
    UNREACHABLE = "unreachable"
    PROHIBIT = "prohibit"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class LinkFacts:
    """One link.

    `hardware` is the kind of hardware address it has ("ether", "loopback", "none", ...); `kind` names the driver of a
    virtual link ("veth", "bridge", "tun", ...) and is `None` for others. `speed` is in bits per second. `described`
    says whether the system's description of the device could be read; without it `wireless` and `device_type` say
    nothing. `has_device`: hardware, real or emulated, stands behind the link. `metered` is `None` where nobody manages
    the link, or does not say.
    """

    index: int
    name: str
    flags: frozenset[LinkFlag] = frozenset()
    hardware: str = "ether"
    kind: str | None = None
    operational: Operational = Operational.UNKNOWN
    mtu: int | None = None
    hardware_address: str | None = None
    has_device: bool = False
    described: bool = False
    wireless: bool = False
    device_type: str | None = None
    speed: int | None = None
    metered: Metered | None = None


@dataclass(frozen=True, slots=True)
class AddressFacts:
    """One address of the link `index`. `peer` is the other end's address where one was set; `prefix` is then its."""

    index: int
    address: Address
    prefix: int
    peer: Address | None = None
    broadcast: IPv4Address | None = None
    flags: frozenset[AddressFlag] = frozenset()


@dataclass(frozen=True, slots=True)
class Hop:
    """Where a route leads: a link, and the router on it if the destination is not on that link itself."""

    index: int
    gateway: Address | None = None


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """One route. The lower `metric` wins; `source` is the address it prefers to send from."""

    destination: IPv4Network | IPv6Network
    kind: RouteKind = RouteKind.UNICAST
    hops: tuple[Hop, ...] = ()
    metric: int = 0
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class NetworkFacts:
    """All of it at one moment: links and addresses by index, the default routes, the configured name servers."""

    links: tuple[LinkFacts, ...] = ()
    addresses: tuple[AddressFacts, ...] = ()
    routes: tuple[RouteFacts, ...] = ()
    resolvers: tuple[str, ...] = ()


class NetworkChanges(Protocol):
    """A subscription: its descriptor is readable when something may have changed."""

    def fileno(self) -> int: ...

    def drain(self) -> bool:
        """Takes what has been told, without blocking. True when facts may differ, also when notices were lost."""

    def close(self) -> None: ...


class Network(Protocol):
    """What `towpath.path` asks of an operating system. Raises `HostFault` where the system says no."""

    def read(self) -> NetworkFacts:
        """The facts now."""

    def changes(self, *, every_route: bool = False) -> NetworkChanges:
        """Subscribes; notices of every change of the facts from now on are kept for it.

        With `every_route` also of routes that are not among the facts, and of the rules that choose a table.
        """

    def route_to(self, address: Address, index: int = 0) -> RouteFacts:
        """The route that a packet to `address` would take now, out of link `index` unless that is 0.

        Sends nothing. Raises `HostFault` (ENETUNREACH, EHOSTUNREACH, EACCES) when there is none.
        """


ANY_NETWORK: Mapping[int, IPv4Network | IPv6Network] = {4: IPv4Network("0.0.0.0/0"), 6: IPv6Network("::/0")}
"""The destination of a default route, by IP version."""
