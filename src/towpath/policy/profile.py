"""Policies that are shipped, by name: the hosts that well-known programs need. In files they are ``profile:NAME``."""

from __future__ import annotations

import os

from towpath.errors import ConfigInvalid

__all__ = ["PREFIX", "names", "path_of", "split"]

PREFIX = "profile:"
_FOLDER = os.path.join(os.path.dirname(__file__), "profiles")


def names() -> list[str]:
    """All that are shipped, in order.

    >>> "pip" in names()
    True
    """
    return sorted(name.removesuffix(".toml") for name in os.listdir(_FOLDER) if name.endswith(".toml"))


def path_of(profile: str) -> str:
    """The file of ``profile:NAME``. Raises `ConfigInvalid` for one that is not shipped."""
    name = profile.removeprefix(PREFIX)
    if name not in names():
        from difflib import get_close_matches

        near = get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names())}"
        raise ConfigInvalid("--profile", f"there is no profile {name!r}", hint)
    return os.path.join(_FOLDER, f"{name}.toml")


def split(options: list[str]) -> list[str]:
    """The policy files that ``--profile NAME,NAME`` stands for."""
    return [PREFIX + name.strip() for option in options for name in option.split(",") if name.strip()]
