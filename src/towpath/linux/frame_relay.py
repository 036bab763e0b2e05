"""A wire with a delay: two network cards joined in user space (packet(7)).

The kernel may have no queueing discipline that delays. Frames are read with their virtio header, so that 64 KB
segmentation-offload frames stay whole and checksums stay the kernel's business.
"""

from __future__ import annotations

import heapq
import os
import select
import socket
import struct
import time
from itertools import count
from typing import NoReturn

from towpath.linux.netlink import NETLINK_ROUTE, NetlinkSocket
from towpath.linux.rtnetlink import links, set_link

__all__ = ["DELAY", "relay_frames"]

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_VNET_HDR, _PACKET_IGNORE_OUTGOING = 263, 15, 23
_FRAME = 10 + 14 + (1 << 16)
_HELD = 10_000
_BUFFER = 4 << 20


DELAY = struct.Struct("=d")
"""A new delay in seconds, as `relay_frames` reads it."""


def relay_frames(near: str, far: str, delay: float, changes: int) -> NoReturn:
    """Carries frames between two devices of this namespace, each held for `delay` seconds; full, it drops.

    A new delay is read from the pipe `changes`; frames that are held already keep theirs.
    """
    for name in ("all", "default", near, far):
        with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
            file.write("1")
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        here = links(netlink)
        for name in (near, far):
            set_link(netlink, here[name], up=True)
    ends = (_open(near), _open(far))
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    order = count()
    held: list[tuple[float, int, socket.socket, bytes]] = []
    while True:
        wait = max(0.0, held[0][0] - time.monotonic()) if held else None
        sources: list[socket.socket | int] = [*ends, changes]
        ready, _, _ = select.select(sources, [], [], wait)
        now = time.monotonic()
        if changes in ready:
            (delay,) = DELAY.unpack(os.read(changes, DELAY.size))
        for end in ends:
            if end not in ready:
                continue
            try:
                frame = end.recv(_FRAME)
            except OSError:  # the card was pulled
                continue
            if len(held) < _HELD:
                heapq.heappush(held, (now + delay, next(order), other[end], frame))
        while held and held[0][0] <= now:
            _, _, out, frame = heapq.heappop(held)
            try:
                out.send(frame)
            except OSError:  # pulled, or its queue is full: a wire loses what it cannot carry
                continue


def _open(device: str) -> socket.socket:
    end = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    end.setsockopt(_SOL_PACKET, _PACKET_VNET_HDR, 1)
    end.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
    end.bind((device, _ETH_P_ALL))
    end.setblocking(False)
    return end
