"""Interfaces: immutable, comparable values made from what the kernel says, and the difference between two moments."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Network

from towpath.errors import HostFault
from towpath.kernel import system
from towpath.kernel.network import (
    Address,
    AddressFacts,
    AddressFlag,
    LinkFacts,
    LinkFlag,
    Metered,
    Network,
    NetworkFacts,
    Operational,
    RouteKind,
)
from towpath.path.medium import InterfaceType, interface_type

__all__ = [
    "Interface",
    "InterfaceAddress",
    "InterfaceChange",
    "Interfaces",
    "Usability",
    "interfaces_of",
    "list_interfaces",
]


class Usability(StrEnum):
    """Whether an address can be a source (RFC 4862 §5.4-5.5)."""

    USABLE = "usable"
    DEPRECATED = "deprecated"
    TENTATIVE = "tentative"
    DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """An address of an interface with the length of its prefix in bits.

    An interface that broadcasts may have a `broadcast` address and never a `destination`; one that is point-to-point
    may have a `destination` and never a `broadcast` address: its flags say which, as the two share their storage.
    `permanent` addresses have no lifetime; `temporary` ones are those of RFC 8981.

    >>> InterfaceAddress(IPv4Address("192.0.2.9"), 24).network
    IPv4Network('192.0.2.0/24')
    """

    address: Address
    prefix: int
    broadcast: IPv4Address | None = None
    destination: Address | None = None
    usability: Usability = Usability.USABLE
    permanent: bool = False
    temporary: bool = False

    @property
    def usable(self) -> bool:
        """Whether it can be the source of a packet; a deprecated one can, though others are preferred."""
        return self.usability in (Usability.USABLE, Usability.DEPRECATED)

    @property
    def network(self) -> IPv4Network | IPv6Network:
        """The addresses on the same link: of the `destination` where there is one."""
        within = self.address if self.destination is None else self.destination
        if isinstance(within, IPv4Address):
            return IPv4Network((within, self.prefix), strict=False)
        return IPv6Network((within, self.prefix), strict=False)

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"


@dataclass(frozen=True, slots=True)
class Interface:
    """A network device at one moment; two are equal when nothing differs.

    `type` is what it is for and comes from facts, never from the name. `kind` names the driver of a virtual interface
    (veth, bridge, tun, ...), `hardware` its kind of hardware address. `speed` is in bits per second, `mtu` in bytes;
    `None` where the system does not say. `gateways` are the routers of its default routes, the preferred first.
    `metered` is what NetworkManager says, `None` where it does not run or does not know.

    >>> from towpath.path import list_interfaces
    >>> list_interfaces().named("lo").type                                            # doctest: +SKIP
    <InterfaceType.LOOPBACK: 'loopback'>
    """

    index: int
    name: str
    type: InterfaceType
    kind: str | None = None
    hardware: str = "ether"
    hardware_address: str | None = None
    flags: frozenset[LinkFlag] = frozenset()
    operational: Operational = Operational.UNKNOWN
    mtu: int | None = None
    speed: int | None = None
    addresses: tuple[InterfaceAddress, ...] = ()
    gateways: tuple[Address, ...] = ()
    metered: Metered | None = None

    @property
    def up(self) -> bool:
        """Whether it was switched on; it may have no carrier."""
        return LinkFlag.UP in self.flags

    @property
    def running(self) -> bool:
        """Whether packets can pass.

        Loopback and tunnels never report more than "unknown" while they work; and where a carrier is lost, the flag
        tells it up to a second before the state does.
        """
        alive = self.operational in (Operational.UP, Operational.UNKNOWN)
        return self.up and alive and LinkFlag.LOWER_UP in self.flags

    def has_address(self, version: int) -> bool:
        """Whether it has a usable address of IP `version` that is not of the link or the host alone."""
        return any(
            found.usable
            and found.address.version == version
            and not found.address.is_link_local
            and not found.address.is_loopback
            for found in self.addresses
        )


@dataclass(frozen=True, slots=True)
class Interfaces:
    """All interfaces of one moment, by index; an immutable collection.

    >>> list(Interfaces())
    []
    """

    all: tuple[Interface, ...] = ()

    def __iter__(self) -> Iterator[Interface]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)

    def named(self, name: str) -> Interface:
        """The interface called `name`. Raises `HostFault` (ENODEV)."""
        for interface in self.all:
            if interface.name == name:
                return interface
        names = ", ".join(interface.name for interface in self.all) or "none"
        raise HostFault(f"find interface {name!r}", errno.ENODEV, "there is none", hint=f"there are {names}")

    def numbered(self, index: int) -> Interface:
        """The interface with `index`. Raises `HostFault` (ENODEV)."""
        for interface in self.all:
            if interface.index == index:
                return interface
        raise HostFault(f"find interface {index}", errno.ENODEV, "there is none with this index")

    def since(self, before: Interfaces) -> InterfaceChange:
        """What is different from an earlier moment. An interface is the same as long as its index is."""
        old = {interface.index: interface for interface in before}
        new = {interface.index: interface for interface in self}
        return InterfaceChange(
            interfaces=self,
            added=tuple(found for index, found in new.items() if index not in old),
            removed=tuple(found for index, found in old.items() if index not in new),
            changed=tuple((old[index], found) for index, found in new.items() if index in old and old[index] != found),
        )


@dataclass(frozen=True, slots=True)
class InterfaceChange:
    """One change: all `interfaces` after it, and what was added, removed, or is `changed` as (before, after)."""

    interfaces: Interfaces
    added: tuple[Interface, ...] = ()
    removed: tuple[Interface, ...] = ()
    changed: tuple[tuple[Interface, Interface], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed)


def list_interfaces(network: Network | None = None) -> Interfaces:
    """The interfaces now. Raises `HostFault`.

    >>> [interface.name for interface in list_interfaces()]                           # doctest: +SKIP
    ['lo', 'eth0']
    """
    return interfaces_of((system.network if network is None else network).read())


def interfaces_of(facts: NetworkFacts) -> Interfaces:
    """The interfaces that the kernel's facts describe."""
    return Interfaces(tuple(_interface(link, facts) for link in facts.links))


