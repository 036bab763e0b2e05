"""Asking for a path once, asking for the path to one address, and watching the path."""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator
from contextlib import aclosing
from ipaddress import IPv6Address, ip_address

from towpath.errors import HostFault, Misuse
from towpath.kernel import system
from towpath.kernel.network import Address, Network, NetworkChanges, NetworkFacts
from towpath.path.interface import interfaces_of
from towpath.path.marks import PathPolicy
from towpath.path.path import Path, PathRequirements, PathStatus, UnsatisfiedReason, default_path, path_by
from towpath.path.watch import PATIENCE, QUIET, settled

__all__ = ["PathMonitor", "path_for"]

_NO_ROUTE = {
    errno.ENETUNREACH: UnsatisfiedReason.NO_ROUTE,
    errno.EHOSTUNREACH: UnsatisfiedReason.ROUTE_REFUSES,
    errno.EACCES: UnsatisfiedReason.ROUTE_REFUSES,
    errno.EINVAL: UnsatisfiedReason.ROUTE_REFUSES,
}


class PathMonitor:
    """The path now, and each time it changes.

    `destination` narrows it to the path to one address, as the kernel would route it; without it, the path is that of
    the default routes. `policy` is `PathPolicy.default()` unless given. Each iteration is a stream of its own.

    ::

        async for path in PathMonitor(PathRequirements(prohibit_expensive=True)):
            print(path.status, path.reason)
    """

    def __init__(
        self,
        requirements: PathRequirements | None = None,
        *,
        destination: Address | str | None = None,
        policy: PathPolicy | None = None,
        network: Network | None = None,
        quiet: float = QUIET,
        patience: float = PATIENCE,
    ) -> None:
        self.requirements = PathRequirements() if requirements is None else requirements
        self.destination = None if destination is None else _address(destination)
        self.policy = PathPolicy.default() if policy is None else policy
        self._network = system.network if network is None else network
        self._quiet = quiet
        self._patience = patience

    def current(self) -> Path:
        """The path now. Raises `HostFault`."""
        facts = self._network.read()
        if self.destination is None:
            return default_path(facts, self.requirements, self.policy)
        return self._path_to(self.destination, facts)

    async def __aiter__(self) -> AsyncGenerator[Path, None]:
        async with aclosing(settled(self._subscribe, self.current, self._quiet, self._patience)) as paths:
            async for path in paths:
                yield path

    def _subscribe(self) -> NetworkChanges:
        return self._network.changes(every_route=self.destination is not None)

    def _path_to(self, destination: Address, facts: NetworkFacts) -> Path:
        try:
            route = self._network.route_to(destination, self._link(destination, facts))
        except HostFault as fault:
            reason = _NO_ROUTE.get(fault.errno or 0)
            if reason is None:
                raise
            return Path(PathStatus.UNSATISFIED, reason, destination=destination)
        return path_by(route, destination, facts, self.requirements, self.policy)

    def _link(self, destination: Address, facts: NetworkFacts) -> int:
        """The link that the route must take: of the address's zone, or the required one; 0 for any."""
        zone = destination.scope_id if isinstance(destination, IPv6Address) else None
        if zone is not None and zone.isdecimal():
            return int(zone)
        name = zone or self.requirements.required_interface
        return interfaces_of(facts).named(name).index if name else 0


def path_for(
    destination: Address | str,
    requirements: PathRequirements | None = None,
    *,
    policy: PathPolicy | None = None,
    network: Network | None = None,
) -> Path:
    """The path to one address, as the kernel would route it now; nothing is sent.

    Policy routing is taken into account, because the kernel answers. Raises `HostFault`; `Misuse` for what is not an
    address: names are for who can resolve them.

    >>> path_for("198.51.100.7").interfaces[0].name                                   # doctest: +SKIP
    'eth0'
    """
    return PathMonitor(requirements, destination=destination, policy=policy, network=network).current()


def _address(text: Address | str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        error = Misuse(f"not an IP address: {text!r}")
        error.hint = "resolve the name first; a path is to one address"
        raise error from None
