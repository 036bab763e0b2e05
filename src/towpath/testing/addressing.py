"""From a plan to the nodes of a world: who is plugged in where, with which addresses, and what names mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)

from towpath.errors import ConfigInvalid
from towpath.kernel.hosts import Bridge, Card, Node, Route
from towpath.testing.plan import INTERNET, Dns, Host, LabPlan, NameRecord, Router, Switch

__all__ = ["Layout", "lay_out"]

_SPARE4 = IPv4Network("203.0.113.0/24")
_SPARE6 = IPv6Network("2001:db8:1::/48")
_LINK_LOCAL_GATEWAY = IPv6Address("fe80::1")
_NAME_LIMIT = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """`nodes` begin with the root router; `records` are all names, `resolvers` the name servers' addresses."""

    nodes: tuple[Node, ...]
    records: tuple[NameRecord, ...]
    resolvers: tuple[str, ...]
    plan: LabPlan

    def cards(self, host: str) -> tuple[Card, ...]:
        return next(node.cards for node in self.nodes if node.name == host)


@dataclass(slots=True)
class _Segment:
    """What hosts can be on: a router's own routed ports, or a bridge of a router."""

    router: str
    bridge: str | None
    ipv4: IPv4Network
    ipv6: IPv6Network
    free4: Iterator[IPv4Address]
    free6: Iterator[IPv6Address]
    gateway4: IPv4Address
    gateway6: IPv6Address
    taken: set[IPv4Address | IPv6Address] = field(default_factory=set)


def lay_out(plan: LabPlan) -> Layout:
    """Raises `ConfigInvalid` for names used twice, nodes on nothing, addresses that do not fit or do not suffice."""
    if not any(isinstance(service, Dns) for host in plan.hosts for service in host.serves):
        plan = plan.host("dns", serves=[Dns()])
    _check_names(plan)
    builder = _Builder(plan)
    builder.place_routers()
    builder.place_hosts()
    addresses = builder.addresses
    resolvers = tuple(
        str(address)
        for host in plan.hosts
        if any(isinstance(service, Dns) for service in host.serves)
        for address in addresses[host.name]
    )
    return Layout(builder.nodes(), _records(plan, addresses), resolvers, plan)


def _check_names(plan: LabPlan) -> None:
    seen = {INTERNET}
    nodes: list[Router | Switch | Host] = [*plan.routers, *plan.switches, *plan.hosts]
    for node in nodes:
        if not node.name.replace("-", "").replace("_", "").isalnum() or len(node.name) > _NAME_LIMIT:
            raise ConfigInvalid(plan.name, f"{node.name!r} is no name for a host: letters, digits, - and _")
        if node.name in seen:
            raise ConfigInvalid(plan.name, f"two things are called {node.name!r}")
        seen.add(node.name)
    for host in plan.hosts:
        if not host.on:
            raise ConfigInvalid(plan.name, f"host {host.name!r} is on nothing", f'on = "{INTERNET}"')
        for where in host.on:
            if where not in seen or any(where == other.name for other in plan.hosts):
                raise ConfigInvalid(plan.name, f"host {host.name!r} is on {where!r}, which is no router or switch")


