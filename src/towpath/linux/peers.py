"""Who is at the other end of a Unix socket: somebody of this process's own world, or of one that was made inside."""

from __future__ import annotations

import os
import select
import socket
import struct

__all__ = ["is_of_our_world"]

_SO_PEERPIDFD = 77
"""socket(7), since Linux 6.5."""
_CREDENTIALS = struct.Struct("=iII")
_NAMESPACES = ("user", "pid")


def is_of_our_world(connection: socket.socket) -> bool:
    """Whether the process at the other end is of our user, and of our user and PID namespaces.

    A command that was put into namespaces of its own is not, whatever path it bound its socket to. Where the process
    has ended, or cannot be looked at, it is not known to be. Of a listener it is the process that began to listen.
    """
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(packed)
    if uid != os.geteuid() or pid <= 0:
        return False
    try:
        handle = _handle(connection, pid)
    except OSError:
        return False
    try:
        ours, theirs = _worlds("self"), _worlds(str(pid))
        lives = not select.select([handle], [], [], 0)[0]  # so the number was its own while it was looked at
    except OSError:
        return False
    finally:
        os.close(handle)
    return lives and ours == theirs


def _handle(connection: socket.socket, pid: int) -> int:
    """A descriptor of the process (pidfd_open(2)). Raises `OSError`."""
    try:
        return connection.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
    except OSError:
        return os.pidfd_open(pid)


def _worlds(process: str) -> list[str]:
    return [os.readlink(f"/proc/{process}/ns/{kind}") for kind in _NAMESPACES]
