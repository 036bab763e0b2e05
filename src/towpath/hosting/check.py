"""Checking an extension before a run needs it: what is told without its code, then its code, confined."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
from typing import Any, get_args

from msgspec import Struct

from towpath.errors import ConfigInvalid
from towpath.hosting.bundle import Bundle, find_bundle, find_tunnel
from towpath.hosting.hooks import hooks_of
from towpath.hosting.load import check_syntax, configured, load_class
from towpath.hosting.manifest import Capability
from towpath.hosting.nursery import python_folders, readable_by
from towpath.hosting.toml_text import read_text
from towpath.kernel import system
from towpath.providers.packet_tunnel import PacketTunnelProvider

__all__ = ["LOAD_SECONDS", "Checked", "check_extension", "check_tunnel"]

LOAD_SECONDS = 30.0
"""How long the import of an extension may take."""

_LONGEST = 1 << 20
_STANDARD_ERROR = 2


class Checked(Struct, frozen=True):
    """An extension that can be used: its bundle, the class that will run, its hooks, and the config type if any.

    `config_checked` is false where the class takes a config and none was given.
    """

    bundle: Bundle
    class_name: str
    hooks: tuple[str, ...]
    config_type: str | None
    config_checked: bool


def check_extension(text: str) -> Checked:
    """Checks `FILE.py|FOLDER|NAME[:CONFIG.toml]`: manifest, syntax, capabilities, class, hooks, config.

    Raises `ConfigInvalid` for the first mistake. The code is imported as a run would: confined.
    """
    bundle = find_bundle(text, "towpath extension check", None)
    check_syntax(bundle.file)
    _check_capabilities(bundle)
    told = _load_elsewhere(bundle)
    config_type = told["config_type"]
    return Checked(
        bundle=bundle,
        class_name=told["class"],
        hooks=tuple(told["hooks"]),
        config_type=config_type,
        config_checked=config_type is None or bundle.config_file is not None,
    )


def check_tunnel(text: str) -> dict[str, Any]:
    """Checks what `towpath run --tunnel` would take, its configuration too; gives what the provider says of it.

    Raises `ConfigInvalid` for the first mistake. Nothing is connected.
    """
    bundle = find_tunnel(text, "towpath tunnel check")
    check_syntax(bundle.file)
    told = _load_elsewhere(bundle)
    return {"tunnel": bundle.manifest.id, **told.get("described", {})}


def _tell(channel: int, bundle: Bundle) -> None:
    """In the confined process: loads the bundle and writes one JSON object."""
    told: dict[str, Any]
    try:
        provider = load_class(bundle.file, bundle.class_name)
        if bundle.config_file is not None or provider.config_type is None:
            configured(provider, bundle.config, bundle.config_file or "config", bundle.file)
        told = {
            "class": provider.__name__,
            "hooks": [
                name for name in hooks_of(provider)[1] if any(name in vars(owner) for owner in _authors(provider))
            ],
            "config_type": provider.config_type and provider.config_type.__name__,
        }
        if issubclass(provider, PacketTunnelProvider) and bundle.config_file is not None:
            made = configured(provider, bundle.config, bundle.config_file, bundle.file)
            told["described"] = dict(made.describe_config()) if isinstance(made, PacketTunnelProvider) else {}
    except ConfigInvalid as error:
        told = {"where": error.where, "reason": error.reason, "hint": error.hint}
    os.write(channel, json.dumps(told).encode())


def _authors(provider: type) -> list[type]:
    """The classes that are the author's, not the library's."""
    return [owner for owner in provider.__mro__ if not owner.__module__.startswith("towpath.providers")]


def _load_elsewhere(bundle: Bundle) -> dict[str, Any]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            pid = system.confinement.spawn(
                lambda channel: _tell(channel, bundle),
                theirs.fileno(),
                _STANDARD_ERROR,
                (*python_folders(), *readable_by(bundle)),
                bundle.manifest.memory << 20,
            )
        ours.settimeout(LOAD_SECONDS)
        try:
            with ours.makefile("rb") as answer:
                data = answer.read(_LONGEST)
        except TimeoutError:
            hint = "what takes time belongs into start(), or later"
            raise ConfigInvalid(bundle.file, f"its import takes longer than {LOAD_SECONDS:g} s", hint) from None
        finally:
            os.kill(pid, signal.SIGKILL)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if not data:
        raise ConfigInvalid(bundle.file, f"its import ended the process (code {code})")
    told: dict[str, Any] = json.loads(data)
    if "reason" in told:
        raise ConfigInvalid(told["where"], told["reason"], told["hint"])
    return told


def _check_capabilities(bundle: Bundle) -> None:
    """`self.context.prompt` and `self.context.output` are capabilities by their names."""
    for node in ast.walk(ast.parse(read_text(bundle.file))):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in get_args(Capability)
            and node.attr not in bundle.manifest.capabilities
            and isinstance(node.value, ast.Attribute)
            and node.value.attr == "context"
        ):
            reason = f"context.{node.attr} needs a capability that the manifest does not claim"
            hint = f'add "{node.attr}" to capabilities'
            raise ConfigInvalid(f"{bundle.file}:{node.lineno}", reason, hint)
