"""What a tunnel asks of an operating system: its device's wished state as a value, and who brings it about."""

from __future__ import annotations

from ipaddress import ip_interface
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from towpath.providers.kernel_wireguard import KernelPeer, KernelPeerFigures, KernelWireGuard
    from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["NOTHING", "KernelDevice", "TunnelAttachment", "TunnelNetwork", "TunnelPlan", "make_plan"]


class TunnelPlan(NamedTuple):
    """Addresses and routes of a tunnel's device as `(address, prefix length)`, and its MTU.

    `around` are routes that do not lead into it although a wider one does; what is for `held` ones leaves by the device
    or not at all, but for those in `around`.
    """

    addresses: tuple[tuple[str, int], ...] = ()
    routes: tuple[tuple[str, int], ...] = ()
    around: tuple[tuple[str, int], ...] = ()
    mtu: int = 1420
    held: tuple[tuple[str, int], ...] = ()

    def text(self) -> str:
        """As people and tests read it."""
        lines = [f"mtu {self.mtu}"]
        lines += [f"address {address}/{prefix}" for address, prefix in self.addresses]
        lines += [f"route {address}/{prefix}" for address, prefix in self.routes]
        lines += [f"around {address}/{prefix}" for address, prefix in self.around]
        lines += [f"held {address}/{prefix}" for address, prefix in self.held]
        return "\n".join(lines)


NOTHING = TunnelPlan()


def make_plan(settings: TunnelSettings | None, physical_mtu: int = 1500) -> TunnelPlan:
    """The plan of settings; of none, the empty one."""
    if settings is None:
        return NOTHING
    interfaces = [ip_interface(text) for text in settings.addresses]
    routes = [one for version in (4, 6) for one in settings.routes(version)]
    around = [one for version in (4, 6) for one in settings.left_out(version)]
    as_route = tuple((str(one.network_address), one.prefixlen) for one in routes)
    # Everything is everything: a family that the tunnel does not carry stays here.
    held = (("0.0.0.0", 0), ("::", 0)) if settings.include_all else as_route if settings.enforce_routes else ()
    return TunnelPlan(
        tuple((str(one.ip), one.network.prefixlen) for one in interfaces),
        as_route,
        tuple((str(one.network_address), one.prefixlen) for one in around),
        settings.link_mtu(physical_mtu),
        held,
    )


class TunnelNetwork(Protocol):
    """A network whose only way out is a tunnel."""

    def take_socket(self, kind: Literal["stream", "datagram", "echo"], version: int) -> socket.socket:
        """A socket whose packets leave by the tunnel or not at all. Raises `OSError`."""


class KernelDevice(Protocol):
    """A device of the kernel's WireGuard. Everything raises `HostFault`."""

    def set_up(self, setup: KernelWireGuard) -> None:
        """Makes it be so; endpoints are addresses."""

    def speak(self, peer: KernelPeer, *, anew: bool = False) -> None:
        """Lets a peer know of us now; with `anew` by the way that is best now."""

    def peers(self) -> list[KernelPeerFigures]:
        """How its peers are."""


class TunnelAttachment(Protocol):
    """A TUN device that somebody holds. `queue` is its descriptor, `heads` as the kernel gave them."""

    name: str
    queue: int
    heads: bool

    @property
    def kernel(self) -> KernelDevice | None:
        """The kernel's WireGuard, where that is the device; then nothing comes out of `queue`."""

    @property
    def questions(self) -> Callable[[str], socket.socket] | None:
        """Where questions of programs for names may not leave: gives a UDP socket, connected to port 53 of a server.

        It is for the names of the tunnel's own servers. Raises `OSError`.
        """

    def lead_to(self, places: Sequence[tuple[str, int]], listening: int = 0) -> None:
        """The kernel's WireGuard speaks to these addresses, and to whoever comes to a port. Raises `HostFault`."""

    def ways(self) -> dict[str, str | None]:
        """By which interface each of these addresses is reached now."""

    def apply(self, plan: TunnelPlan) -> None:
        """Makes the plan so, in place of the one before. Raises `HostFault`, and then the old one holds."""

    def open_link(self, address: str, port: int) -> socket.socket:
        """UDP to a server, never through the tunnel itself. Raises `OSError`."""

    def listen(self, port: int) -> socket.socket:
        """UDP from anywhere. Raises `OSError`."""

    def has_network(self) -> bool:
        """Whether there is a way to the outside now, the tunnel itself left out of account."""

    def close(self) -> None:
        """The device goes, and with it all that hung on it."""
