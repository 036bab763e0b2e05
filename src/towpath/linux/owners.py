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


class OwnerFinder:
    """Finds owners through a sock_diag socket of the scope and the folder of its processes."""

    def __init__(self, diagnosis: int) -> None:
        self._socket = socket.socket(fileno=diagnosis)
        self._socket.settimeout(0.05)
        self._processes: str | None = None
        self._candidates: list[str] = []
        self._hints: dict[str, list[str]] = {}

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
