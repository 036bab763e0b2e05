"""Whose flow is it: from a socket's addresses to its inode by sock_diag(7), from the inode to a process by /proc.

What cannot be found is `None`: a socket may be gone by now, or held by a process that hides its descriptors.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

_BY_FAMILY = 20
_LENGTH = 72
_NO_COOKIE = b"\xff" * 8
_HINTS = 8


def _printable(name: str) -> str:
    """A process may call itself anything (prctl(2), PR_SET_NAME), also what would move a terminal's cursor."""
    return "".join(one if one.isprintable() else "?" for one in name)


class Owner(NamedTuple):
    """A process of the run: its number inside, its name, its executable and command line as far as they can be read."""

    pid: int
    program: str
    executable: str | None
    command: tuple[str, ...]


class Background(NamedTuple):
    """Where a process comes from: `(pid, name)` of its parents, the nearest first, its user and its cgroup."""

    parents: tuple[tuple[int, str], ...]
    uid: int | None
    cgroup: str | None


_MOST_PARENTS = 16
_MOST_BACKGROUNDS = 1024


class OwnerFinder:
    """Finds owners through a sock_diag socket of the scope and the folder of its processes."""

    def __init__(self, diagnosis: int) -> None:
        self._socket = socket.socket(fileno=diagnosis)
        self._socket.settimeout(0.05)
        self._processes: str | None = None
        self._candidates: list[str] = []
        self._hints: dict[str, list[str]] = {}
        self._backgrounds: dict[tuple[int, str], Background] = {}

    def use_processes(self, descriptor: int) -> None:
        """Takes over `descriptor`, the run's /proc."""
        self._processes = f"/proc/self/fd/{descriptor}"

    def is_stopped(self, pid: int) -> bool:
        """Whether a process of the run is stopped by a signal."""
        if self._processes is None:
            return False
        try:
            with open(f"{self._processes}/{pid}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rpartition(") ")[2].startswith("T")
        except OSError:
            return False

    def find(self, protocol: int, source: bytes, source_port: int, address: bytes, port: int) -> Owner | None:
        """The owner of a local socket with these addresses (packed); a ping's `source_port` is its identifier."""
        if self._processes is None:
            return None
        try:
            if protocol == socket.IPPROTO_ICMP:
                inode = self._echo_inode(source_port, "icmp" if len(source) == 4 else "icmp6")
            else:
                inode = self._inode(protocol, source, source_port, address, port)
            pid = self._holder(inode) if inode else None
            return None if pid is None else self._describe(pid)
        except OSError:
            return None

    def background(self, pid: int) -> Background | None:
        """More about a process that `find` gave; remembered until the process, told by its start, is another."""
        try:
            parent, started = self._parent(pid)
            known = self._backgrounds.get((pid, started))
            if known is None:
                if len(self._backgrounds) >= _MOST_BACKGROUNDS:
                    self._backgrounds.clear()
                known = self._backgrounds[pid, started] = self._look_back(pid, parent)
        except (OSError, ValueError, IndexError):
            return None
        return known

    def _parent(self, pid: int) -> tuple[int, str]:
        """The parent's number and the start time of a process (proc_pid_stat(5), fields 4 and 22)."""
        with open(f"{self._processes}/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(") ")[2].split()
        return int(fields[1]), fields[19]

    def _name(self, pid: int) -> str:
        with open(f"{self._processes}/{pid}/comm", encoding="utf-8", errors="replace") as file:
            return _printable(file.read().strip())

    def _look_back(self, pid: int, parent: int) -> Background:
        parents: list[tuple[int, str]] = []
        while parent > 1 and len(parents) < _MOST_PARENTS:  # the first process is Towpath's own
            parents.append((parent, self._name(parent)))
            parent = self._parent(parent)[0]
        uid = cgroup = None
        with open(f"{self._processes}/{pid}/status", encoding="utf-8", errors="replace") as file:
            uid = next((int(line.split()[2]) for line in file if line.startswith("Uid:")), None)
        with open(f"{self._processes}/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            cgroup = next((line.strip()[3:] for line in file if line.startswith("0::")), None)
        return Background(tuple(parents), uid, cgroup)

    def _inode(self, protocol: int, source: bytes, source_port: int, address: bytes, port: int) -> int:
        family = socket.AF_INET if len(source) == 4 else socket.AF_INET6
        here, there = (source_port, source), (port, address)
        # For UDP the kernel takes the first pair as the sender's and the second as the receiver's, hence ours.
        orders = [(here, there)] if protocol == socket.IPPROTO_TCP else [(there, here), (here, there)]
        for (first_port, first), (second_port, second) in orders:
            identity = struct.pack(
                ">HH16s16s4x8s", first_port, second_port, first.ljust(16, b"\0"), second.ljust(16, b"\0"), _NO_COOKIE
            )
            request = struct.pack("=BBBxI", family, protocol, 0, 0xFFFFFFFF) + identity
            self._socket.send(struct.pack("=IHHII", 16 + len(request), _BY_FAMILY, 1, 1, 0) + request)
            answer = self._socket.recv(4096)
            if len(answer) >= 16 + _LENGTH and struct.unpack_from("=H", answer, 4)[0] == _BY_FAMILY:
                return int(struct.unpack_from("=I", answer, 16 + 68)[0])
        return 0

    def _echo_inode(self, identifier: int, table: str) -> int:
        """sock_diag does not list datagram ICMP sockets; the namespace's own table does (proc_pid_net(5))."""
        with open(f"{self._processes}/1/net/{table}", encoding="ascii", errors="replace") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) > 9 and fields[1].endswith(f":{identifier:04X}"):
                    return int(fields[9])
        return 0

    def _holder(self, inode: int) -> str | None:
        wanted = f"socket:[{inode}]"
        for pid in self._candidates:
            if any(self._leads_to(pid, hint, wanted) for hint in self._hints.get(pid, ())):
                return pid
        seen = set(self._candidates)
        for pid in [*self._candidates, *(pid for pid in self._listing() if pid not in seen)]:
            number = self._descriptor(pid, wanted)
            if number is not None:
                self._remember(pid, number)
                return pid
        return None

    def _listing(self) -> list[str]:
        # The newest first: short-lived programs are the likely ones, and pid 1 never opens a flow.
        return sorted((name for name in os.listdir(self._processes) if name.isdigit()), key=int, reverse=True)

    def _leads_to(self, pid: str, number: str, wanted: str) -> bool:
        try:
            return os.readlink(f"{self._processes}/{pid}/fd/{number}") == wanted
        except OSError:
            return False

    def _descriptor(self, pid: str, wanted: str) -> str | None:
        try:
            numbers = os.listdir(f"{self._processes}/{pid}/fd")
        except OSError:
            return None
        return next((number for number in reversed(numbers) if self._leads_to(pid, number, wanted)), None)

    def _remember(self, pid: str, number: str) -> None:
        """A program that opens many flows tends to use the same few descriptor numbers again."""
        if pid in self._candidates:
            self._candidates.remove(pid)
        self._candidates.insert(0, pid)
        for forgotten in self._candidates[_HINTS:]:
            self._hints.pop(forgotten, None)
        del self._candidates[_HINTS:]
        hints = self._hints.setdefault(pid, [])
        hints.insert(0, number)
        del hints[_HINTS:]

    def _describe(self, pid: str) -> Owner:
        folder = f"{self._processes}/{pid}"
        with open(f"{folder}/comm", encoding="utf-8", errors="replace") as file:
            program = _printable(file.read().strip())
        try:
            executable: str | None = os.readlink(f"{folder}/exe")
        except OSError:
            executable = None
        with open(f"{folder}/cmdline", "rb") as raw:
            words = raw.read(4096).rstrip(b"\0").split(b"\0")
        return Owner(int(pid), program, executable, tuple(word.decode("utf-8", "replace") for word in words))
