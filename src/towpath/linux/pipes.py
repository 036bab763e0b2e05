"""Pipes that carry bytes from socket to socket inside the kernel (splice(2)), used again and again."""

from __future__ import annotations

import fcntl
import os
from collections import deque

_F_SETPIPE_SZ = 1031
WISHED_SIZE = 1 << 20
_KEPT = 64
MOVE_NOW = 1 | 2
"""SPLICE_F_MOVE | SPLICE_F_NONBLOCK"""


class PipePool:
    """Lends empty pipes. The kernel may grant less than a megabyte to a user who holds many."""

    def __init__(self) -> None:
        self._idle: deque[tuple[int, int]] = deque()

    def lend(self) -> tuple[int, int]:
        """`(read end, write end)`. Raises `OSError` when no descriptor is left."""
        if self._idle:
            return self._idle.pop()
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(writer, _F_SETPIPE_SZ, WISHED_SIZE)
        except PermissionError:
            pass  # past the user's share of pipe memory: it stays at 64 KiB, and slower
        return reader, writer

    def give_back(self, pipe: tuple[int, int]) -> None:
        """Takes an empty pipe back; one that still holds bytes must go to `destroy`."""
        if len(self._idle) < _KEPT:
            self._idle.append(pipe)
        else:
            self.destroy(pipe)

    @staticmethod
    def destroy(pipe: tuple[int, int]) -> None:
        os.close(pipe[0])
        os.close(pipe[1])

    def close(self) -> None:
        while self._idle:
            self.destroy(self._idle.pop())
