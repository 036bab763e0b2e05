"""Making a sandbox, seen from the manager: one clone into new namespaces, then messages with its first process.

user_namespaces(7), network_namespaces(7), pid_namespaces(7). The manager is the owner of the namespaces, since its uid
made them: that, and no privilege, lets it answer the packet queue from outside.
"""

from __future__ import annotations

import errno
import marshal
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

from towpath.errors import HostFault, PermissionMissing
from towpath.kernel.scope import QUEUE_NUMBER, Attachments, CommandExit, ScopePlan
from towpath.linux import libc
from towpath.linux.nfqueue import PacketQueue

_NAMESPACES = libc.CLONE_NEWUSER | libc.CLONE_NEWNET | libc.CLONE_NEWNS | libc.CLONE_NEWPID
_MOST_DESCRIPTORS = 250

_WAYS_OUT = (
    "run as an administrator: sysctl -w {0}; or run Towpath where user namespaces are allowed (a virtual machine, a "
    "container started with them enabled)"
)


def explain_refusal(fault: HostFault) -> HostFault:
    """Names the setting that keeps this system from giving a user namespace."""

    def setting(path: str) -> str:
        try:
            with open("/proc/sys/" + path, encoding="ascii") as file:
                return file.read().strip()
        except OSError:
            return ""

    found = None
    if setting("user/max_user_namespaces") == "0" or fault.errno == errno.ENOSPC:
        found = ("user.max_user_namespaces", "user.max_user_namespaces=15000")
    elif setting("kernel/unprivileged_userns_clone") == "0":
        found = ("kernel.unprivileged_userns_clone", "kernel.unprivileged_userns_clone=1")
    elif setting("kernel/apparmor_restrict_unprivileged_userns") == "1":
        found = (
            "kernel.apparmor_restrict_unprivileged_userns",
            "kernel.apparmor_restrict_unprivileged_userns=0 (or give towpath's interpreter an AppArmor profile with "
            "`userns,`)",
        )
    if found is None:
        return fault
    name, remedy = found
    return PermissionMissing(
        "make a user namespace",
        fault.errno or errno.EPERM,
        f"refused by the setting {name}",
        setting=name,
        hint=_WAYS_OUT.format(remedy),
    )


class SocketsMade:
    """Plain TCP sockets made inside the scope, as asked for by `LinuxScope.request_sockets`."""

    def __init__(self, version: int, sockets: list[socket.socket]) -> None:
        self.version = version
        self.sockets = sockets


class ProcessFolder:
    """The run's own /proc, as a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor


class CommandStopped:
    """The command was stopped by a signal and was not yet continued."""


class LinuxScope:
    """The manager's hold on one sandbox. See `towpath.kernel.scope.Scope`."""

    attachments: Attachments

    def __init__(self, plan: ScopePlan) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        uid, gid = os.geteuid(), os.getegid()
        try:
            pid = libc.clone(_NAMESPACES)
        except HostFault as fault:
            raise explain_refusal(fault) from fault
        if pid == 0:
            from towpath.linux.scope_init import live

            ours.close()
            live(plan, theirs, uid, gid)
        theirs.close()
        self.pid = pid
        self._control = ours
        self._reaped = False

    def await_attachments(self) -> None:
        """Waits until the scope is made. Raises `HostFault` with what was refused there."""
        data, descriptors, _flags, _address = socket.recv_fds(self._control, 1 << 16, _MOST_DESCRIPTORS)
        if not data:
            raise HostFault("make the sandbox", errno.ECHILD, "its first process died")
        kind, payload = marshal.loads(data)
        if kind == "fault":
            operation, number, detail = payload
            fault = HostFault(operation, number, detail)
            raise explain_refusal(fault) if number in (errno.EPERM, errno.EACCES) else fault
        self.attachments = _attachments(payload, descriptors)
        self._control.setblocking(False)  # recv_fds of Python 3.11 has no use for its flags

    def fileno(self) -> int:
        return self._control.fileno()

    def _send(self, kind: str, payload: Any) -> None:
        try:
            self._control.send(marshal.dumps((kind, payload)))
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has just ended; its last message is still to be read

    def release(
        self,
        environment: dict[str, str],
        static_table: list[list[str]],
        search: Sequence[str] = (),
        read_only: Sequence[str] = (),
    ) -> None:
        """Lets the command be executed, with `environment` and the lines of one more table added to the plan.

        `search` are domains for short names, in place of the plan's. The files `read_only` are so besides the plan's.
        """
        self._send("go", (environment, static_table, list(search), list(read_only)))

    def signal(self, number: int) -> None:
        """Sends a signal to the command."""
        self._send("signal", number)

    def request_sockets(self, version: int, count: int) -> None:
        """Asks for plain TCP sockets made inside; they come as `SocketsMade`."""
        self._send("sockets", (version, count))

    def receive(self) -> list[object]:
        """What the first process says: `SocketsMade`, `CommandStopped`, and `CommandExit` as the last."""
        events: list[object] = []
        while True:
            try:
                data, descriptors, _flags, _address = socket.recv_fds(self._control, 1 << 16, _MOST_DESCRIPTORS)
            except BlockingIOError:
                return events
            except ConnectionResetError:
                data, descriptors = b"", []
            if not data:
                return [*events, CommandExit(125, None, errno.ECHILD)]
            kind, payload = marshal.loads(data)
            if kind == "sockets":
                events.append(SocketsMade(payload, [socket.socket(fileno=number) for number in descriptors]))
            elif kind == "processes":
                events.append(ProcessFolder(descriptors[0]))
            elif kind == "fault":
                operation, number, detail = payload
                fault = HostFault(operation, number, detail)
                raise explain_refusal(fault) if number in (errno.EPERM, errno.EACCES) else fault
            elif kind == "stopped":
                events.append(CommandStopped())
            elif kind == "exit":
                events.append(CommandExit(*payload))
                return events

    def close(self) -> None:
        """Ends the sandbox, whatever still runs in it, and waits until it is gone."""
        self._control.close()
        if not self._reaped:
            self._reaped = True
            try:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def _attachments(names: list[tuple[str, int, int]], descriptors: list[int]) -> Attachments:
    groups: dict[str, dict[int, socket.socket]] = {
        name: {} for name in ("tcp", "udp", "dns_udp", "dns_tcp", "raw_udp", "raw_icmp")
    }
    local = {}
    tap = None
    numbers = {}
    for (name, version, port), descriptor in zip(names, descriptors, strict=True):
        if name in ("queue", "diagnosis"):
            numbers[name] = descriptor
        elif name == "tap":
            tap = socket.socket(fileno=descriptor)
        elif name == "local":
            local[version, port] = socket.socket(fileno=descriptor)
        else:
            groups[name][version] = socket.socket(fileno=descriptor)
    return Attachments(
        queue=PacketQueue(QUEUE_NUMBER, numbers["queue"]),
        local=local,
        diagnosis=numbers["diagnosis"],
        tap=tap,
        **groups,
    )
