"""`towpath interfaces`: the interfaces of this machine, and their changes."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.path import Interface, InterfaceChange, Interfaces

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath interfaces                        a table: type, state, addresses, gateways
  towpath interfaces --json                 a list of objects
  towpath interfaces --watch                a line for each interface that was added, removed or changed
  towpath interfaces --watch --json         the whole list, one line each time that something changed

The type comes from facts, never from the name; it is `unknown` where the system does not describe the device.
A burst of kernel messages is one change.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "List network interfaces: name, type, state, addresses, gateways."
    parser.epilog = _EXAMPLES
    parser.add_argument("--watch", action="store_true", help="go on, and print each change, until interrupted")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=_call)


def _call(options: argparse.Namespace) -> int:
    if options.watch:
        import asyncio

        asyncio.run(_watch(as_json=options.json))
        return 0
    from towpath.path import list_interfaces

    _print_all(list_interfaces(), as_json=options.json)
    return 0


async def _watch(*, as_json: bool) -> None:
    from towpath.path import watch_interfaces

    first = True
    async for change in watch_interfaces():
        if first or as_json:
            _print_all(change.interfaces, as_json=as_json)
        else:
            _print_change(change)
        first = False


def _print_all(interfaces: Interfaces, *, as_json: bool) -> None:
    if as_json:
        from towpath.path.plain import plain_interface

        print(json.dumps([plain_interface(interface) for interface in interfaces]), flush=True)
        return
    from towpath.cli.table import print_table

    print_table(
        ("INDEX", "NAME", "TYPE", "KIND", "STATE", "MTU", "SPEED", "ADDRESSES", "GATEWAYS"),
        [
            (
                str(interface.index),
                interface.name,
                interface.type.value,
                interface.kind or "-",
                _state(interface),
                str(interface.mtu or "-"),
                f"{interface.speed // 1_000_000} Mbit/s" if interface.speed else "-",
                "\n".join(_addresses(interface)) or "-",
                "\n".join(map(str, interface.gateways)) or "-",
            )
            for interface in interfaces
        ],
    )


def _print_change(change: InterfaceChange) -> None:
    for interface in change.removed:
        _print_line("removed", interface)
    for interface in change.added:
        _print_line("added", interface)
    for _before, interface in change.changed:
        _print_line("changed", interface)


def _print_line(word: str, interface: Interface) -> None:
    from towpath.cli.table import clean

    addresses = " ".join(_addresses(interface))
    print(f"{word:8}", clean(interface.name), interface.type.value, _state(interface), addresses, flush=True)


def _state(interface: Interface) -> str:
    from towpath.path import Metered

    state = "running" if interface.running else interface.operational.value if interface.up else "off"
    return f"{state}, metered" if interface.metered in (Metered.YES, Metered.GUESSED_YES) else state


def _addresses(interface: Interface) -> list[str]:
    """Each address, with what is special about it."""
    from towpath.path import Usability

    return [
        f"{found}{f' to {found.destination}' if found.destination else ''}"
        f"{'' if found.usability is Usability.USABLE else f' ({found.usability.value})'}"
        for found in interface.addresses
    ]