def _interface(link: LinkFacts, facts: NetworkFacts) -> Interface:
    gateways = [
        hop.gateway
        for route in facts.routes
        if route.kind is RouteKind.UNICAST
        for hop in route.hops
        if hop.index == link.index and hop.gateway is not None
    ]
    return Interface(
        index=link.index,
        name=link.name,
        type=interface_type(link),
        kind=link.kind,
        hardware=link.hardware,
        hardware_address=link.hardware_address,
        flags=link.flags,
        operational=link.operational,
        mtu=link.mtu,
        speed=link.speed,
        addresses=tuple(_address(found, link.flags) for found in facts.addresses if found.index == link.index),
        gateways=tuple(dict.fromkeys(gateways)),
        metered=link.metered,
    )


def _address(found: AddressFacts, link: frozenset[LinkFlag]) -> InterfaceAddress:
    to_point = LinkFlag.POINT_TO_POINT in link
    return InterfaceAddress(
        address=found.address,
        prefix=found.prefix,
        broadcast=found.broadcast if LinkFlag.BROADCAST in link and not to_point else None,
        destination=found.peer if to_point else None,
        usability=_usability(found.flags),
        permanent=AddressFlag.PERMANENT in found.flags,
        temporary=AddressFlag.TEMPORARY in found.flags,
    )


def _usability(flags: frozenset[AddressFlag]) -> Usability:
    if AddressFlag.DUPLICATE in flags:
        return Usability.DUPLICATE
    # RFC 4429: an optimistic address may be used while it is still being checked.
    if AddressFlag.TENTATIVE in flags and AddressFlag.OPTIMISTIC not in flags:
        return Usability.TENTATIVE
    return Usability.DEPRECATED if AddressFlag.DEPRECATED in flags else Usability.USABLE
