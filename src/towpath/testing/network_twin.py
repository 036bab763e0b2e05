"""A network in memory: what `towpath.path` reads and watches, changed by a test instead of by a kernel."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
from ipaddress import ip_address, ip_interface

from towpath.errors import HostFault, Misuse
from towpath.kernel.network import (
    ANY_NETWORK,
    Address,
    AddressFacts,
    AddressFlag,
    Hop,
    LinkFacts,
    LinkFlag,
    Metered,
    NetworkFacts,
    Operational,
    RouteFacts,
)

__all__ = ["NetworkTwin"]


class NetworkTwin:
    """The links, addresses and routes of a machine that does not exist.

    It has the methods of `towpath.kernel.network.Network`, so it goes wherever `network=` is asked for. Each change is
    one notice to those who watch.

    >>> from towpath.path import PathMonitor, PathPolicy
    >>> twin = NetworkTwin()
    >>> twin.add_link("phone", device_type="wwan")
    >>> twin.add_address("phone", "198.51.100.7/24")
    >>> twin.add_default_route("phone", "198.51.100.1")
    >>> str(PathMonitor(network=twin, policy=PathPolicy()).current().interfaces[0].type)
    'cellular'
    """

    def __init__(self) -> None:
        self._facts = NetworkFacts(resolvers=("192.0.2.53",))
        self._listeners: list[TwinChanges] = []

    def read(self) -> NetworkFacts:
        return self._facts

    def changes(self, *, every_route: bool = False) -> TwinChanges:
        """Subscribes. What a twin's routes are is never more than its facts, so `every_route` changes nothing."""
        listener = TwinChanges()
        self._listeners.append(listener)
        return listener

    def route_to(self, address: Address, index: int = 0) -> RouteFacts:
        """By the addresses on the links, else by the default route of the lowest metric."""
        for found in self._facts.addresses:
            if address in ip_interface(f"{found.address}/{found.prefix}").network and index in (0, found.index):
                network = ip_interface(address).network
                return RouteFacts(network, hops=(Hop(found.index),), source=found.address)
        for route in sorted(self._facts.routes, key=lambda route: route.metric):
            if address in route.destination and index in (0, *(hop.index for hop in route.hops)):
                return dataclasses.replace(route, destination=ip_interface(address).network)
        raise HostFault(f"ask for the route to {address}", errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    def add_link(
        self,
        name: str,
        *,
        up: bool = True,
        carrier: bool = True,
        dormant: bool = False,
        kind: str | None = None,
        wireless: bool = False,
        device_type: str | None = None,
        hardware: str = "ether",
        point_to_point: bool = False,
        mtu: int = 1500,
    ) -> None:
        """A link with hardware behind it, unless it has a `kind`; by default Ethernet that is up and has a carrier.

        A `dormant` one waits for somebody to use it, as a modem does that dials on demand.
        """
        if any(link.name == name for link in self._facts.links):
            raise Misuse(f"the twin has a link {name!r} already")
        flags = {LinkFlag.POINT_TO_POINT} if point_to_point else {LinkFlag.BROADCAST, LinkFlag.MULTICAST}
        link = LinkFacts(
            index=1 + max((link.index for link in self._facts.links), default=0),
            name=name,
            flags=frozenset(flags),
            hardware=hardware,
            kind=kind,
            mtu=mtu,
            has_device=kind is None,
            described=True,
            wireless=wireless,
            device_type=device_type,
        )
        link = _switched(link, up=up, carrier=carrier)
        if dormant:
            link = dataclasses.replace(link, operational=Operational.DORMANT)
        self._set(links=(*self._facts.links, link))

    def set_link(self, name: str, *, up: bool = True, carrier: bool = True) -> None:
        """Switches a link, or pulls its plug. Addresses and routes stay, as IPv4's do."""
        index = self._index(name)
        self._set(
            links=tuple(
                _switched(link, up=up, carrier=carrier) if link.index == index else link for link in self._facts.links
            )
        )

    def set_metered(self, name: str, metered: Metered | None) -> None:
        """Says what whoever manages a link says; `None`: nothing, as where nobody manages it."""
        index = self._index(name)
        self._set(
            links=tuple(
                dataclasses.replace(link, metered=metered) if link.index == index else link
                for link in self._facts.links
            )
        )

    def remove_link(self, name: str) -> None:
        """Takes a link away, and its addresses and routes with it."""
        index = self._index(name)
        self._set(
            links=tuple(link for link in self._facts.links if link.index != index),
            addresses=tuple(found for found in self._facts.addresses if found.index != index),
            routes=tuple(route for route in self._facts.routes if route.hops[0].index != index),
        )

    def add_address(self, name: str, address: str, *flags: AddressFlag) -> None:
        """Adds ``ADDRESS/PREFIX``; permanent unless `flags` say something else."""
        given = ip_interface(address)
        found = AddressFacts(
            self._index(name),
            given.ip,
            given.network.prefixlen,
            flags=frozenset(flags or (AddressFlag.PERMANENT,)),
        )
        self._set(addresses=(*self._without(found.index, found.address), found))

    def remove_address(self, name: str, address: str) -> None:
        """Removes an address, which may be given with its prefix."""
        self._set(addresses=self._without(self._index(name), ip_interface(address).ip))

    def add_default_route(self, name: str, gateway: str | None = None, *, metric: int = 100, version: int = 4) -> None:
        """A default route; its IP version is the gateway's where there is one."""
        router = None if gateway is None else ip_address(gateway)
        destination = ANY_NETWORK[version if router is None else router.version]
        route = RouteFacts(destination, hops=(Hop(self._index(name), router),), metric=metric)
        self._set(routes=(*self._facts.routes, route))

    def remove_default_routes(self, name: str) -> None:
        """Removes the default routes that lead over a link."""
        index = self._index(name)
        self._set(routes=tuple(route for route in self._facts.routes if route.hops[0].index != index))

    def set_resolvers(self, *addresses: str) -> None:
        """Says which name servers are configured."""
        self._set(resolvers=addresses)

    def _without(self, index: int, address: Address) -> tuple[AddressFacts, ...]:
        return tuple(found for found in self._facts.addresses if (found.index, found.address) != (index, address))

    def _index(self, name: str) -> int:
        for link in self._facts.links:
            if link.name == name:
                return link.index
        raise Misuse(f"the twin has no link {name!r}")

    def _set(self, **changes: tuple[object, ...]) -> None:
        self._facts = dataclasses.replace(self._facts, **changes)  # type: ignore[arg-type]
        self._listeners = [listener for listener in self._listeners if listener.tell()]


class TwinChanges:
    """A subscription to a twin."""

    def __init__(self) -> None:
        self._here, self._there = socket.socketpair()
        self._here.setblocking(False)
        self._there.setblocking(False)

    def tell(self) -> bool:
        """One notice; False when nobody listens any more."""
        try:
            self._there.send(b"!")
        except BlockingIOError:
            pass
        except OSError:
            return False
        return True

    def fileno(self) -> int:
        return self._here.fileno()

    def drain(self) -> bool:
        try:
            return bool(self._here.recv(1 << 16))
        except BlockingIOError:
            return False

    def close(self) -> None:
        self._here.close()
        self._there.close()


def _switched(link: LinkFacts, *, up: bool, carrier: bool) -> LinkFacts:
    flags = link.flags - {LinkFlag.UP, LinkFlag.RUNNING, LinkFlag.LOWER_UP}
    flags |= {LinkFlag.UP} if up else set()
    flags |= {LinkFlag.RUNNING, LinkFlag.LOWER_UP} if up and carrier else set()
    return dataclasses.replace(
        link, flags=frozenset(flags), operational=Operational.UP if up and carrier else Operational.DOWN
    )
