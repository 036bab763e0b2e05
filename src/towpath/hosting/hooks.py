"""Checks the hooks of a provider's class before anything calls them."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import Any

from towpath.errors import ConfigInvalid
from towpath.providers.content_filter import ContentFilterProvider
from towpath.providers.dns_proxy import DNSProxyProvider
from towpath.providers.packet_tunnel import PacketTunnelProvider
from towpath.providers.provider import Provider

__all__ = ["DNS_HOOKS", "HOOKS", "TUNNEL_HOOKS", "check_hooks", "hooks_of", "line_of"]

HOOKS: dict[str, tuple[str, ...]] = {
    "start": (),
    "stop": ("reason",),
    "handle_name": ("question",),
    "handle_new_flow": ("flow",),
    "handle_outbound_data": ("flow", "offset", "data"),
    "handle_inbound_data": ("flow", "offset", "data"),
    "data_complete": ("flow", "direction"),
    "flow_closed": ("report",),
    "rules_changed": (),
}
"""The hooks of a content filter and what each is called with, in this order and without names."""

DNS_HOOKS: dict[str, tuple[str, ...]] = {
    "start": (),
    "stop": ("reason",),
    "handle_query": ("query",),
    "system_dns_settings_changed": (),
    "sleep": (),
    "wake": (),
    "rules_changed": (),
}
"""The same of a DNS proxy."""

TUNNEL_HOOKS: dict[str, tuple[str, ...]] = {
    "start": ("options",),
    "stop": ("reason",),
    "sleep": (),
    "wake": (),
    "network_changed": (),
    "handle_app_message": ("data",),
    "describe_config": (),
    "status": (),
}
"""The same of a packet tunnel."""


def hooks_of(provider: type[Provider[Any]]) -> tuple[type[Provider[Any]], dict[str, tuple[str, ...]]]:
    """The class of ours that a provider builds upon, and its hooks."""
    if issubclass(provider, DNSProxyProvider):
        return DNSProxyProvider, DNS_HOOKS
    if issubclass(provider, PacketTunnelProvider):
        return PacketTunnelProvider, TUNNEL_HOOKS
    return ContentFilterProvider, HOOKS


def check_hooks(provider: type[Provider[Any]], file: str) -> None:
    """Raises `ConfigInvalid` for a hook that cannot be called, and for a method that looks like a misspelt hook."""
    base, hooks = hooks_of(provider)
    for owner in provider.__mro__:
        if owner is base:
            return
        for name, value in vars(owner).items():
            if name in hooks:
                _check_hook(owner, name, value, file, hooks)
            elif inspect.isfunction(value) and not name.startswith("_") and not hasattr(base, name):
                _check_name(name, value, file, hooks)


def line_of(value: type | Callable[..., Any], file: str) -> str:
    """``FILE:LINE`` of a class or function; the file alone where its source cannot be found."""
    code = getattr(inspect.unwrap(value), "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    try:
        return f"{file}:{inspect.getsourcelines(value)[1]}"
    except (OSError, TypeError):
        return file


def _check_hook(owner: type, name: str, value: object, file: str, hooks: dict[str, tuple[str, ...]]) -> None:
    expected = hooks[name]
    shown = f"def {name}({', '.join(('self', *expected))})"
    what = "value" if hooks is TUNNEL_HOOKS else "verdict"
    if not inspect.isfunction(value):
        raise ConfigInvalid(line_of(owner, file), f"{owner.__name__}.{name} is a hook, and no method", shown)
    if inspect.isgeneratorfunction(value) or inspect.isasyncgenfunction(value):
        raise ConfigInvalid(line_of(value, file), f"{name} is a generator", f"return one {what}: {shown}")
    signature = inspect.signature(value)
    try:
        signature.bind(*(None for _ in ("self", *expected)))
    except TypeError:
        reason = f"{name}{signature} is called with ({', '.join(('self', *expected))})"
        raise ConfigInvalid(line_of(value, file), reason, shown) from None


def _check_name(name: str, value: Callable[..., Any], file: str, hooks: dict[str, tuple[str, ...]]) -> None:
    close = difflib.get_close_matches(name, hooks, 1, 0.7 if name.startswith("handle_") else 0.8)
    if close:
        hint = f"is it {close[0]}? A method of your own that is not a hook begins with '_'"
        raise ConfigInvalid(line_of(value, file), f"there is no hook {name!r}", hint)
