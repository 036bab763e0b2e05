"""Hears from logind that the machine is about to sleep, and that it woke (org.freedesktop.login1, PrepareForSleep).

A delay lock is held so that there is time to prepare (5 s by logind's default). Where there is no bus, or no logind on
it, nothing is heard, and the clock that runs on during sleep has to tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from functools import partial

__all__ = ["SleepWatch"]

_STANDARD_BUS = "unix:path=/run/dbus/system_bus_socket"
_NAME, _PATH, _MANAGER = "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"
_BUS, _BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_RULE = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='PrepareForSleep'"
_PATIENCE = 25.0
_PREPARED = 4.5
"""Seconds after which the lock is let go in any case."""


class SleepWatch:
    """Calls `sleep(done)` and `wake()` in a thread of its own, until `close`; `done` is called when all is prepared."""

    def __init__(self, sleep: Callable[[Callable[[], object]], object], wake: Callable[[], object]) -> None:
        self._sleep = sleep
        self._wake = wake
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self.following = threading.Event()
        """Set once logind is listened to."""
        address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", _STANDARD_BUS)
        if address == _STANDARD_BUS and not os.path.exists("/run/dbus/system_bus_socket"):
            return
        threading.Thread(target=self._run, args=(address,), name="towpath-sleep", daemon=True).start()

    def _run(self, address: str) -> None:
        try:
            asyncio.run(self._follow(address))
        except (Exception, asyncio.CancelledError):
            return  # no bus that answers: nobody tells

    async def _follow(self, address: str) -> None:
        from dbus_fast import Message, MessageType
        from dbus_fast.aio import MessageBus

        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        if self._closed:
            return
        bus = await asyncio.wait_for(MessageBus(bus_address=address, negotiate_unix_fd=True).connect(), _PATIENCE)
        lock: int | None = None

        async def take() -> int | None:
            words = ["sleep", "towpath", "connections and names prepare", "delay"]
            call = Message(_NAME, _PATH, _MANAGER, "Inhibit", signature="ssss", body=words)
            answer = await asyncio.wait_for(bus.call(call), _PATIENCE)
            return answer.unix_fds[0] if answer is not None and answer.unix_fds else None

        heard: asyncio.Queue[bool] = asyncio.Queue()

        def listen(message: Message) -> None:
            if message.message_type is MessageType.SIGNAL and message.member == "PrepareForSleep":
                heard.put_nowait(bool(message.body[0]))

        bus.add_message_handler(listen)
        await bus.call(Message(_BUS, _BUS_PATH, _BUS, "AddMatch", signature="s", body=[_RULE]))
        try:
            lock = await take()
            self.following.set()
            while True:
                if await heard.get():
                    prepared = asyncio.Event()
                    loop = self._loop
                    self._sleep(partial(loop.call_soon_threadsafe, prepared.set))
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(prepared.wait(), _PREPARED)
                    if lock is not None:
                        os.close(lock)
                        lock = None
                else:
                    self._wake()
                    lock = await take()
        finally:
            if lock is not None:
                os.close(lock)
            bus.disconnect()

    def close(self) -> None:
        self._closed = True
        if self._loop is not None and self._task is not None:
            try:
                self._loop.call_soon_threadsafe(self._task.cancel)
            except RuntimeError:
                return  # it has ended already
