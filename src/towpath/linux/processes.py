"""What a process is: its name, program, arguments, parents, user and cgroup, from proc(5)."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import NamedTuple

__all__ = ["Owner", "Processes"]

_MOST_PARENTS = 16
_MOST_KNOWN = 256
_MOST_ARGUMENT_BYTES = 4096
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"
"""Letters and a symbol that draw nothing, though Unicode counts them among what does: Hangul fillers, empty Braille."""


class Owner(NamedTuple):
    """A process of the run: its number inside and its name; the rest as far as it can be read.

    `parents` are `(pid, name)`, the nearest first, without the run's first process, which is Towpath's own.
    """

    pid: int
    program: str
    executable: str | None
    command: tuple[str, ...]
    parents: tuple[tuple[int, str], ...] = ()
    uid: int | None = None
    cgroup: str | None = None


class Processes:
    """Describes the processes below `folder`, a /proc; each once, until it is another or executes another program."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._known: OrderedDict[int, tuple[int, bytes, Owner]] = OrderedDict()

    def describe(self, pid: int) -> Owner:
        """Raises `OSError` when it has gone."""
        known = self._known.get(pid)
        if known is not None:
            descriptor, mark, owner = known
            try:
                if mark and _mark(os.pread(descriptor, 1024, 0)) == mark:
                    self._known.move_to_end(pid)
                    return owner
            except OSError:
                pass  # another process has the number now
            del self._known[pid]
            os.close(descriptor)
        descriptor = os.open(f"{self.folder}/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            mark = _mark(os.pread(descriptor, 1024, 0))
            owner = self._read(pid)
        except (OSError, ValueError, IndexError) as error:
            os.close(descriptor)
            raise OSError(f"process {pid} has gone") from error
        self._known[pid] = descriptor, mark, owner
        if len(self._known) > _MOST_KNOWN:
            _, (oldest, _, _) = self._known.popitem(last=False)
            os.close(oldest)
        return owner

    def close(self) -> None:
        for descriptor, _, _ in self._known.values():
            os.close(descriptor)
        self._known.clear()

    def state(self, pid: int) -> str:
        """The letter of proc_pid_stat(5); "" for a process that has gone."""
        try:
            return self._stat(pid)[0]
        except (OSError, IndexError):
            return ""

    def _stat(self, pid: int) -> list[str]:
        """The fields of a process's stat from the third on: state, parent ..."""
        with open(f"{self.folder}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(") ")[2].split()

    def _name(self, pid: int) -> str:
        with open(f"{self.folder}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return _printable(file.read().strip())

    def _read(self, pid: int) -> Owner:
        folder = f"{self.folder}/{pid}"
        try:
            executable: str | None = os.readlink(f"{folder}/exe")
        except OSError:
            executable = None
        with open(f"{folder}/cmdline", "rb") as raw:
            words = raw.read(_MOST_ARGUMENT_BYTES).rstrip(b"\0").split(b"\0")
        with open(f"{folder}/status", encoding="utf-8", errors="replace") as file:
            uid = next((int(line.split()[2]) for line in file if line.startswith("Uid:")), None)
        with open(f"{folder}/cgroup", encoding="utf-8", errors="replace") as file:
            cgroup = next((line.strip()[3:] for line in file if line.startswith("0::")), None)
        command = tuple(word.decode("utf-8", "replace") for word in words)
        return Owner(pid, self._name(pid), executable, command, self._parents(pid), uid, cgroup)

    def _parents(self, pid: int) -> tuple[tuple[int, str], ...]:
        parents: list[tuple[int, str]] = []
        parent = int(self._stat(pid)[1])
        while parent > 1 and len(parents) < _MOST_PARENTS:
            parents.append((parent, self._name(parent)))
            parent = int(self._stat(parent)[1])
        return tuple(parents)


def _mark(stat: bytes) -> bytes:
    """What stays the same while a process runs one program under one name and parent; b"" if that cannot be told.

    The start of its stack (field 28 of proc_pid_stat(5)) is chosen anew by execve(2); without the right to see it, 0.
    """
    head, _, rest = stat.rpartition(b") ")
    fields = rest.split(b" ", 27)
    if len(fields) < 27 or fields[25] in (b"0", b"1"):
        return b""
    return b" ".join((head, fields[1], fields[19], fields[25]))


def _printable(name: str) -> str:
    """A process may call itself anything (prctl(2), PR_SET_NAME), also what moves a cursor or is not seen."""
    return "".join(one if one.isprintable() and one not in _BLANK else "?" for one in name)
