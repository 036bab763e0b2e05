"""The class that the author of a tunnel protocol writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol

from towpath.errors import Misuse
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.kernel_wireguard import KernelPeerFigures, KernelWireGuard
from towpath.providers.packets import DatagramLink, PacketFlow
from towpath.providers.provider import Config, LogLevel, Provider
from towpath.providers.reasons import StopReason
from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["PacketTunnelProvider", "TunnelContext"]


class TunnelContext(Protocol):
    """What a packet tunnel can ask of whoever runs it. Everything is called in the thread of the event loop."""

    @property
    def packets(self) -> PacketFlow:
        """The packets of the programs, both ways."""

    async def apply(self, settings: TunnelSettings | None) -> None:
        """Puts settings in force, or takes them away. Raises `TunnelFailed`, and then the old ones hold."""

    async def connect(self, host: str, port: int) -> DatagramLink:
        """UDP to a server, outside of the tunnel. Raises `TunnelFailed`."""

    async def listen(self, port: int) -> DatagramLink:
        """UDP from anywhere to a port. Needs the capability `listen`."""

    @property
    def kernel_wireguard(self) -> bool:
        """Whether the tunnel's device is the kernel's own WireGuard, which this provider has to set up.

        Only where the manifest claims the capability `kernel-wireguard` and who runs the tunnel wants it so. No packet
        comes to `packets` then.
        """

    async def set_kernel_wireguard(self, setup: KernelWireGuard) -> None:
        """Makes the device be so, in place of what it was, and speaks to its servers. Raises `TunnelFailed`."""

    async def kernel_wireguard_peers(self) -> list[KernelPeerFigures]:
        """How its peers are now."""

    def reassert(self, on: bool) -> None:
        """The tunnel works on being connected again, or is it."""

    def cancel(self, failure: TunnelFailed) -> None:
        """Ends the session."""

    def log(self, level: LogLevel, text: str) -> None:
        """Writes to the log of the run, below the provider's name."""

    def now(self) -> float:
        """Seconds since 1970."""

    def boot_time(self) -> float:
        """Seconds of a clock that runs while the machine sleeps, and that nobody sets."""

    def later(self, seconds: float, call: Callable[[], object]) -> None:
        """Calls once, after so many seconds."""


class PacketTunnelProvider(Provider[Config], Generic[Config]):
    """A VPN protocol: packets of programs in, datagrams to a server out, and back.

    ::

        from towpath.providers import Datagrams, Packet, PacketTunnelProvider, TunnelSettings

        class Plain(PacketTunnelProvider):
            async def start(self, options):
                self.link = await self.connect("192.0.2.9", 4000)
                self.link.deliver_to(lambda rows: self.packets.write([Packet.of(one) for one in rows]))
                self.packets.deliver_to(self.send)
                await self.set_settings(TunnelSettings(remote="192.0.2.9", addresses=("10.0.0.2/32",)))

            def send(self, packets):
                self.link.send_each([one for packet in packets for one in packet.split()])

    Hooks are plain functions or `async def`; all run in one event loop. When `start` has returned the tunnel is up;
    until then it has 60 s, for `stop` 5 s. What a hook raises ends the session, `TunnelFailed` with its own cause.
    """

    config_texts: tuple[str, ...] = ()
    """Endings of configuration files that are not TOML: their config is `{"text": ..., "name": ...}`."""

    _tunnel: TunnelContext | None = None
    _reasserting = False

    def attach_tunnel(self, context: TunnelContext) -> None:
        """Called once by whoever runs the provider, before `start`."""
        self._tunnel = context

    @property
    def tunnel(self) -> TunnelContext:
        """What this provider acts through. Before `start` there is none, which raises `Misuse`."""
        if self._tunnel is None:
            raise Misuse(f"{type(self).__name__}.tunnel is there from start() on, not in __init__()")
        return self._tunnel

    # What an author overrides.

    def start(self, options: Mapping[str, str] | None) -> None | Awaitable[None]:
        """Connects, and puts settings in force. `options` are of who started it, `None` when nobody in person did."""
        return None

    def stop(self, reason: StopReason) -> None | Awaitable[None]:
        """Called last, at most once; the process may be killed 5 s later."""
        return None

    def sleep(self) -> None | Awaitable[None]:
        """The machine is about to sleep. It may do so a hundred times an hour: never tear down for it."""
        return None

    def wake(self) -> None | Awaitable[None]:
        """The machine has slept, and goes on. The clock of `boot_time` says for how long."""
        return None

    def network_changed(self) -> None | Awaitable[None]:
        """The path below has changed. Links have been bound anew already."""
        return None

    def handle_app_message(self, data: bytes) -> bytes | None | Awaitable[bytes | None]:
        """A message of whoever runs the tunnel; the answer goes back, `None` is no answer."""
        return None

    def describe_config(self) -> Mapping[str, Any]:
        """What the configuration says, for `towpath tunnel check`; raises `ConfigInvalid` for a mistake. No secret."""
        return {}

    def status(self) -> Mapping[str, Any]:
        """Figures for `towpath tunnel status`: text, numbers, lists and tables of these. Never a secret."""
        return {}

    # What an author calls.

    @property
    def packets(self) -> PacketFlow:
        """The packets of the programs, both ways."""
        return self.tunnel.packets

    async def set_settings(self, settings: TunnelSettings | None) -> None:
        """Puts settings in force in one step, or replaces those that are. Raises `TunnelFailed`; the old ones hold."""
        await self.tunnel.apply(settings)

    async def connect(self, host: str, port: int) -> DatagramLink:
        """UDP to a server, by name or address, outside of the tunnel. Raises `TunnelFailed`."""
        return await self.tunnel.connect(host, port)

    async def listen(self, port: int) -> DatagramLink:
        """UDP from anywhere, for the server's side of a protocol. Raises `TunnelFailed`, `Misuse`."""
        return await self.tunnel.listen(port)

    @property
    def reasserting(self) -> bool:
        """Whether the tunnel, once connected, works on being so again."""
        return self._reasserting

    @reasserting.setter
    def reasserting(self, on: bool) -> None:
        if on != self._reasserting:
            self._reasserting = on
            self.tunnel.reassert(on)

    def cancel(self, cause: DisconnectCause, reason: str = "") -> None:
        """Ends the session by the provider's own will; `cause` becomes its last error."""
        self.tunnel.cancel(TunnelFailed(cause, reason))

    def log(self, text: str, level: LogLevel = "info") -> None:
        """Writes to the log of the run."""
        self.tunnel.log(level, text)
