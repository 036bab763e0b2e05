"""A path: what a connection would use now, or the first reason why there is none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv6Address

from towpath.kernel.network import Address, Hop, NetworkFacts, Operational, RouteFacts, RouteKind
from towpath.path.interface import Interface, Interfaces, interfaces_of
from towpath.path.marks import Mark, PathPolicy
from towpath.path.medium import InterfaceType

__all__ = ["Path", "PathRequirements", "PathStatus", "UnsatisfiedReason", "default_path", "path_by"]


class PathStatus(StrEnum):
    """Whether there is a path. A satisfied one is no proof that a given host can be reached."""

    SATISFIED = "satisfied"
    UNSATISFIED = "unsatisfied"
    REQUIRES_CONNECTION = "requires-connection"
    """Not now, but an attempt would bring one up: the interface is dormant, as on-demand links are (RFC 2863)."""


class UnsatisfiedReason(StrEnum):
    """Why there is no path; of several reasons the first that was met, in order of preference of the interfaces."""

    NO_INTERFACE = "no-interface"
    INTERFACE_DOWN = "interface-down"
    NO_CARRIER = "no-carrier"
    DORMANT = "dormant"
    ADDRESS_TENTATIVE = "address-tentative"
    NO_ADDRESS = "no-address"
    NO_ROUTE = "no-route"
    ROUTE_REFUSES = "route-refuses"
    INTERFACE_PROHIBITED = "interface-prohibited"
    EXPENSIVE_PROHIBITED = "expensive-prohibited"
    CONSTRAINED_PROHIBITED = "constrained-prohibited"
    MANAGEMENT_ONLY = "management-only"


@dataclass(frozen=True, slots=True)
class PathRequirements:
    """Which interfaces a path may use. By default any.

    >>> PathRequirements(prohibited_types=frozenset({InterfaceType.CELLULAR}), prohibit_expensive=True)
    ...     # doctest: +SKIP
    """

    required_interface: str | None = None
    required_type: InterfaceType | None = None
    prohibited_interfaces: frozenset[str] = frozenset()
    prohibited_types: frozenset[InterfaceType] = frozenset()
    prohibit_expensive: bool = False
    prohibit_constrained: bool = False

    def objection(self, interface: Interface, policy: PathPolicy) -> UnsatisfiedReason | None:
        """Why `interface` may not be used, or `None`."""
        if (
            (self.required_interface not in (None, interface.name))
            or (self.required_type not in (None, interface.type))
            or interface.name in self.prohibited_interfaces
            or interface.type in self.prohibited_types
        ):
            return UnsatisfiedReason.INTERFACE_PROHIBITED
        if self.prohibit_expensive and policy.mark(interface, "expensive"):
            return UnsatisfiedReason.EXPENSIVE_PROHIBITED
        if self.prohibit_constrained and policy.mark(interface, "constrained"):
            return UnsatisfiedReason.CONSTRAINED_PROHIBITED
        if policy.mark(interface, "management") and self.required_interface != interface.name:
            return UnsatisfiedReason.MANAGEMENT_ONLY
        return None


@dataclass(frozen=True, slots=True)
class Path:
    """What a connection would use at one moment; two are equal when nothing differs.

    `interfaces` are those that can be used, the preferred first; `gateways` the routers on them, link-local ones with
    their zone. `expensive` and `constrained` are those of the preferred interface. `source` is the address that the
    kernel would send from, known only of a path to one destination.

    >>> Path(PathStatus.UNSATISFIED, UnsatisfiedReason.NO_ROUTE).satisfied
    False
    """

    status: PathStatus
    reason: UnsatisfiedReason | None = None
    interfaces: tuple[Interface, ...] = ()
    gateways: tuple[Address, ...] = ()
    supports_ipv4: bool = False
    supports_ipv6: bool = False
    supports_dns: bool = False
    expensive: Mark = Mark(False, "there is no path")
    constrained: Mark = Mark(False, "there is no path")
    destination: Address | None = None
    source: Address | None = None

    @property
    def satisfied(self) -> bool:
        return self.status is PathStatus.SATISFIED


def default_path(facts: NetworkFacts, requirements: PathRequirements, policy: PathPolicy) -> Path:
    """The path to wherever a default route leads. Default routes are taken by metric, each IP version for itself."""
    return _path(facts, _in_order(facts), requirements, policy)


def path_by(
    route: RouteFacts, destination: Address, facts: NetworkFacts, requirements: PathRequirements, policy: PathPolicy
) -> Path:
    """The path by the one route that the kernel chose for `destination`."""
    if route.kind in (RouteKind.BLACKHOLE, RouteKind.UNREACHABLE, RouteKind.PROHIBIT):
        return Path(PathStatus.UNSATISFIED, UnsatisfiedReason.ROUTE_REFUSES, destination=destination)
    version = destination.version
    return _path(facts, [(version, hop) for hop in route.hops], requirements, policy, destination, route.source)


def _in_order(facts: NetworkFacts) -> list[tuple[int, Hop]]:
    """Where the default routes lead: the first of either IP version, then the second, ..."""
    ranked = [
        (rank, version, hop)
        for version in (4, 6)
        for rank, hop in enumerate(
            hop
            for route in sorted(facts.routes, key=lambda route: route.metric)
            if route.kind is RouteKind.UNICAST and route.destination.version == version
            for hop in route.hops
        )
    ]
    return [(version, hop) for _rank, version, hop in sorted(ranked, key=lambda found: found[:2])]


def _path(
    facts: NetworkFacts,
    ways: list[tuple[int, Hop]],
    requirements: PathRequirements,
    policy: PathPolicy,
    destination: Address | None = None,
    source: Address | None = None,
) -> Path:
    interfaces = interfaces_of(facts)
    used: dict[int, Interface] = {}
    gateways: dict[Address, None] = {}
    versions: set[int] = set()
    reasons: list[UnsatisfiedReason] = []
    for version, hop in ways:
        interface = next((found for found in interfaces if found.index == hop.index), None)
        if interface is None:
            continue
        reason = requirements.objection(interface, policy) or _obstacle(interface)
        if reason is None and source is None:
            reason = _without_address(interfaces, version)
        if reason is not None:
            reasons.append(reason)
            continue
        used.setdefault(interface.index, interface)
        versions.add(version)
        if hop.gateway is not None:
            gateways.setdefault(_with_zone(hop.gateway, interface.name))
    if not used:
        first = reasons[0] if reasons else _why_nowhere(interfaces, requirements, policy)
        dormant = first is UnsatisfiedReason.DORMANT
        status = PathStatus.REQUIRES_CONNECTION if dormant else PathStatus.UNSATISFIED
        return Path(status, first, destination=destination)
    preferred = next(iter(used.values()))
    return Path(
        status=PathStatus.SATISFIED,
        interfaces=tuple(used.values()),
        gateways=tuple(gateways),
        supports_ipv4=4 in versions,
        supports_ipv6=6 in versions,
        supports_dns=bool(facts.resolvers),
        expensive=policy.mark(preferred, "expensive"),
        constrained=policy.mark(preferred, "constrained"),
        destination=destination,
        source=source,
    )


def _obstacle(interface: Interface) -> UnsatisfiedReason | None:
    """Why no packet passes through the interface."""
    if not interface.up:
        return UnsatisfiedReason.INTERFACE_DOWN
    if interface.operational is Operational.DORMANT:
        return UnsatisfiedReason.DORMANT
    return None if interface.running else UnsatisfiedReason.NO_CARRIER


def _without_address(interfaces: Interfaces, version: int) -> UnsatisfiedReason | None:
    """Why a packet would have no source. The kernel takes another interface's address where the own one has none."""
    if any(interface.has_address(version) for interface in interfaces):
        return None
    tentative = any(
        not found.usable and found.address.version == version and not found.address.is_link_local
        for interface in interfaces
        for found in interface.addresses
    )
    return UnsatisfiedReason.ADDRESS_TENTATIVE if tentative else UnsatisfiedReason.NO_ADDRESS


def _why_nowhere(interfaces: Interfaces, requirements: PathRequirements, policy: PathPolicy) -> UnsatisfiedReason:
    """Why there is not even a route: what is wrong with the interface that comes closest to one."""
    stages = list(_stages(interfaces, requirements, policy))
    order = list(UnsatisfiedReason)
    return max(stages, key=order.index, default=UnsatisfiedReason.NO_INTERFACE)


def _stages(interfaces: Interfaces, requirements: PathRequirements, policy: PathPolicy) -> Iterator[UnsatisfiedReason]:
    for interface in interfaces:
        if interface.type is InterfaceType.LOOPBACK or requirements.objection(interface, policy):
            continue
        obstacle = _obstacle(interface)
        if obstacle is not None:
            yield obstacle
        elif interface.has_address(4) or interface.has_address(6):
            yield UnsatisfiedReason.NO_ROUTE
        else:
            waits = any(not found.usable and not found.address.is_link_local for found in interface.addresses)
            yield UnsatisfiedReason.ADDRESS_TENTATIVE if waits else UnsatisfiedReason.NO_ADDRESS


def _with_zone(gateway: Address, name: str) -> Address:
    return IPv6Address(f"{gateway}%{name}") if gateway.version == 6 and gateway.is_link_local else gateway
