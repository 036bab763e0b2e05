"""Holds every packet of a netfilter queue back a while, so that others overtake it: late_packets.py QUEUE SECONDS."""

import select
import sys
import time
from collections import deque

from towpath.kernel import system

_ACCEPT = 1

queue = system.nfqueue.PacketQueue(int(sys.argv[1]))
late = float(sys.argv[2])
held: deque[tuple[float, int]] = deque()
queue.socket.setblocking(False)
print("ready", flush=True)
while True:
    wait = max(0.0, held[0][0] - time.monotonic()) if held else None
    if select.select([queue], [], [], wait)[0]:
        due = time.monotonic() + late
        held.extend((due, packet) for packet, _data in queue.receive())
    while held and held[0][0] <= time.monotonic():
        queue.verdict(held.popleft()[1], _ACCEPT)
