"""The second network of a run: a namespace whose only way out is a TUN device.

A process of its own lives in it, with every right there and none elsewhere, and does errands: it makes the device's
state so, and makes sockets, whose connections leave by the device or not at all. There is no other link to leave by,
which is the kill switch: nothing has to be switched.
"""

from __future__ import annotations

import errno
import marshal
import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, NoReturn

from towpath.errors import FeatureMissing, HostFault, PermissionMissing
from towpath.kernel.tunnel import TunnelPlan
from towpath.linux import datagram_rows, libc, rtnetlink, uplinks
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from towpath.linux.tun import open_tun
from towpath.linux.tunnel_device import TunnelLink

__all__ = ["TunnelScope"]

_NAMESPACES = libc.CLONE_NEWUSER | libc.CLONE_NEWNET
_AT_ONCE = 32
_LARGEST = 1 << 20
_KINDS = {
    "stream": (socket.SOCK_STREAM, 0, 0),
    "datagram": (socket.SOCK_DGRAM, 0, 0),
    "echo": (socket.SOCK_DGRAM, socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6),
}


class TunnelScope:
    """Implements `TunnelAttachment` and `TunnelNetwork` of `towpath.kernel.tunnel`; links are made in our own network.

    Made while this process has one thread. Raises `PermissionMissing` and `FeatureMissing` with what is in the way.
    """

    def __init__(self, name: str) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        uid, gid = os.geteuid(), os.getegid()
        self._pools: dict[tuple[str, int], list[socket.socket]] = {}
        try:
            self._pid = libc.clone(_NAMESPACES)
        except HostFault as fault:
            from towpath.linux.scope import explain_refusal

            raise explain_refusal(fault) from fault
        if self._pid == 0:
            self._control.close()
            _live(theirs, name, uid, gid)
        theirs.close()
        (self.name, self.heads), descriptors = self._hear()
        self.queue = descriptors[0]

    def _hear(self) -> tuple[Any, list[int]]:
        data, descriptors, _flags, _address = socket.recv_fds(self._control, _LARGEST, _AT_ONCE)
        if not data:
            raise HostFault("keep the tunnel's network", errno.ECHILD, "the process in it was killed")
        kind, payload = marshal.loads(data)
        if kind == "fault":
            raise _fault(*payload)
        return payload, descriptors

    def _ask(self, kind: str, payload: Any) -> tuple[Any, list[int]]:
        try:
            self._control.send(marshal.dumps((kind, payload)))
            return self._hear()
        except (BrokenPipeError, ConnectionResetError):
            raise HostFault("keep the tunnel's network", errno.ECHILD, "the process in it was killed") from None

    def apply(self, plan: TunnelPlan) -> None:
        """See `TunnelAttachment.apply`."""
        self._ask("apply", tuple(plan))

    def take_socket(self, kind: str, version: int) -> socket.socket:
        """A socket ("stream", "datagram" or "echo") whose packets can leave by the tunnel alone. Raises `OSError`."""
        pool = self._pools.setdefault((kind, version), [])
        if not pool:
            _, descriptors = self._ask("sockets", (kind, version, 1 if kind == "echo" else _AT_ONCE))
            pool.extend(socket.socket(fileno=number) for number in descriptors)
        return pool.pop()

    kernel = None
    """A run's tunnel is spoken by its provider: a device that it made could not leave by the user's network."""
    questions = None
    """Names of servers are asked for in the user's network, as any program does."""

    def lead_to(self, places: Sequence[tuple[str, int]], listening: int = 0) -> None:
        """Nothing to do: there is no `kernel`."""

    def ways(self) -> dict[str, str | None]:
        return {}

    def open_link(self, address: str, port: int) -> socket.socket:
        return uplinks.open_uplink(address, port)

    def listen(self, port: int) -> socket.socket:
        return datagram_rows.serve_datagram(6, port)

    def has_network(self) -> bool:
        return uplinks.has_default_route()

    def close(self) -> None:
        for pool in self._pools.values():
            for one in pool:
                one.close()
            pool.clear()
        self._control.close()
        if self.queue >= 0:
            os.close(self.queue)
            self.queue = -1
            try:
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def _fault(kind: str, operation: str, number: int, detail: str, word: str, hint: str | None) -> HostFault:
    if kind == "PermissionMissing":
        return PermissionMissing(operation, number, detail, setting=word, hint=hint)
    if kind == "FeatureMissing":
        return FeatureMissing(operation, number, detail, feature=word, hint=hint)
    return HostFault(operation, number, detail, hint)


def _live(control: socket.socket, name: str, uid: int, gid: int) -> NoReturn:
    """The whole life of the process in the namespace; it dies with the manager."""
    try:
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()  # ^C at the terminal is not for it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            signal.signal(number, signal.SIG_DFL)
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
        _write("/proc/sys/net/ipv4/ping_group_range", f"{gid} {gid}")
        _write_if_there("/proc/sys/net/ipv6/conf/default/addr_gen_mode", "1")  # no link-local address: nobody is there
        with NetlinkSocket(NETLINK_ROUTE) as route:
            rtnetlink.set_link(route, rtnetlink.LOOPBACK_INDEX, up=True)
        device = open_tun(name)
        link = TunnelLink(device.name)
        socket.send_fds(control, [marshal.dumps(("tun", (device.name, device.heads)))], [device.queue])
        os.close(device.queue)  # the manager's is the one that counts: the device is to go with it
        _close_others(control.fileno(), link)
        libc.name_thread(b"towpath-tunnel")
        libc.prctl(libc.PR_SET_DUMPABLE, 0)
        libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)
        while True:
            data = control.recv(_LARGEST)
            if not data:
                os._exit(0)
            _serve(control, link, *marshal.loads(data))
    except BaseException as error:  # the last frame of this process: whatever it is, the manager must be told
        _say_fault(control, error)
    os._exit(1)


def _serve(control: socket.socket, link: TunnelLink, kind: str, payload: Any) -> None:
    made: list[socket.socket] = []
    try:
        if kind == "apply":
            link.apply(TunnelPlan(*payload))
        else:
            what, version, count = payload
            type_, protocol4, protocol6 = _KINDS[what]
            family = socket.AF_INET if version == 4 else socket.AF_INET6
            flags = type_ | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            made = [socket.socket(family, flags, protocol4 if version == 4 else protocol6) for _ in range(count)]
        socket.send_fds(control, [marshal.dumps(("done", None))], [one.fileno() for one in made])
    except OSError as error:
        _say_fault(control, error)
    finally:
        for one in made:
            one.close()


def _say_fault(control: socket.socket, error: BaseException) -> None:
    word = getattr(error, "setting", "") or getattr(error, "feature", "")
    operation = error.operation if isinstance(error, HostFault) else "make the tunnel's network"
    detail = str(error).removeprefix(f"{operation}: ")
    number = error.errno or 0 if isinstance(error, OSError) else 0
    try:
        payload = (type(error).__name__, operation, number, detail, word, getattr(error, "hint", None))
        control.send(marshal.dumps(("fault", payload)))
    except OSError:
        os._exit(1)  # nobody is left to tell


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
    finally:
        os.close(descriptor)


def _write_if_there(path: str, content: str) -> None:
    try:
        _write(path, content)
    except OSError:
        return


def _close_others(control: int, link: TunnelLink) -> None:
    kept = {control, link.fileno()}
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        if number > 2 and number not in kept:
            try:
                os.close(number)
            except OSError:
                continue  # the descriptor of the listing itself
