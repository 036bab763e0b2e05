"""Telling that files have changed (inotify(7)): also when an editor puts a new file in the old one's place."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from towpath.errors import HostFault

__all__ = ["FileWatch"]

_CLOSE_WRITE, _MOVED_TO, _CREATE = 0x8, 0x80, 0x100
_libc = ctypes.CDLL(None, use_errno=True)


class FileWatch:
    """Readable when something was written in the folders of `paths`; `changed` says whether it was one of them."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths = tuple(paths)
        self._descriptor = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._descriptor < 0:
            code = ctypes.get_errno()
            raise HostFault("watch files", code, os.strerror(code))
        self._seen = self._state()
        for folder in sorted({os.path.dirname(path) or "." for path in self._paths}):
            watched = _libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _CLOSE_WRITE | _MOVED_TO | _CREATE)
            if watched < 0:
                code = ctypes.get_errno()
                os.close(self._descriptor)
                raise HostFault(f"watch {folder}", code, os.strerror(code))
        for path in self._paths:
            # Where a file is mounted upon, as resolv.conf in containers, its folder hears of nothing.
            _libc.inotify_add_watch(self._descriptor, os.fsencode(path), _CLOSE_WRITE)

    def fileno(self) -> int:
        return self._descriptor

    def _state(self) -> dict[str, tuple[int, int, int]]:
        found = {}
        for path in self._paths:
            try:
                status = os.stat(path)
            except OSError:
                continue  # an editor is about to put it back
            found[path] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return found

    def drain(self) -> None:
        """Takes the events that wait."""
        try:
            while os.read(self._descriptor, 1 << 16):
                pass
        except BlockingIOError:
            pass

    def changed(self) -> list[str]:
        """The paths that are not what they were when this was last asked; one that is gone waits to be there again."""
        state = self._state()
        found = [path for path, now in state.items() if now != self._seen.get(path)]
        self._seen.update(state)
        return found

    def close(self) -> None:
        os.close(self._descriptor)
