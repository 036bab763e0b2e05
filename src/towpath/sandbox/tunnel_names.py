"""Dials the name servers of a run with a tunnel, each by the network that the plan has for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.dns_proxy.groups import Group
from towpath.hosting.tunnel_names import NamePlan, plan_names
from towpath.sandbox.uplink import HostUplink

if TYPE_CHECKING:
    from towpath.providers.tunnel_settings import TunnelSettings
    from towpath.sandbox.uplink import Uplink

__all__ = ["TunnelNames"]


class TunnelNames:
    """Plans, and dials servers by the network that the plan has for them.

    Implements `towpath.hosting.dns_exchange.Dial`.
    """

    def __init__(self, tunnel: Uplink, warn: Callable[[str], None]) -> None:
        self._tunnel = tunnel
        self._host = HostUplink()
        self._warn = warn
        self._plan = NamePlan(Group(()))

    def use(self, settings: TunnelSettings | None, system: list[str]) -> NamePlan:
        """Holds to a plan for these settings from here on."""
        warned = self._plan.warning
        self._plan = plan_names(settings, system)
        if self._plan.warning and self._plan.warning != warned:
            self._warn(self._plan.warning)
        return self._plan

    def _network(self, address: str) -> Uplink:
        return self._host if address in self._plan.by_host else self._tunnel

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket:
        return self._network(address).dial_datagram(version, address, port)

    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]:
        return self._network(address).dial_stream(version, address, port)
