"""Whose flow is it: from a socket's addresses to its inode by sock_diag(7), from the inode to a process by /proc.

What cannot be found is `None`: a socket may be gone by now, or held by a process that hides its descriptors.
"""

from __future__ import annotations

import os
import socket
import struct
from collections import OrderedDict
from itertools import islice
from typing import NamedTuple

from towpath.linux.processes import Owner, Processes

__all__ = ["Found", "Owner", "OwnerFinder"]

_BY_FAMILY = 20
_LENGTH = 72
_NO_COOKIE = b"\xff" * 8
_PATIENCE = 50_000
"""Microseconds for an answer of the kernel's, which answers at once."""
_CANDIDATES = 8
_GUESSES = 40
_MOST_USED = 4096


class Found(NamedTuple):
    """An owner, and the number of the descriptor by which it holds the socket; `use` tells the uses of it apart."""

    owner: Owner
    descriptor: int
    use: int


class _Descriptors:
    """Which descriptors a process is likely to use next: the lowest that is free, as open(2) promises."""

    __slots__ = ("folder", "freed", "highest", "used")

    def __init__(self, folder: int) -> None:
        self.folder = folder
        self.used: OrderedDict[int, int] = OrderedDict()
        self.freed: set[int] = set()
        self.highest = 2

    def guesses(self) -> list[int]:
        """The likeliest first: freed ones from below, the next new one, those that were opened longest ago."""
        found = sorted(self.freed)[:_GUESSES]
        found.append(self.highest + 1)
        found.extend(islice(self.used, _GUESSES - len(found)) if len(found) < _GUESSES else ())
        return found

    def give_back(self, number: int, use: int) -> None:
        """Unless it is in use again: the end of a socket may be heard of after the next has taken its place."""
        if self.used.get(number) == use:
            del self.used[number]
            self.freed.add(number)

    def remember(self, number: int, use: int) -> None:
        self.freed.discard(number)
        self.used.pop(number, None)
        self.used[number] = use
        self.highest = max(self.highest, number)
        if len(self.used) > _MOST_USED:
            self.used.popitem(last=False)


class OwnerFinder:
    """Finds owners through a sock_diag socket of the scope and the folder of its processes."""

    def __init__(self, diagnosis: int) -> None:
        self._socket = socket.socket(fileno=diagnosis)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, _PATIENCE))
        self._folder = -1
        self._processes: Processes | None = None
        self._candidates: OrderedDict[int, _Descriptors] = OrderedDict()
        self._uses = 0

    def use_processes(self, descriptor: int) -> None:
        """Takes over `descriptor`, the scope's /proc."""
        self._folder = descriptor
        self._processes = Processes(f"/proc/self/fd/{descriptor}")

    def close(self) -> None:
        self._socket.close()
        if self._processes is not None:
            self._processes.close()
            os.close(self._folder)

    def is_stopped(self, pid: int) -> bool:
        """Whether a process of the run is stopped by a signal."""
        return self._processes is not None and self._processes.state(pid) == "T"

    def find(self, protocol: int, source: bytes, source_port: int, address: bytes, port: int) -> Found | None:
        """The owner of a local socket with these addresses (packed); a ping's `source_port` is its identifier."""
        processes = self._processes
        if processes is None:
            return None
        try:
            if protocol == socket.IPPROTO_ICMP:
                inode = self._echo_inode(processes, source_port, "icmp" if len(source) == 4 else "icmp6")
            else:
                inode = self._inode(protocol, source, source_port, address, port)
            holder = self._holder(processes, inode) if inode else None
            return None if holder is None else Found(processes.describe(holder[0]), holder[1], self._uses)
        except OSError:
            return None

    def find_local(self, protocol: int, source: bytes, source_port: int) -> Found | None:
        """The owner of a local socket that sends from here, to whomever: destinations may have been changed since."""
        processes = self._processes
        if processes is None:
            return None
        table = ("tcp" if protocol == socket.IPPROTO_TCP else "udp") + ("" if len(source) == 4 else "6")
        try:
            inode = self._local_inode(processes, table, source, source_port)
            holder = self._holder(processes, inode) if inode else None
            return None if holder is None else Found(processes.describe(holder[0]), holder[1], self._uses)
        except OSError:
            return None

    def _local_inode(self, processes: Processes, table: str, source: bytes, port: int) -> int:
        words = struct.unpack(f"={len(source) // 4}I", source)
        own = "".join(f"{word:08X}" for word in words) + f":{port:04X}"
        anywhere = "0" * (2 * len(source)) + f":{port:04X}"
        found = 0
        with open(f"{processes.folder}/self/net/{table}", encoding="ascii", errors="replace") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) > 9 and fields[1] in (own, anywhere) and fields[9] != "0":
                    found = int(fields[9])
                    if fields[1] == own:
                        break
        return found

    def freed(self, found: Found) -> None:
        """The socket has ended, or is about to: its descriptor will be used again."""
        descriptors = self._candidates.get(found.owner.pid)
        if descriptors is not None:
            descriptors.give_back(found.descriptor, found.use)

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

    def _echo_inode(self, processes: Processes, identifier: int, table: str) -> int:
        """sock_diag does not list datagram ICMP sockets; the namespace's own table does (proc_pid_net(5))."""
        with open(f"{processes.folder}/1/net/{table}", encoding="ascii", errors="replace") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) > 9 and fields[1].endswith(f":{identifier:04X}"):
                    return int(fields[9])
        return 0

    def _holder(self, processes: Processes, inode: int) -> tuple[int, int] | None:
        wanted = f"socket:[{inode}]"
        for pid in reversed(self._candidates):
            descriptors = self._candidates[pid]
            for number in descriptors.guesses():
                if _leads_to(descriptors.folder, number, wanted):
                    return self._remember(pid, number, descriptors)
        recent = list(reversed(self._candidates))
        seen = set(recent)
        for pid in [*recent, *(pid for pid in _listing(processes) if pid not in seen)]:
            try:
                folder = os.open(f"{processes.folder}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError:
                continue
            found = _descriptor(folder, wanted)
            if found is not None:
                known = self._candidates.pop(pid, None)
                if known is not None:
                    os.close(known.folder)  # perhaps of another process that had this number
                descriptors = known or _Descriptors(folder)
                descriptors.folder = folder
                return self._remember(pid, found, descriptors)
            os.close(folder)
        return None

    def _remember(self, pid: int, number: int, descriptors: _Descriptors) -> tuple[int, int]:
        self._uses += 1
        descriptors.remember(number, self._uses)
        self._candidates.pop(pid, None)
        self._candidates[pid] = descriptors
        if len(self._candidates) > _CANDIDATES:
            os.close(self._candidates.popitem(last=False)[1].folder)
        return pid, number


def _listing(processes: Processes) -> list[int]:
    # The newest first: short-lived programs are the likely ones, and pid 1 never opens a flow.
    return sorted((int(name) for name in os.listdir(processes.folder) if name.isdigit()), reverse=True)


def _leads_to(folder: int, number: int, wanted: str) -> bool:
    try:
        return os.readlink(str(number), dir_fd=folder) == wanted
    except OSError:
        return False


def _descriptor(folder: int, wanted: str) -> int | None:
    try:
        numbers = os.listdir(folder)
    except OSError:
        return None
    return next((int(number) for number in reversed(numbers) if _leads_to(folder, int(number), wanted)), None)
