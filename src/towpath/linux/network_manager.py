"""What NetworkManager says of its devices, over the system's message bus (D-Bus).

The interface is `org.freedesktop.NetworkManager.Device` of NetworkManager's D-Bus reference; `Metered` is an
NMMetered: unknown 0, yes 1, no 2, guessed yes 3, guessed no 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dbus_fast import Message, MessageFlag, MessageType
from dbus_fast.aio import MessageBus
from dbus_fast.unpack import unpack_variants

from towpath.kernel.network import Metered

__all__ = ["Device", "devices_in", "follow"]

_ANSWER = 25.0
"""Seconds that a call may take, as libdbus has it by default; whoever waits for the table waits less."""

_NAME, _DEVICE = "org.freedesktop.NetworkManager", "org.freedesktop.NetworkManager.Device"
_BUS, _BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
_PROPERTIES, _OBJECTS = "org.freedesktop.DBus.Properties", "org.freedesktop.DBus.ObjectManager"
_RULES = (
    f"type='signal',sender='{_NAME}',interface='{_PROPERTIES}',member='PropertiesChanged',arg0='{_DEVICE}'",
    f"type='signal',sender='{_NAME}',interface='{_OBJECTS}'",
    f"type='signal',sender='{_BUS}',interface='{_BUS}',member='NameOwnerChanged',arg0='{_NAME}'",
)
_READ = frozenset({"Metered", "Interface", "IpInterface", "HwAddress"})
_WORDS = {1: Metered.YES, 2: Metered.NO, 3: Metered.GUESSED_YES, 4: Metered.GUESSED_NO}


@dataclass(frozen=True, slots=True)
class Device:
    """What is said of one device. The hardware address, in small letters, tells it from another network's `eth0`."""

    metered: Metered
    hardware_address: str | None = None


async def follow(address: str, tell: Callable[[Mapping[str, Device]], None]) -> None:
    """Tells what NetworkManager says, by interface name: now, and whenever that may have changed.

    While NetworkManager does not run there are no devices. Ends when the bus does; raises what the bus's library
    raises: `OSError`, `TimeoutError`, `dbus_fast.AuthError`, `dbus_fast.InvalidAddressError` and others.
    """
    bus = MessageBus(bus_address=address, auth_timeout=_ANSWER)
    async with asyncio.timeout(_ANSWER):
        await bus.connect()
    telling = asyncio.ensure_future(_tell(bus, tell))
    ending = asyncio.ensure_future(bus.wait_for_disconnect())  # type: ignore[no-untyped-call]  # the library has no type
    try:
        await asyncio.wait((telling, ending), return_when=asyncio.FIRST_COMPLETED)
    finally:
        telling.cancel()
        bus.disconnect()
        outcomes = await asyncio.gather(telling, ending, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


async def _tell(bus: MessageBus, tell: Callable[[Mapping[str, Device]], None]) -> None:
    stirred = asyncio.Event()

    def listen(message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and _matters(message):
            stirred.set()

    bus.add_message_handler(listen)
    for rule in _RULES:
        await _call(bus, _BUS, _BUS_PATH, _BUS, "AddMatch", rule)
    while True:
        stirred.clear()
        # Asking must not start a NetworkManager that was left switched off.
        body = await _call(bus, _NAME, "/org/freedesktop", _OBJECTS, "GetManagedObjects")
        tell(devices_in(unpack_variants(body[0])) if body else {})
        await stirred.wait()


async def _call(bus: MessageBus, destination: str, path: str, interface: str, member: str, *words: str) -> list[object]:
    """The values of the answer; none if it is a refusal."""
    message = Message(
        destination, path, interface, member, flags=MessageFlag.NO_AUTOSTART, signature="s" * len(words), body=[*words]
    )
    async with asyncio.timeout(_ANSWER):
        reply = await bus.call(message)
    return reply.body if reply is not None and reply.message_type is MessageType.METHOD_RETURN else []


def _matters(message: Message) -> bool:
    """Whether a signal may be of what is read here: most are of a device's counters and of radio stations."""
    match message.member, message.body:
        case "PropertiesChanged", [_, dict() as changed, list() as invalid]:
            return not _READ.isdisjoint(changed) or not _READ.isdisjoint(invalid)
        case "InterfacesAdded" | "InterfacesRemoved", [_, dict() | list() as interfaces]:
            return _DEVICE in interfaces
    return message.member == "NameOwnerChanged"


def devices_in(objects: object) -> dict[str, Device]:
    """The devices in an answer to GetManagedObjects, by interface name; what is not as documented is left out.

    >>> devices_in({"/1": {"org.freedesktop.NetworkManager.Device": {"Interface": "eth0", "Metered": 1}}})
    {'eth0': Device(metered=<Metered.YES: 'yes'>, hardware_address=None)}
    """
    found = {}
    for interfaces in objects.values() if isinstance(objects, dict) else ():
        properties = interfaces.get(_DEVICE) if isinstance(interfaces, dict) else None
        if not isinstance(properties, dict):
            continue
        # A modem is managed by its control port; packets pass through another interface.
        name = properties.get("IpInterface") or properties.get("Interface")
        number = properties.get("Metered")
        metered = _WORDS.get(number) if isinstance(number, int) else None
        if isinstance(name, str) and metered is not None:
            hardware = properties.get("HwAddress")
            found[name] = Device(metered, hardware.lower() if isinstance(hardware, str) and hardware else None)
    return found
