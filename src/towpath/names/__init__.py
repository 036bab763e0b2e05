"""Names: one asynchronous resolver, what it found and how, service bindings, and Bonjour.

    async with Resolver() as resolver:
        resolution = await resolver.resolve("www.example.test", ["HTTPS", "AAAA", "A"])
        print(*resolution.addresses, sep="\\n")

Nothing here opens a connection to what a name leads to; `towpath.connection.racing` does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from towpath.names.binding import ServiceBinding
    from towpath.names.bonjour import Bonjour, BonjourChange, BonjourService
    from towpath.names.cache import AnswerCache
    from towpath.names.channel import Channel, Dial
    from towpath.names.client import Lookup, QuerySettings, Server
    from towpath.names.reply import Alias, ExtendedError, Record
    from towpath.names.resolution import Address, Answer, AnswerStatus, Resolution, Source
    from towpath.names.resolver import Resolver, Resolves
    from towpath.names.system import ResolverConfiguration, SystemFiles
    from towpath.names.system_resolver import SystemResolver

__all__ = [
    "Address",
    "Alias",
    "Answer",
    "AnswerCache",
    "AnswerStatus",
    "Bonjour",
    "BonjourChange",
    "BonjourService",
    "Channel",
    "Dial",
    "ExtendedError",
    "Lookup",
    "QuerySettings",
    "Record",
    "Resolution",
    "Resolver",
    "ResolverConfiguration",
    "Resolves",
    "Server",
    "ServiceBinding",
    "Source",
    "SystemFiles",
    "SystemResolver",
]

_HOMES = {
    "binding": ("ServiceBinding",),
    "bonjour": ("Bonjour", "BonjourChange", "BonjourService"),
    "cache": ("AnswerCache",),
    "channel": ("Channel", "Dial"),
    "client": ("Lookup", "QuerySettings", "Server"),
    "reply": ("Alias", "ExtendedError", "Record"),
    "resolution": ("Address", "Answer", "AnswerStatus", "Resolution", "Source"),
    "resolver": ("Resolver", "Resolves"),
    "system": ("ResolverConfiguration", "SystemFiles"),
    "system_resolver": ("SystemResolver",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
