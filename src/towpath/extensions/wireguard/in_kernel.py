"""A wg-quick file spoken by the kernel: it is told once, and looked at from time to time."""

from __future__ import annotations

import asyncio
from typing import Any

from towpath.extensions.support.peer_links import FIRST_ANSWER, place
from towpath.extensions.wireguard.config import WireGuardConfig
from towpath.providers import (
    DisconnectCause,
    KernelPeer,
    KernelPeerFigures,
    KernelWireGuard,
    PacketTunnelProvider,
    TunnelFailed,
)

__all__ = ["InKernel", "Silence"]

_LOOK_EACH = 0.5
_WATCH_EACH = 5.0
_REASSERTED_AFTER = 15.0


class Silence:
    """Tells from counters whether a peer that is sent to has stopped answering.

    >>> silence = Silence()
    >>> [silence.lasts(*look) for look in ((0, 9, 9), (5, 20, 9), (25, 30, 9), (30, 40, 12))]
    [False, False, True, False]
    """

    def __init__(self) -> None:
        self._sent = self._received = -1
        self._since: float | None = None

    def lasts(self, now: float, sent: int, received: int) -> bool:
        """With a look at the counters `now`: whether there was no answer to anything for long."""
        if received != self._received:
            self._since = None
        elif sent != self._sent and self._since is None:
            self._since = now
        self._sent, self._received = sent, received
        return self._since is not None and now - self._since > _REASSERTED_AFTER


class InKernel:
    """What `WireGuard` does where the tunnel's device is the kernel's."""

    def __init__(self, provider: PacketTunnelProvider[Any], config: WireGuardConfig) -> None:
        self._provider = provider
        self._dialled = [peer.public_key for peer in config.peers if peer.endpoint is not None]
        self._places = ", ".join(place(*peer.endpoint) for peer in config.peers if peer.endpoint is not None)
        self._silence = Silence()
        self._setup = KernelWireGuard(
            config.private_key.secret(),
            tuple(
                KernelPeer(
                    peer.public_key,
                    peer.preshared_key,
                    tuple(map(str, peer.allowed)),
                    peer.endpoint,
                    peer.keepalive,
                )
                for peer in config.peers
            ),
            config.listen_port or 0,
        )

    async def set_up(self, where: str) -> None:
        """Tells the kernel; `where` is what a user would look at. Raises `TunnelFailed`."""
        try:
            await self._provider.tunnel.set_kernel_wireguard(self._setup)
        except TunnelFailed as failure:
            hint = failure.hint
            if failure.cause is DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED:
                hint = "is the name right, and does this machine resolve names (towpath resolve NAME)?"
            raise TunnelFailed(failure.cause, f"{where}: {failure}", hint) from None

    async def first_answer(self, hint: str) -> None:
        """Waits until a server has shaken hands. Raises `TunnelFailed`."""
        for _ in range(round(FIRST_ANSWER / _LOOK_EACH)):
            if not self._dialled or any(peer.last_handshake for peer in await self._servers()):
                self._provider.tunnel.later(_WATCH_EACH, self._watch)
                return
            await asyncio.sleep(_LOOK_EACH)
        reason = f"no answer from {self._places} in {FIRST_ANSWER:g} s"
        raise TunnelFailed(DisconnectCause.SERVER_NOT_RESPONDING, reason, hint)

    async def _servers(self) -> list[KernelPeerFigures]:
        found = await self._provider.tunnel.kernel_wireguard_peers()
        return [peer for peer in found if peer.public_key in self._dialled]

    def _watch(self) -> None:
        self._watching = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        servers = await self._servers()
        sent, received = sum(peer.sent for peer in servers), sum(peer.received for peer in servers)
        self._provider.reasserting = self._silence.lasts(self._provider.tunnel.boot_time(), sent, received)
        self._provider.tunnel.later(_WATCH_EACH, self._watch)
