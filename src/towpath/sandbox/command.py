"""Finding the command before anything is made for it, as a shell would."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from towpath.errors import CommandUnusable

__all__ = ["find", "unusable"]

_DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"


def find(command: str, environment: Mapping[str, str]) -> str:
    """The path to execute. Raises `CommandUnusable` (127 not found, 126 not executable)."""
    if "/" in command:
        candidates = [command]
    else:
        candidates = [os.path.join(folder or ".", command) for folder in _folders(environment)]
    found_unusable = False
    for path in candidates:
        if os.path.isfile(path):
            if os.access(path, os.X_OK):
                return path
            found_unusable = True
        elif "/" in command and os.path.isdir(path):
            raise CommandUnusable(command, 126, "is a directory")
    if found_unusable:
        raise CommandUnusable(command, 126, "permission denied: it is not executable")
    if "/" in command:
        raise CommandUnusable(command, 127, "no such file")
    raise CommandUnusable(command, 127, "command not found")


def _folders(environment: Mapping[str, str]) -> list[str]:
    return environment.get("PATH", _DEFAULT_PATH).split(":")


def unusable(command: str, number: int) -> CommandUnusable:
    """What exec(2) said, as a shell would report it."""
    return CommandUnusable(command, 127 if number == errno.ENOENT else 126, os.strerror(number))
