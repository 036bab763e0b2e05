"""systemd-resolved beside a DNS proxy: its cache is emptied, and it is asked whether its questions can be redirected.

org.freedesktop.resolve1(5). What it asks servers on port 53 comes to a proxy for the host like anybody's questions;
what it asks over TLS does not. Nothing of its settings is changed: they would outlive a process that is killed.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable

__all__ = ["flush"]

_STANDARD_BUS = "unix:path=/run/dbus/system_bus_socket"
_NAME, _PATH, _MANAGER = "org.freedesktop.resolve1", "/org/freedesktop/resolve1", "org.freedesktop.resolve1.Manager"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_PATIENCE = 5.0


def flush(told: Callable[[str], None] = lambda _over_tls: None) -> threading.Thread | None:
    """Lets systemd-resolved forget its answers, in a thread of its own; `None` where there is no bus.

    `told` is called in that thread, where it runs, with its `DNSOverTLS`: "no", "opportunistic" or "yes".
    """
    address = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS", _STANDARD_BUS)
    if address == _STANDARD_BUS and not os.path.exists("/run/dbus/system_bus_socket"):
        return None

    def run() -> None:
        try:
            over_tls = asyncio.run(asyncio.wait_for(_flush(address), _PATIENCE))
        except Exception:
            return  # no bus that answers, or nobody on it: there is nothing to forget
        if over_tls:
            told(over_tls)

    thread = threading.Thread(target=run, name="towpath-resolved", daemon=True)
    thread.start()
    return thread


async def _flush(address: str) -> str:
    from dbus_fast import Message, MessageFlag, MessageType
    from dbus_fast.aio import MessageBus

    bus = await MessageBus(bus_address=address).connect()
    try:

        async def call(interface: str, member: str, *words: str) -> list[object]:
            signature = "s" * len(words)
            # To ask must not start a resolved that was left switched off.
            message = Message(
                _NAME, _PATH, interface, member, flags=MessageFlag.NO_AUTOSTART, signature=signature, body=[*words]
            )
            answer = await bus.call(message)
            if answer is None or answer.message_type is not MessageType.METHOD_RETURN:
                raise ConnectionError(f"{member}: {answer.body if answer is not None else 'no answer'}")
            return list(answer.body)

        await call(_MANAGER, "FlushCaches")
        (mode,) = await call(_PROPERTIES, "Get", _MANAGER, "DNSOverTLS")
        return str(getattr(mode, "value", ""))
    finally:
        bus.disconnect()
