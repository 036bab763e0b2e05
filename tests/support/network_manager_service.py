"""Speaks as NetworkManager on a bus: ``python -m tests.support.network_manager_service BUS SAYING``; says "ready"."""

from __future__ import annotations

import asyncio
import sys

from dbus_fast import Message, Variant
from dbus_fast.aio import MessageBus

NAME, DEVICE = "org.freedesktop.NetworkManager", "org.freedesktop.NetworkManager.Device"
HARDWARE = "02:00:5E:00:53:07"


def device(**properties: Variant) -> tuple[str, list[object]]:
    return "a{oa{sa{sv}}}", [{"/device": {DEVICE: properties}}]


def eth0(metered: Variant) -> tuple[str, list[object]]:
    return device(Interface=Variant("s", "eth0"), HwAddress=Variant("s", HARDWARE), Metered=metered)


SAYINGS: dict[str, tuple[str, list[object]]] = {
    **{str(number): eth0(Variant("u", number)) for number in range(6)},
    "a-word": eth0(Variant("s", "yes")),
    "no-name": device(Metered=Variant("u", 1)),
    "no-devices": ("a{oa{sa{sv}}}", [{}]),
    "a-number": ("u", [1]),
    "nothing": ("", []),
    "a-modem": device(
        Interface=Variant("s", "cdc-wdm0"),
        IpInterface=Variant("s", "eth0"),
        HwAddress=Variant("s", ""),
        Metered=Variant("u", 3),
    ),
}


async def serve(address: str, saying: str) -> None:
    bus = await MessageBus(bus_address=address).connect()

    def answer(message: Message) -> Message | bool:
        if message.member != "GetManagedObjects":
            return False
        if saying == "silence":
            return True
        return Message.new_method_return(message, *SAYINGS[saying])

    bus.add_message_handler(answer)
    await bus.request_name(NAME)
    print("ready", flush=True)  # noqa: T201
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
