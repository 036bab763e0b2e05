"""Checking an extension before a run needs it: what is told without its code, then its code in another process."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from typing import Any, get_args

from msgspec import Struct

import towpath
from towpath.errors import ConfigInvalid
from towpath.hosting.bundle import Bundle, find_bundle
from towpath.hosting.load import check_syntax
from towpath.hosting.manifest import Capability
from towpath.hosting.toml_text import read_text

__all__ = ["LOAD_SECONDS", "Checked", "check_extension", "load_and_tell"]

LOAD_SECONDS = 30.0
"""How long the import of an extension may take."""

# Isolated mode leaves out the environment's paths; the copy of Towpath that asks is the one that must answer.
_PROGRAM = "import sys; sys.path.insert(0, sys.argv[1]); from towpath.hosting import check; check.load_and_tell()"


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

    Raises `ConfigInvalid` for the first mistake. The code is imported by another process, without a sandbox.
    """
    bundle = find_bundle(text, "towpath extension check")
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


def load_and_tell() -> None:
    """The other process: loads what standard input names, writes one JSON object to standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What the author's module prints must not be taken for the answer.
    os.dup2(2, 1)
    from towpath.hosting.hooks import HOOKS
    from towpath.hosting.load import configured, load_class

    asked = json.load(sys.stdin)
    told: dict[str, Any]
    try:
        provider = load_class(asked["file"], asked["class_name"])
        if asked["config_file"] is not None or provider.config_type is None:
            configured(provider, asked["config"], asked["config_file"] or "config", asked["file"])
        told = {
            "class": provider.__name__,
            "hooks": [name for name in HOOKS if any(name in vars(owner) for owner in _authors(provider))],
            "config_type": provider.config_type and provider.config_type.__name__,
        }
    except ConfigInvalid as error:
        told = {"where": error.where, "reason": error.reason, "hint": error.hint}
    json.dump(told, answers)
    answers.close()


def _authors(provider: type) -> list[type]:
    """The classes that are the author's, not the library's."""
    return [owner for owner in provider.__mro__ if not owner.__module__.startswith("towpath.providers")]


def _load_elsewhere(bundle: Bundle) -> dict[str, Any]:
    root = os.path.dirname(os.path.dirname(os.path.abspath(towpath.__file__)))
    asked = {
        "file": bundle.file,
        "class_name": bundle.class_name,
        "config": bundle.config,
        "config_file": bundle.config_file,
    }
    command = [sys.executable, "-I", "-c", _PROGRAM, root]
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked, default=str).encode(),
            stdout=subprocess.PIPE,
            timeout=LOAD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        hint = "what takes time belongs into start(), or later"
        raise ConfigInvalid(bundle.file, f"its import takes longer than {LOAD_SECONDS:g} s", hint) from None
    try:
        told = json.loads(done.stdout)
    except ValueError:
        raise ConfigInvalid(bundle.file, f"its import ended the process (code {done.returncode})") from None
    if "reason" in told:
        raise ConfigInvalid(told["where"], told["reason"], told["hint"])
    assert isinstance(told, dict)
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
