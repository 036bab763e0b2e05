"""From a Bonjour service to the addresses it is served at (RFC 6763 section 5)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from ipaddress import ip_address

from towpath.connection.endpoint import ServiceEndpoint
from towpath.connection.race_candidates import Candidate
from towpath.connection.report import ResolutionReport
from towpath.errors import ConnectionFailed
from towpath.names.bonjour import Bonjour, BonjourService

__all__ = ["find_service"]

_PATIENCE = 5.0
"""Seconds for a service to answer: a query is repeated after 1 and 3 s (RFC 6762 section 5.2)."""


async def find_service(endpoint: ServiceEndpoint, notes: list[ResolutionReport]) -> tuple[Candidate, ...]:
    """Where a service on the link can be reached now.

    Raises `ConnectionFailed` when nobody announces it within five seconds, `HostFault` without multicast.
    """
    if endpoint.domain.rstrip(".").lower() != "local":
        error = ConnectionFailed(str(endpoint), f"services are found on the link, not in {endpoint.domain}")
        error.hint = "the domain of a Bonjour service is local"
        raise error
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(_PATIENCE):
            service = await _announced(endpoint)
    except TimeoutError:
        words = f"nobody announces it within {_PATIENCE:g} s"
        notes.append(ResolutionReport(str(endpoint), "mdns", loop.time() - begun, protocol="mdns", error=words))
        raise ConnectionFailed(
            str(endpoint), words, hint="is it on this link, and spelled as it announces itself?"
        ) from None
    notes.append(ResolutionReport(str(endpoint), "mdns", loop.time() - begun, service.addresses, "mdns"))
    return tuple(Candidate(_with_zone(address, service), service.port) for address in service.addresses)


async def _announced(endpoint: ServiceEndpoint) -> BonjourService:
    async with Bonjour() as bonjour, aclosing(bonjour.browse(endpoint.type)) as changes:
        async for change in changes:
            # Names of services are compared as DNS compares them (RFC 6762 section 16).
            service = change.service
            if change.kind != "removed" and service.name.lower() == endpoint.name.lower() and service.addresses:
                return service
    raise ConnectionFailed(str(endpoint), "browsing ended")


def _with_zone(address: str, service: BonjourService) -> str:
    parsed = ip_address(address.partition("%")[0])
    if parsed.version == 6 and parsed.is_link_local and "%" not in address and service.interface is not None:
        return f"{address}%{service.interface}"
    return address
