"""TUN devices with offloads. Documentation/networking/tuntap.rst, `linux/if_tun.h`.

A device reads and writes records: the head of `towpath.wire.virtio_net`, then a packet of up to 64 KB. What this kernel
does not know is left out, step by step, and the records look the same.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from towpath.errors import FeatureMissing, HostFault, PermissionMissing
from towpath.wire.virtio_net import HEAD_SIZE, PLAIN_HEAD

__all__ = ["ALL_OFFLOADS", "NODE", "TunDevice", "TunQueue", "open_tun"]

NODE = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x0001, 0x1000, 0x4000, 0x0100
_CHECKSUMS, _TSO4, _TSO6, _ECN, _USO4, _USO6 = 1, 2, 4, 8, 0x20, 0x40
ALL_OFFLOADS = (
    _CHECKSUMS | _TSO4 | _TSO6 | _ECN | _USO4 | _USO6,  # Linux 6.2
    _CHECKSUMS | _TSO4 | _TSO6 | _ECN,
    _CHECKSUMS | _TSO4 | _TSO6,
    _CHECKSUMS,
    0,
)
"""What is tried, the most first."""
_LARGEST = HEAD_SIZE + 65_535
_AT_ONCE = 48_000
"""Bytes from which on a batch of records is handed on."""


class TunDevice(NamedTuple):
    """`queues` are descriptors; `heads` is false where the kernel puts no head before packets."""

    name: str
    queues: tuple[int, ...]
    heads: bool
    offloads: int


def open_tun(
    name: str, queues: int = 1, *, heads: bool = True, offloads: Sequence[int] = ALL_OFFLOADS, node: str = NODE
) -> TunDevice:
    """Makes a device in this network namespace; it goes with its last descriptor.

    `heads=False`, and a shorter `offloads`, do without what the kernel may have. Raises `PermissionMissing` where the
    node is closed or the right to make devices is missing, `FeatureMissing` without TUN, `HostFault`.
    """
    opened: list[int] = []
    try:
        for _ in range(queues):
            opened.append(_open(node))
            flags = _IFF_TUN | _IFF_NO_PI | (_IFF_MULTI_QUEUE if queues > 1 else 0)
            if heads:
                try:
                    name = _attach(opened[-1], name, flags | _IFF_VNET_HDR)
                    fcntl.ioctl(opened[-1], _TUNSETVNETHDRSZ, struct.pack("=i", HEAD_SIZE))
                    continue
                except OSError as error:
                    if error.errno != errno.EINVAL or len(opened) > 1:
                        raise
                    heads = False
            name = _attach(opened[-1], name, flags)
        chosen = _set_offloads(opened, offloads) if heads else 0
    except OSError as error:
        for descriptor in opened:
            os.close(descriptor)
        raise error if isinstance(error, HostFault) else _explained(error, name) from error
    return TunDevice(name, tuple(opened), heads, chosen)


def _open(node: str) -> int:
    try:
        return os.open(node, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except PermissionError as error:
        raise PermissionMissing(
            "open a TUN device",
            error.errno or errno.EACCES,
            f"{node} may not be opened by this user",
            setting=node,
            hint=f"an administrator can run: chmod 0666 {node} (what udev sets on most systems; a device made by it "
            "only works in a network namespace of one's own)",
        ) from None
    except OSError as error:
        raise FeatureMissing(
            "open a TUN device",
            error.errno or errno.ENOENT,
            f"{node}: {os.strerror(error.errno or 0)}",
            feature="CONFIG_TUN",
            hint=f"an administrator can run: modprobe tun; in a container: --device {node}",
        ) from None


def _attach(descriptor: int, name: str, flags: int) -> str:
    answer = fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("=16sH22x", name.encode(), flags))
    return answer[:16].rstrip(b"\0").decode()


def _set_offloads(descriptors: Sequence[int], offloads: Sequence[int]) -> int:
    for wanted in offloads:
        try:
            for descriptor in descriptors:
                fcntl.ioctl(descriptor, _TUNSETOFFLOAD, wanted)
            return wanted
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
    return 0


def _explained(error: OSError, name: str) -> HostFault:
    number = error.errno or 0
    if number in (errno.EPERM, errno.EACCES):
        return PermissionMissing(
            f"make the TUN device {name}", number, "the right CAP_NET_ADMIN is missing here", setting="CAP_NET_ADMIN"
        )
    return HostFault(f"make the TUN device {name}", number, os.strerror(number))


class TunQueue:
    """Reads and writes the records of one queue, never waiting. The buffer is used again by the next `receive`."""

    def __init__(self, descriptor: int, *, heads: bool) -> None:
        self.descriptor = descriptor
        self.drained = True
        """Whether the last `receive` came to the end of what was there."""
        self._heads = heads
        self._extra = 0 if heads else HEAD_SIZE
        self._buffer = memoryview(bytearray(_AT_ONCE + _LARGEST))

    def receive(self) -> list[memoryview]:
        """Records that are there: a super-packet, or as many smaller ones as are as long together.

        More at once would be out of the processor's caches before it is their turn. Raises `OSError` when the device
        has gone.
        """
        found: list[memoryview] = []
        descriptor, extra, buffer, at = self.descriptor, self._extra, self._buffer, 0
        while at < _AT_ONCE:
            try:
                end = at + extra + os.readv(descriptor, (buffer[at + extra :],))
            except BlockingIOError:
                self.drained = True
                return found
            if extra:
                buffer[at : at + HEAD_SIZE] = PLAIN_HEAD
            found.append(buffer[at:end])
            at = end
        self.drained = False
        return found

    def send(self, record: bytes | bytearray | memoryview) -> bool:
        """Gives one record to the kernel; False for one that it refuses."""
        try:
            if self._heads:
                os.write(self.descriptor, record)
            elif bytes(record[:HEAD_SIZE]) == PLAIN_HEAD:
                os.write(self.descriptor, record[HEAD_SIZE:])
            else:
                return False
        except OSError:
            return False
        return True
