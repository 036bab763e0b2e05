"""The Linux answer to `towpath.kernel`: one module a facility, mechanism and never policy.

The modules that a run needs before its command is executed import little, because `towpath run` must start fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.kernel.hosts import Hosts
    from towpath.kernel.network import Network

__all__ = ["Linux"]


class Linux:
    """The facilities by name; each is imported when it is first asked for."""

    @property
    def hosts(self) -> Hosts:
        """Makes little internets of hosts, and enters them."""
        from towpath.linux.hosts import LinuxHosts

        return LinuxHosts()

    @property
    def network(self) -> Network:
        """Reads links, addresses and routes, tells of changes, and answers which route a packet would take."""
        from towpath.linux.network import LinuxNetwork

        return LinuxNetwork()
