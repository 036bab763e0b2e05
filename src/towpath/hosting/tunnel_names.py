"""Whom to ask for which name beside a tunnel, and by which network."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from towpath.dns_proxy.groups import Group
from towpath.hosting.system_dns import behind_stub, system_group
from towpath.policy.guard import local_kind, private_kind

if TYPE_CHECKING:
    from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["NamePlan", "leads_everywhere", "plan_names"]

_NOBODY = (
    "no DNS server is named for the tunnel, and the host's are not reached through it: names do not resolve (in a "
    "wg-quick file: DNS = ADDRESS)"
)


class NamePlan(NamedTuple):
    """`rest` is asked for every name that none of `domains` has; `by_host` are servers that the tunnel does not carry,
    and that may be asked nevertheless. `warning` is what the user should know.
    """

    rest: Group
    domains: tuple[Group, ...] = ()
    by_host: frozenset[str] = frozenset()
    warning: str = ""


def plan_names(settings: TunnelSettings | None, system: list[str]) -> NamePlan:
    """Whom to ask under these settings, where the host asks the servers `system`.

    Names that the settings do not take are asked of the host's servers: through the tunnel where it reaches them. By
    the host's network only where the settings say that the tunnel is for some domains and some networks alone; a tunnel
    that is the way to everywhere is so for questions too, and then its own servers are asked for the rest.
    """
    within = [one for one in behind_stub(system) if settings is not None and _carried(settings, one)]
    dns = settings.dns if settings is not None else None
    if settings is None:
        return NamePlan(Group(()))
    if dns is None or not dns.servers:
        return NamePlan(system_group(within)) if within else NamePlan(Group(()), warning=_NOBODY)
    own = system_group(list(dns.servers))
    beyond = "" if any(settings.refusal(one) is None for one in dns.servers) else _beyond(dns.servers)
    if dns.takes_all:
        return NamePlan(own, warning=beyond)
    domains = (own._replace(match_domains=dns.match_domains),) if dns.match_domains else ()
    if leads_everywhere(settings):
        return NamePlan(system_group(within) if within else own, domains, warning=beyond)
    by_host = frozenset(one for one in system if not _carried(settings, one))
    return NamePlan(system_group(system), domains, by_host, beyond)


def _beyond(servers: tuple[str, ...]) -> str:
    """A mistake of files whose AllowedIPs name the other side's networks, and whose DNS is somewhere else."""
    return (
        f"the tunnel does not lead to its DNS servers ({', '.join(servers)}): names do not resolve by it (in a "
        "wg-quick file: AllowedIPs has to cover what DNS names)"
    )


def leads_everywhere(settings: TunnelSettings) -> bool:
    """Whether the tunnel is the way to everywhere, so that no question may leave by another."""
    return settings.include_all or settings.takes_all(4) or settings.takes_all(6)


def _carried(settings: TunnelSettings, server: str) -> bool:
    """Whether the tunnel leads to a server of the host's, and not to another that has its address on the far side."""
    address = server.partition("%")[0]
    if address != server or local_kind(address) is not None or settings.refusal(address) is not None:
        return False
    if private_kind(address) is None:
        return True
    where = ip_address(address)
    return any(one.prefixlen > 1 and where in one for one in map(ip_network, settings.included))
