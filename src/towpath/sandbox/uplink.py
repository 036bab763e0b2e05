"""By which network a run's flows leave: the host's own, or a tunnel and nothing else."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Protocol

from towpath.kernel.system import sockets
from towpath.policy.policy import Decision

if TYPE_CHECKING:
    from towpath.kernel.tunnel import TunnelNetwork
    from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["HostUplink", "TunnelUplink", "Uplink"]


class Uplink(Protocol):
    """Makes the sockets that leave. The functions are those of `towpath.linux.sockets`."""

    private_is_near: bool
    """Whether private addresses are those around this host, where no public name should lead."""

    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]: ...
    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket: ...
    def echo_socket(self, version: int) -> socket.socket: ...
    def refusal(self, address: str) -> Decision | None:
        """Why an address cannot be reached by it at all."""


class HostUplink:
    """The host's network, where the user's own programs are."""

    private_is_near = True

    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]:
        return sockets.dial_stream(version, address, port)

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket:
        return sockets.dial_datagram(version, address, port)

    def echo_socket(self, version: int) -> socket.socket:
        return sockets.echo_socket(version)

    def refusal(self, address: str) -> Decision | None:
        return None


class TunnelUplink:
    """A network whose only way out is the tunnel's device. `where` names the tunnel's configuration."""

    private_is_near = False

    def __init__(self, scope: TunnelNetwork, where: str) -> None:
        self._scope = scope
        self._where = where
        self._settings: TunnelSettings | None = None

    def use(self, settings: TunnelSettings | None) -> None:
        """Holds to other settings from here on."""
        self._settings = settings

    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]:
        made = self._scope.take_socket("stream", version)
        return made, made.connect_ex((address, port))

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket:
        return sockets.dial_datagram(version, address, port, self._scope.take_socket("datagram", version))

    def echo_socket(self, version: int) -> socket.socket:
        return self._scope.take_socket("echo", version)

    def refusal(self, address: str) -> Decision | None:
        if self._settings is None:
            return Decision("deny", None, f"the tunnel of {self._where} has no settings now", "tunnel", None)
        reason = self._settings.refusal(address)
        if reason is None:
            return None
        hint = None
        if self._where.endswith(".conf"):
            reason = f"AllowedIPs in {self._where} do not cover {address}" if reason.startswith("no route") else reason
            family = "::/0" if ":" in address else "0.0.0.0/0"
            to_add = f"{address} (or {family}) to AllowedIPs, if the peer carries it"
            if reason.startswith("the tunnel has no IP"):
                to_add = f"an {reason.split()[-2]} Address to [Interface], which the peer has to know as yours"
            hint = f"add {to_add}; nothing of this run goes around it"
        return Decision("deny", None, reason, "tunnel", hint)
