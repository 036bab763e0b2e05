"""Worlds of `towpath.kernel.hosts` in Linux namespaces, made by an ordinary user: the owner's side."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import time
from collections.abc import Sequence

from towpath.errors import FeatureMissing, HostFault, PermissionMissing, TimedOut
from towpath.kernel.hosts import Node, Serve
from towpath.linux import libc
from towpath.linux.entering import enter
from towpath.linux.frame_relay import DELAY
from towpath.linux.keeper import REPORT_SIZE, Keeper
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from towpath.linux.node_network import plug_port
from towpath.linux.rtnetlink import link_index, set_link

__all__ = ["LinuxHosts"]

_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


class LinuxHosts:
    """The answer to `towpath.kernel.hosts.Hosts`."""

    def start(self, nodes: Sequence[Node], serve: Serve, seconds: float) -> LinuxWorld:
        return LinuxWorld(nodes, serve, seconds)

    def enter(self, handle: int, *, administrator: bool) -> None:
        enter(handle, administrator=administrator)

    def system_bundle(self) -> str | None:
        return next((path for path in _BUNDLES if os.path.isfile(path)), None)


class LinuxWorld:
    """A running world; the constructor returns when each node is ready."""

    def __init__(self, nodes: Sequence[Node], serve: Serve, seconds: float) -> None:
        self._nodes = {node.name: node for node in nodes}
        self._handles: dict[str, int] = {}
        pairs = {node.name: socket.socketpair() for node in nodes}
        self._channels = {name: ours for name, (ours, _) in pairs.items()}
        reports, tell = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        owner = os.pidfd_open(os.getpid())
        keeper = Keeper(nodes, serve, tell, owner, {name: theirs for name, (_, theirs) in pairs.items()})
        self._keeper = 0
        try:
            self._keeper = _clone()
            if self._keeper == 0:
                keeper.run()
            self._handles[nodes[0].name] = os.pidfd_open(self._keeper)
            tell.close()
            self._await_ready(reports, seconds)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(owner)
            for end in (tell, reports, *(theirs for _, theirs in pairs.values())):
                end.close()

    def _await_ready(self, reports: socket.socket, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        awaited = set(self._nodes)
        while awaited:
            reports.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                data, descriptors, _, _ = socket.recv_fds(reports, REPORT_SIZE, 1)
            except TimeoutError:
                raise TimedOut(f"starting {', '.join(sorted(awaited))}", seconds) from None
            if not data:
                raise HostFault("start the hosts", errno.ECHILD, "their first process ended without a word")
            name, fault = json.loads(data)
            if fault is not None:
                code, words, hint = fault
                raise HostFault(f"start {name}", code, words, hint)
            if descriptors:
                self._handles[name] = descriptors[0]
            else:
                awaited.discard(name)

    def handle(self, node: str) -> int:
        return self._handles[node]

    def channel(self, node: str) -> socket.socket:
        return self._channels[node]

    def set_card(self, node: str, device: str, *, up: bool) -> None:
        card = next(card for card in self._nodes[node].cards if card.device == device)
        child = os.fork()
        if child == 0:
            code = errno.EIO
            try:
                libc.setns(self._handles[card.upstream], libc.CLONE_NEWUSER | libc.CLONE_NEWNET)
                with NetlinkSocket(NETLINK_ROUTE) as netlink:
                    set_link(netlink, link_index(netlink, card.port), up=up)
                    if up:
                        plug_port(netlink, card)
                code = 0
            except HostFault as fault:
                code = fault.errno or code
            finally:
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            raise HostFault(f"set {device} of {node} {'up' if up else 'down'}", code, os.strerror(abs(code)))

    def set_delay(self, node: str, device: str, seconds: float) -> None:
        os.write(self._handles[f"{node}/{device}"], DELAY.pack(seconds))

    def close(self) -> None:
        keeper, self._keeper = self._keeper, 0
        if keeper:
            os.kill(keeper, signal.SIGKILL)
            os.waitpid(keeper, 0)
        for descriptor in self._handles.values():
            os.close(descriptor)
        self._handles.clear()
        for channel in self._channels.values():
            channel.close()


def _clone() -> int:
    try:
        return libc.clone(libc.CLONE_NEWUSER | libc.CLONE_NEWPID | libc.CLONE_NEWNS | libc.CLONE_NEWNET)
    except FeatureMissing:
        raise
    except HostFault as fault:
        raise PermissionMissing(
            "make namespaces",
            fault.errno or errno.EPERM,
            str(fault.strerror),
            setting="user.max_user_namespaces",
            hint="sysctl user.max_user_namespaces must be above 0, and a container must allow user namespaces",
        ) from None
