"""One stream of the changes of interfaces.

The kernel tells every detail by itself: deleting a link makes thirteen messages. A change here is one settled
difference: notices start a pause, further notices prolong it, then everything is read again and compared. Because all
is read again each time, a notice that the kernel could not deliver (ENOBUFS) loses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from towpath.errors import Misuse
from towpath.kernel import system
from towpath.kernel.network import Network, NetworkChanges
from towpath.path.interface import InterfaceChange, Interfaces, list_interfaces

__all__ = ["PATIENCE", "QUIET", "settled", "watch_interfaces"]

T = TypeVar("T")

QUIET = 0.15
"""Seconds without a notice after which a burst is over. Bursts of the kernel last less than a millisecond."""

PATIENCE = 1.0
"""Seconds after which a burst that does not end is looked at nevertheless."""


async def watch_interfaces(
    network: Network | None = None, *, quiet: float = QUIET, patience: float = PATIENCE
) -> AsyncGenerator[InterfaceChange, None]:
    """Yields a change at once, with all interfaces as added, then one for each settled difference.

    A consumer that is busy gets what happened meanwhile as one change. Raises `HostFault`; `Misuse` where `quiet` is
    negative or longer than `patience`.

    ::

        async for change in watch_interfaces():
            print([interface.name for interface in change.added])
    """
    source = system.network if network is None else network
    before = Interfaces()
    async with aclosing(settled(source.changes, lambda: list_interfaces(source), quiet, patience)) as snapshots:
        async for interfaces in snapshots:
            yield interfaces.since(before)
            before = interfaces


async def settled(
    subscribe: Callable[[], NetworkChanges], look: Callable[[], T], quiet: float, patience: float
) -> AsyncGenerator[T, None]:
    """What `look` finds now, then again whenever it finds something else after a burst of notices is over."""
    if not 0 <= quiet <= patience:
        raise Misuse(f"quiet must be from 0 to patience: {quiet:g} s and {patience:g} s were given")
    loop = asyncio.get_running_loop()
    changes = subscribe()
    stirred = asyncio.Event()

    def listen() -> None:
        if changes.drain():
            stirred.set()

    loop.add_reader(changes.fileno(), listen)
    try:
        seen = look()
        yield seen
        while True:
            await stirred.wait()
            await _settle(stirred, loop.time() + patience, quiet)
            now = look()
            if now != seen:
                seen = now
                yield now
    finally:
        loop.remove_reader(changes.fileno())
        changes.close()


async def _settle(stirred: asyncio.Event, deadline: float, quiet: float) -> None:
    """Waits until nothing has stirred for `quiet` seconds, or until the deadline; leaves `stirred` cleared."""
    loop = asyncio.get_running_loop()
    while stirred.is_set():
        stirred.clear()
        pause = min(quiet, deadline - loop.time())
        if pause <= 0:
            return
        try:
            async with asyncio.timeout(pause):
                await stirred.wait()
        except TimeoutError:
            return
