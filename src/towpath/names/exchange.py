"""Drives a `Lookup` on asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from towpath.errors import TowpathError
from towpath.names.channel import Dial
from towpath.names.client import Lookup, Send

__all__ = ["exchange"]

_BACKLOG = 16
"""A flood of wrong answers waits in the kernel, and is dropped there."""

_Arrival = tuple[int, bytes | None, str]


async def exchange(lookup: Lookup, dial: Dial, clock: Callable[[], float] = time.monotonic) -> None:
    """Carries a lookup's messages until it is finished; every channel is closed when this returns."""
    arrivals: asyncio.Queue[_Arrival] = asyncio.Queue(_BACKLOG)
    talks: list[asyncio.Task[None]] = []
    sends = lookup.start(clock())
    try:
        while not lookup.finished:
            talks += [asyncio.create_task(_talk(send, dial, arrivals)) for send in sends]
            try:
                async with asyncio.timeout(max(0.0, lookup.deadline - clock())):
                    number, message, reason = await arrivals.get()
            except TimeoutError:
                sends = lookup.wake(clock())
                continue
            if message is None:
                sends = lookup.failed(number, reason, clock())
            else:
                sends = lookup.received(number, message, clock())
    finally:
        for talk in talks:
            talk.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def _talk(send: Send, dial: Dial, arrivals: asyncio.Queue[_Arrival]) -> None:
    try:
        channel = await dial(send.server, send.protocol)
        try:
            await channel.send(send.message)
            while True:
                await arrivals.put((send.number, await channel.receive(), ""))
        finally:
            channel.close()
    except (OSError, TowpathError) as error:
        words = error.strerror if isinstance(error, OSError) else None
        await arrivals.put((send.number, None, words or str(error) or type(error).__name__))
