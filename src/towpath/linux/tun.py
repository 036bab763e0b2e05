"""TUN devices with offloads. Documentation/networking/tuntap.rst, `linux/if_tun.h`.

A device reads and writes records: the head of `towpath.wire.virtio_net`, then a packet of up to 64 KB. What this kernel
does not know is left out, step by step, and the records look the same.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

from towpath.errors import FeatureMissing, HostFault, PermissionMissing
from towpath.linux.datagrams import address_of
from towpath.wire.virtio_net import HEAD_SIZE, PLAIN_HEAD

__all__ = ["ALL_OFFLOADS", "NODE", "TunDevice", "TunQueue", "open_tun"]

NODE = "/dev/net/tun"
_TUNSETIFF, _TUNSETOFFLOAD, _TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
_FLAGS, _IFF_VNET_HDR = 0x0001 | 0x1000, 0x4000
"""IFF_TUN, IFF_NO_PI."""
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
_read = ctypes.PyDLL(None, use_errno=True).read
_read.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_read.restype = ctypes.c_ssize_t
_AT_ONCE = 48_000
"""Bytes from which on a batch of records is handed on."""


class TunDevice(NamedTuple):
    """`queue` is a descriptor; `heads` is false where the kernel puts no head before packets."""

    name: str
    queue: int
    heads: bool
    offloads: int


def open_tun(name: str, *, heads: bool = True, offloads: Sequence[int] = ALL_OFFLOADS, node: str = NODE) -> TunDevice:
    """Makes a device in this network namespace; it goes with its descriptor.

    `heads=False`, and a shorter `offloads`, do without what the kernel may have. Raises `PermissionMissing` where the
    node is closed or the right to make devices is missing, `FeatureMissing` without TUN, `HostFault`.
    """
    queue = _open(node)
    try:
        if heads:
            try:
                name = _attach(queue, name, _FLAGS | _IFF_VNET_HDR)
                fcntl.ioctl(queue, _TUNSETVNETHDRSZ, struct.pack("=i", HEAD_SIZE))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                heads = False
        if not heads:
            name = _attach(queue, name, _FLAGS)
        chosen = _set_offloads(queue, offloads) if heads else 0
    except OSError as error:
        os.close(queue)
        raise _explained(error, name) from error
    return TunDevice(name, queue, heads, chosen)


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


def _set_offloads(queue: int, offloads: Sequence[int]) -> int:
    for wanted in offloads:
        try:
            fcntl.ioctl(queue, _TUNSETOFFLOAD, wanted)
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
        self._sparse = True
        data = bytearray(_AT_ONCE + _LARGEST)
        self._address = address_of(data)
        self._buffer = memoryview(data)

    def receive(self) -> list[memoryview]:
        """Records that are there: a super-packet, or as many smaller ones as are as long together.

        More at once would be out of the processor's caches before it is their turn. Where packets have come singly so
        far, the next one does not wait for the question whether there are more. Raises `OSError` when the device has
        gone.
        """
        found: list[memoryview] = []
        descriptor, extra, buffer, at = self.descriptor, self._extra, self._buffer, 0
        while at < _AT_ONCE:
            # Not os.readv(): that there is nothing left is no exception here.
            length = _read(descriptor, self._address + at + extra, _LARGEST - extra)
            if length < 0:
                number = ctypes.get_errno()
                if number not in (errno.EAGAIN, errno.EINTR):
                    raise OSError(number, os.strerror(number))
                self.drained, self._sparse = True, len(found) < 2
                return found
            end = at + extra + length
            if extra:
                buffer[at : at + HEAD_SIZE] = PLAIN_HEAD
            found.append(buffer[at:end])
            at = end
            if self._sparse:
                self._sparse = False
                break
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
