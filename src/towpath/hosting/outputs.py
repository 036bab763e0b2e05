"""Files that providers append to: opened by who runs them, where their config names them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.providers.provider import Prompt, Reply

__all__ = ["Outputs", "Prompter", "names_path"]

Prompter = Callable[["Prompt", Callable[["Reply"], None]], None]


class Outputs:
    """Opened once and kept: a new worker writes where the old one did, whatever stands at the path by now."""

    def __init__(self) -> None:
        self._opened: dict[str, int] = {}

    def open(self, bundle: Bundle, path: str) -> int:
        """A descriptor for a path that the config of `bundle` names. Raises `OSError`."""
        if not names_path(bundle.config, path):
            raise PermissionError(1, "its configuration does not name this path")
        whole = os.path.join(bundle.home, path)
        if whole not in self._opened:
            descriptor = os.open(whole, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(22, "not a regular file")
            self._opened[whole] = descriptor
        return self._opened[whole]

    @property
    def paths(self) -> list[str]:
        """What was opened, absolute."""
        return list(self._opened)

    def close(self) -> None:
        for descriptor in self._opened.values():
            os.close(descriptor)
        self._opened.clear()


def names_path(config: object, path: str) -> bool:
    """Whether a config names a path, anywhere in it and word for word: that is how a user allows it."""
    if isinstance(config, dict):
        return any(names_path(value, path) for value in config.values())
    if isinstance(config, list):
        return any(names_path(value, path) for value in config)
    return config == path
