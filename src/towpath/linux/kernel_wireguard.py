"""The kernel's own WireGuard for a whole host, such that nothing of it outlives this process.

A WireGuard device stays when whoever made it dies. So it is made in a network namespace of its own that only
descriptors of this process keep alive, as a child of the host's: its datagrams leave by the network that it was made
from, its packets come out where it is (wireguard.com/netns). A pair of links leads there from the host; the namespace
forwards between the two. With the last descriptor the namespace goes, the device, the pair, and on the host the routes
that lead into the pair.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from towpath.errors import FeatureMissing, HostFault, PermissionMissing
from towpath.kernel.tunnel import NOTHING, TunnelPlan
from towpath.linux import libc, rtnetlink, wireguard_messages
from towpath.linux.generic_netlink import NETLINK_GENERIC, family_number
from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from towpath.linux.tunnel_device import TunnelLink

if TYPE_CHECKING:
    from towpath.providers.kernel_wireguard import KernelPeer, KernelPeerFigures, KernelWireGuard

__all__ = ["KernelWireGuardNetwork"]

_KIND = "wireguard"
_DEVICE, _BACK = "wg", "host"
"""Names inside of the namespace."""
_HARDWARE = bytes.fromhex("027770000001")
"""Of both ends of the pair, which hand packets to each other without asking who has which address."""
_FORWARDS = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
_T = TypeVar("_T")


class KernelWireGuardNetwork:
    """A device of the kernel's WireGuard, and a link called `name` in this network that leads to it.

    Needs CAP_NET_ADMIN and CAP_SYS_ADMIN. Raises `FeatureMissing` where the kernel has no WireGuard,
    `PermissionMissing`, `HostFault`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._held: list[NetlinkSocket | TunnelLink] = []
        self._space, made = -1, False
        try:
            self._space, self._generic = _elsewhere(self._enter_new)
            self._make_device()
            made = True
            self._make_pair()
            self._device, self._back = _elsewhere(self._links)
            self._family = family_number(self._generic, wireguard_messages.FAMILY)
        except HostFault as fault:
            self.close()
            raise fault if made else _explained(fault) from None
        except BaseException:
            self.close()
            raise

    # In a thread that is in the namespace, and whose sockets therefore are.

    def _enter_new(self) -> tuple[int, NetlinkSocket]:
        libc.unshare(libc.CLONE_NEWNET)
        for path in _FORWARDS:
            _switch_on(path)
        generic = NetlinkSocket(NETLINK_GENERIC)
        self._held.append(generic)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), generic

    def _links(self) -> tuple[TunnelLink, TunnelLink]:
        libc.setns(self._space, libc.CLONE_NEWNET)
        device, back = TunnelLink(_DEVICE), TunnelLink(_BACK)
        self._held += [device, back]
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            rtnetlink.set_pointed(netlink, back.index, _HARDWARE)
        return device, back

    # In this network.

    def _make_device(self) -> None:
        with NetlinkSocket(NETLINK_ROUTE) as netlink:
            rtnetlink.add_link(netlink, _DEVICE, _KIND, self._space)

    def _make_pair(self) -> None:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with NetlinkSocket(NETLINK_ROUTE) as netlink:
                rtnetlink.add_veth(netlink, self.name, here, _BACK, self._space)
                rtnetlink.set_pointed(netlink, rtnetlink.link_index(netlink, self.name), _HARDWARE)
        finally:
            os.close(here)

    def apply(self, plan: TunnelPlan) -> None:
        """Leads what the plan's routes are for to the device, and its addresses back. Raises `HostFault`: as before."""
        before = self._device.plan
        self._device.apply(TunnelPlan(routes=plan.routes, mtu=plan.mtu))
        try:
            own = tuple((address, 128 if ":" in address else 32) for address, _prefix in plan.addresses)
            self._back.apply(TunnelPlan(routes=own, mtu=plan.mtu))
        except HostFault:
            self._device.apply(before)
            raise
        if plan == NOTHING:
            self._tell("silence WireGuard", wireguard_messages.hush_device(_DEVICE))

    def set_up(self, setup: KernelWireGuard) -> None:
        """Makes the device be so; endpoints are addresses. Raises `HostFault`."""
        for body in wireguard_messages.set_device(_DEVICE, setup):
            self._tell("set up WireGuard", body)

    def speak(self, peer: KernelPeer, *, anew: bool = False) -> None:
        """Lets a peer know of us now; with `anew` by the way that is best now. Raises `HostFault`."""
        if anew:
            self._tell("say where a peer is", wireguard_messages.set_endpoint(_DEVICE, peer))
        for body in wireguard_messages.poke_peer(_DEVICE, peer):
            self._tell("speak to a peer", body)

    def _tell(self, operation: str, body: bytes) -> None:
        self._generic.request(operation, self._family, 0, body)

    def peers(self) -> list[KernelPeerFigures]:
        """How the peers are. Raises `HostFault`, `PeerViolation`."""
        answers = self._generic.dump("ask WireGuard", self._family, wireguard_messages.ask_device(_DEVICE))
        return wireguard_messages.read_peers(body for _kind, body in answers)

    def close(self) -> None:
        """What the descriptors kept alive goes, in a moment."""
        for one in self._held:
            one.close()
        self._held.clear()
        if self._space >= 0:
            os.close(self._space)
            self._space = -1


def _elsewhere(call: Callable[[], _T]) -> _T:
    """Calls in a thread of its own, which may change its namespace, and gives or raises what became of it."""
    found: list[_T] = []
    faults: list[BaseException] = []

    def run() -> None:
        try:
            found.append(call())
        except BaseException as fault:
            faults.append(fault)

    thread = threading.Thread(target=run, name="towpath-namespace")
    thread.start()
    thread.join()
    if faults:
        raise faults[0]
    return found[0]


def _switch_on(path: str) -> None:
    try:
        with open(path, "w") as file:
            file.write("1")
    except FileNotFoundError:
        return  # a kernel without this family
    except OSError as error:
        raise HostFault("forward to WireGuard", error.errno or 0, f"{path}: {error.strerror}") from None


def _explained(fault: HostFault) -> HostFault:
    if fault.errno == errno.EOPNOTSUPP:
        return FeatureMissing(
            "use the kernel's WireGuard",
            fault.errno,
            "this kernel has none",
            feature="CONFIG_WIREGUARD",
            hint="an administrator can try: modprobe wireguard",
        )
    if fault.errno in (errno.EPERM, errno.EACCES, errno.EROFS):
        detail = f"{fault} (CAP_NET_ADMIN, CAP_SYS_ADMIN and a /proc/sys that may be written are needed)"
        return PermissionMissing("use the kernel's WireGuard", fault.errno, detail, setting="CAP_SYS_ADMIN")
    return fault
