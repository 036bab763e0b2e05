"""Which links are metered, kept at hand: who reads the network's facts must not wait for a message bus.

A thread follows NetworkManager, because those who read facts do so without an event loop or within any. Only the
first of them waits, and no longer than `BUDGET`; whatever goes wrong, the answer is that nothing is known.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from towpath.kernel.network import Metered

if TYPE_CHECKING:
    from towpath.linux.network_manager import Device

__all__ = ["BUDGET", "Metering", "MeteringChanges", "shared_metering"]

BUDGET = 0.5
"""Seconds that the first question may take."""

_RETRY = 30.0
_STANDARD_BUS = "unix:path=/run/dbus/system_bus_socket"
_log = logging.getLogger(__name__)


class Metering:
    """What NetworkManager says is metered, as far as it is known now."""

    def __init__(self, budget: float = BUDGET) -> None:
        self._budget = budget
        self._lock = threading.Lock()
        self._answered = threading.Event()
        self._first: float | None = None
        self._again = 0.0
        self._running = False
        self._devices: Mapping[str, Device] = {}
        self._listeners: set[MeteringChanges] = set()

    def of(self, name: str, hardware_address: str | None) -> Metered | None:
        """What is said of a link, `None` if nothing is, or only of a link of that name with other hardware."""
        self._start()
        if self._first is not None:
            self._answered.wait(max(0.0, self._first + self._budget - time.monotonic()))
        device = self._devices.get(name)
        if device is None or device.hardware_address not in (None, (hardware_address or "").lower()):
            return None
        return device.metered

    def changes(self) -> MeteringChanges:
        """Subscribes to changes of the answers."""
        self._start()
        made = MeteringChanges(self)
        with self._lock:
            self._listeners.add(made)
        return made

    def leave(self, listener: MeteringChanges) -> None:
        """Ends a subscription."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
                os.close(listener.fileno())

    def _start(self) -> None:
        now = time.monotonic()
        with self._lock:
            if self._running or now < self._again:
                return
            address = _bus()
            if address is None:
                return
            self._running = True
            self._first = now if self._first is None else self._first
        threading.Thread(target=self._follow, args=(address,), name="metering", daemon=True).start()

    def _follow(self, address: str) -> None:
        # Signals are for the thread that waits for them; one that is taken here would be missed there.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            from towpath.linux.network_manager import follow

            asyncio.run(follow(address, self._tell))
        except Exception as error:
            # The bus's library raises whatever it meets, and none of it is a reason to have no network.
            _log.debug("NetworkManager cannot be asked: %s", error)
        with self._lock:
            self._running = False
            self._again = time.monotonic() + _RETRY
        self._tell({})

    def _tell(self, devices: Mapping[str, Device]) -> None:
        with self._lock:
            changed = devices != self._devices
            self._devices = devices
            for listener in self._listeners if changed else ():
                os.eventfd_write(listener.fileno(), 1)
        self._answered.set()


class MeteringChanges:
    """A subscription: its descriptor is readable when another answer may be given."""

    def __init__(self, metering: Metering) -> None:
        self._metering = metering
        self._descriptor = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def fileno(self) -> int:
        return self._descriptor

    def drain(self) -> bool:
        """Whether something was told since this was last asked."""
        try:
            return os.eventfd_read(self._descriptor) > 0
        except BlockingIOError:
            return False

    def close(self) -> None:
        self._metering.leave(self)


_shared = Metering()


def shared_metering() -> Metering:
    """The one of this process."""
    return _shared


def _forget() -> None:
    global _shared
    _shared = Metering()


# A forked process has the table and the lock, but not the thread.
os.register_at_fork(after_in_child=_forget)


def _bus() -> str | None:
    """The address of the bus (D-Bus Specification, Server Addresses), `None` if it is plain that there is none.

    Looking first spares those without a bus the thread and the library.
    """
    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or _STANDARD_BUS
    transport, _, rest = address.partition(":")
    path = rest.split(",")[0].removeprefix("path=")
    plain = transport == "unix" and rest.startswith("path=") and ";" not in address and "%" not in address
    return None if plain and not os.path.exists(path) else address
