"""Watches over a connection that is ready: is the peer alive, and is there still a way to it?"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from towpath.connection.channel import Channel
from towpath.connection.endpoint import AddressEndpoint
from towpath.connection.events import BetterPath, ConnectionEvent, PathChanged, ViabilityChanged
from towpath.connection.liveness import Liveness
from towpath.errors import ConnectionFailed, HostFault
from towpath.kernel import system
from towpath.kernel.network import Network
from towpath.path.monitor import PathMonitor
from towpath.path.path import Path, PathRequirements, PathStatus, UnsatisfiedReason

__all__ = ["LivenessWatch", "network_changed", "watch_path"]

_PROBES = 127
"""More than the kernel can use up before `Liveness.dead_after` is over: this process decides."""


class LivenessWatch:
    """Ends a channel with ETIMEDOUT when its peer was silent for too long."""

    def __init__(self, channel: Channel, liveness: Liveness, endpoint: str) -> None:
        self._channel = channel
        self._liveness = liveness
        self._endpoint = endpoint
        self._pinged = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins, unless the other end is on this machine's own Unix socket, where the kernel tells of every death."""
        if self._channel.socket.family == socket.AF_UNIX:
            return
        if not self._liveness.ping:
            step = self._liveness.probe_idle
            system.transports.set_keepalive(self._channel.socket, step, step, _PROBES)
        self._again(self._first_look)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    @property
    def _first_look(self) -> float:
        return self._liveness.ping_after if self._liveness.ping else self._liveness.dead_after

    def _again(self, seconds: float) -> None:
        self._timer = self._channel.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        channel, liveness = self._channel, self._liveness
        if channel.is_closed or channel.error is not None:
            return
        silence = self._silence()
        if silence >= liveness.dead_after:
            words = f"nothing came from the peer for {silence:.1f} s"
            channel.lose(ConnectionFailed(self._endpoint, words, errno=errno.ETIMEDOUT))
            return
        if not liveness.ping:
            self._again(liveness.dead_after - silence)
            return
        if silence < liveness.ping_after:
            self._pinged = False
            self._again(liveness.ping_after - silence)
            return
        if not self._pinged and channel.stack is not None:
            self._pinged = True
            channel.stack.ping()
        self._again(liveness.dead_after - silence)

    def _silence(self) -> float:
        channel = self._channel
        if not self._liveness.ping:
            return system.transports.stream_figures(channel.socket).silence
        if not channel.is_reading:
            channel.last_heard = channel.loop.time()  # we do not listen, so silence proves nothing
        return channel.loop.time() - channel.last_heard


async def watch_path(
    remote: AddressEndpoint,
    wanted: PathRequirements,
    network: Network | None,
    tell: Callable[[ConnectionEvent], None],
) -> None:
    """Tells of every change of the way to a peer, from the second look on, until it is cancelled."""
    used: str | None = None
    viable, better = True, False
    async with aclosing(aiter(PathMonitor(wanted, destination=remote.address, network=network))) as paths:
        async for best in paths:
            if used is None:
                used = best.interfaces[0].name if best.satisfied else None
                if used is not None:
                    continue
            own = best if _leads_by(best, used) else _path_by(used, remote, wanted, network)
            tell(PathChanged(own))
            if own.satisfied is not viable:
                viable = own.satisfied
                tell(ViabilityChanged(viable))
            found = best.satisfied and not _leads_by(best, used)
            if found is not better:
                better = found
                tell(BetterPath(better))


def _leads_by(path: Path, interface: str | None) -> bool:
    return path.satisfied and path.interfaces[0].name == interface


def _path_by(interface: str | None, remote: AddressEndpoint, wanted: PathRequirements, network: Network | None) -> Path:
    try:
        wanted = replace(wanted, required_interface=interface)
        return PathMonitor(wanted, destination=remote.address, network=network).current()
    except HostFault:
        # The interface itself is gone.
        return Path(PathStatus.UNSATISFIED, UnsatisfiedReason.NO_INTERFACE, destination=remote.address)


@asynccontextmanager
async def network_changed(network: Network | None = None) -> AsyncGenerator[asyncio.Event, None]:
    """An event that is set at each change of the network from now on; whoever waits for it clears it. ::

    async with network_changed() as changed:
        await changed.wait()
    """
    changes = (system.network if network is None else network).changes(every_route=True)
    changed = asyncio.Event()

    def listen() -> None:
        if changes.drain():
            changed.set()

    loop = asyncio.get_running_loop()
    loop.add_reader(changes.fileno(), listen)
    try:
        yield changed
    finally:
        loop.remove_reader(changes.fileno())
        changes.close()
