"""Files that a run writes, and those that providers append to where their config names them."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.providers.provider import Prompt, Reply

__all__ = ["Outputs", "Prompter", "names_descriptor", "names_path", "open_output"]

Prompter = Callable[["Prompt", Callable[["Reply"], None]], None]

_STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd")


def names_descriptor(path: str) -> bool:
    """Whether a path stands for an open descriptor of whoever opens it, such as /dev/stdout and what `>(...)` gives."""
    return path in _STREAMS or os.path.dirname(path) in _DESCRIPTORS


def open_output(path: str, flags: int, mode: int = 0o666) -> int:
    """A descriptor of a file to write: an `opener` for open(). Raises `OSError`.

    A symbolic link is refused: one that an earlier command has planted would lead to a file that runs later, which it
    could not write itself. The links that stand for open descriptors nobody plants.
    """
    if not names_descriptor(path):
        flags |= os.O_NOFOLLOW
    try:
        return os.open(path, flags | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno != errno.ELOOP or not os.path.islink(path):
            raise
        reason = "it is a symbolic link, which a command may have planted: name the file that it leads to"
        raise OSError(errno.ELOOP, reason, path) from None


class Outputs:
    """Opened once and kept: a new worker writes where the old one did, whatever stands at the path by now."""

    def __init__(self) -> None:
        self._opened: dict[str, int] = {}

    def open(self, bundle: Bundle, path: str) -> int:
        """A descriptor for a path that the config of `bundle` names. Raises `OSError`."""
        if not names_path(bundle.config, path):
            raise PermissionError(1, "its configuration does not name this path")
        home = os.path.dirname(bundle.config_file) if bundle.config_file else os.getcwd()
        whole = os.path.join(home, path)
        if whole not in self._opened:
            descriptor = open_output(whole, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o644)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                os.close(descriptor)
                raise OSError(22, "not a regular file")
            self._opened[whole] = descriptor
        return self._opened[whole]

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