class _Builder:
    def __init__(self, plan: LabPlan) -> None:
        self._plan = plan
        self._spare4 = _SPARE4.subnets(new_prefix=28)
        self._spare6 = _SPARE6.subnets(new_prefix=64)
        self._ports = 0
        self._nodes = {INTERNET: Node(INTERNET, forwards=True, own6=next(_hosts6(plan.ipv6)))}
        self._segments = {INTERNET: _routed_segment(INTERNET, plan.ipv4, plan.ipv6)}
        self.addresses: dict[str, tuple[IPv4Address | IPv6Address, ...]] = {}

    def nodes(self) -> tuple[Node, ...]:
        return tuple(self._nodes.values())

    def place_routers(self) -> None:
        """Parents before children, whatever the order in the plan."""
        waiting: list[Router | Switch] = [*self._plan.routers, *self._plan.switches]
        while waiting:
            placed = [node for node in waiting if node.on in self._segments]
            if not placed:
                raise ConfigInvalid(self._plan.name, f"{waiting[0].name!r} is on {waiting[0].on!r}, which is no router")
            for node in placed:
                ipv4, ipv6 = node.ipv4 or next(self._spare4), node.ipv6 or next(self._spare6)
                if self._segments[node.on].bridge is not None:
                    raise ConfigInvalid(self._plan.name, f"{node.name!r} is on {node.on!r}: put it on a router instead")
                if isinstance(node, Router):
                    self._place_router(node.name, node.on, ipv4, ipv6)
                else:
                    self._place_switch(node.name, node.on, ipv4, ipv6)
            waiting = [node for node in waiting if node not in placed]

    def _place_router(self, name: str, on: str, ipv4: IPv4Network, ipv6: IPv6Network) -> None:
        card = self._card(name, 0, on, None, None, None)
        self._nodes[name] = Node(name, cards=(card,), forwards=True, own6=next(_hosts6(ipv6)))
        self._segments[name] = _routed_segment(name, ipv4, ipv6)
        self._route_to(name, ipv4, ipv6)

    def _place_switch(self, name: str, on: str, ipv4: IPv4Network, ipv6: IPv6Network) -> None:
        device = f"switch{len(self._segments)}"
        segment = _Segment(
            on, device, ipv4, ipv6, _hosts4(ipv4), _hosts6(ipv6), next(_hosts4(ipv4)), next(_hosts6(ipv6))
        )
        segment.taken |= {segment.gateway4, segment.gateway6}
        self._segments[name] = segment
        bridge = Bridge(
            device,
            IPv4Interface((segment.gateway4, ipv4.prefixlen)),
            IPv6Interface((segment.gateway6, ipv6.prefixlen)),
        )
        router = self._nodes[on]
        self._nodes[on] = replace(router, bridges=(*router.bridges, bridge))
        self._route_to(on, ipv4, ipv6)

    def _route_to(self, router: str, ipv4: IPv4Network, ipv6: IPv6Network) -> None:
        """Tells every router above `router` that the networks lie behind it."""
        while self._nodes[router].cards:
            uplink = self._nodes[router].cards[0]
            above = self._nodes[uplink.upstream]
            new = (Route(ipv4, uplink.address4.ip), Route(ipv6, uplink.address6.ip))
            self._nodes[above.name] = replace(above, routes=(*above.routes, *new))
            router = above.name

    def place_hosts(self) -> None:
        for host in self._plan.hosts:
            for where in host.on:
                self._reserve(self._segments[where], host)
        for host in self._plan.hosts:
            cards = tuple(
                self._card(
                    host.name, number, where, host.delay, *((host.ipv4, host.ipv6) if number == 0 else (None,) * 2)
                )
                for number, where in enumerate(host.on)
            )
            self._nodes[host.name] = Node(host.name, cards=cards)
            self.addresses[host.name] = (cards[0].address4.ip, cards[0].address6.ip)

    def _reserve(self, segment: _Segment, host: Host) -> None:
        for address, network in ((host.ipv4, segment.ipv4), (host.ipv6, segment.ipv6)):
            if address is None:
                continue
            if (segment.bridge is not None or segment.router != INTERNET) and address not in network:
                raise ConfigInvalid(self._plan.name, f"{address} of {host.name!r} is not in {network}")
            segment.taken.add(address)

    def _card(
        self,
        name: str,
        number: int,
        where: str,
        delay: float | None,
        ipv4: IPv4Address | None,
        ipv6: IPv6Address | None,
    ) -> Card:
        segment = self._segments[where]
        self._ports += 1
        try:
            ipv4 = ipv4 or next(address for address in segment.free4 if address not in segment.taken)
            ipv6 = ipv6 or next(address for address in segment.free6 if address not in segment.taken)
        except StopIteration:
            raise ConfigInvalid(self._plan.name, f"{segment.ipv4} is too small for {name!r}") from None
        routed = segment.bridge is None
        return Card(
            device=f"eth{number}",
            upstream=segment.router,
            port=f"port{self._ports}",
            bridge=segment.bridge,
            address4=IPv4Interface((ipv4, 32 if routed else segment.ipv4.prefixlen)),
            gateway4=segment.gateway4,
            address6=IPv6Interface((ipv6, 128 if routed else segment.ipv6.prefixlen)),
            gateway6=_LINK_LOCAL_GATEWAY if routed else segment.gateway6,
            delay=delay,
        )


def _routed_segment(router: str, ipv4: IPv4Network, ipv6: IPv6Network) -> _Segment:
    gateway = next(_hosts4(ipv4))
    segment = _Segment(router, None, ipv4, ipv6, _hosts4(ipv4), _hosts6(ipv6), gateway, _LINK_LOCAL_GATEWAY)
    segment.taken |= {gateway, next(_hosts6(ipv6))}
    return segment


def _hosts4(network: IPv4Network) -> Iterator[IPv4Address]:
    return iter(network.hosts())


def _hosts6(network: IPv6Network) -> Iterator[IPv6Address]:
    return iter(network.hosts())


def _records(plan: LabPlan, addresses: Mapping[str, tuple[IPv4Address | IPv6Address, ...]]) -> tuple[NameRecord, ...]:
    found: dict[NameRecord, None] = {}
    for host in plan.hosts:
        for name in (*host.names, *(name for service in host.serves for name in service.names)):
            for address in addresses[host.name]:
                found[NameRecord(name=name, type="A" if address.version == 4 else "AAAA", value=str(address))] = None
    return (*found, *plan.records)
