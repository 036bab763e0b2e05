"""The sockets at which runs can be watched: abstract ones (unix(7)), in the network namespace of the manager.

Such a name is no file: it goes with its socket, also when the manager is killed, and a process in another network
namespace cannot reach it, so no run can reach that of its own manager. Whoever connects has to be the same user.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Literal

__all__ = ["accept", "connect", "find", "listen"]

Kind = Literal["run", "tunnel"]
_BACKLOG = 8
_CREDENTIALS = struct.Struct("=iII")


def listen(kind: Kind = "run") -> socket.socket:
    """A listener of this process, under a name that nobody can have taken. Raises `OSError`."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.bind(f"\0towpath-{kind}/{os.getpid()}/{os.urandom(8).hex()}")
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def accept(listener: socket.socket) -> socket.socket | None:
    """Who has connected; `None` for another user, or when nobody has."""
    try:
        made, _ = listener.accept()
    except OSError:
        return None
    if not _is_ours(made):
        made.close()
        return None
    made.setblocking(False)
    return made


def find(table: str = "/proc/net/unix", kind: Kind = "run") -> dict[str, int]:
    """The names of the runs, or tunnels, that can be watched from here, each with the process id of its manager."""
    found = {}
    prefix = f"towpath-{kind}/"
    with open(table, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            name = line.rstrip("\n").partition(f" @{prefix}")[2]
            pid, _, token = name.partition("/")
            if token and pid.isascii() and pid.isdigit():
                found[prefix + name] = int(pid)
    return dict(sorted(found.items(), key=lambda entry: entry[1]))


def connect(name: str) -> socket.socket | None:
    """Connects to a run; `None` for another user's, or one that has ended."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        made.connect("\0" + name)
    except OSError:
        made.close()
        return None
    if not _is_ours(made):
        made.close()
        return None
    return made


def _is_ours(made: socket.socket) -> bool:
    _pid, uid, _gid = _CREDENTIALS.unpack(made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return bool(uid == os.geteuid())
