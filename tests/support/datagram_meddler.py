"""Carries datagrams between whoever sends to it and a server, and does something to them on the way.

``python -m tests.support.datagram_meddler PORT SERVER SERVER_PORT WHAT``; it says "ready". WHAT is what happens to
every third datagram, each way: `reorder` (two others overtake it), `duplicate` (it comes again, and once more later),
`garbage` (random bytes come after it), `nothing`. `corrupt` (a bit is another) and `truncate` (half of it) happen to
one in eight, by chance: a TCP that tries again may otherwise be the third each time.
"""

from __future__ import annotations

import os
import random
import select
import socket
import sys
from typing import Any

__all__: list[str] = []

_EACH = 3
_SPOILT = 1 / 8
_LARGEST = 65_535
_PATIENCE = 0.05


class Way:
    """One direction; `send` is the next hop."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._held: list[tuple[int, bytes]] = []
        self._random = random.Random(7)

    def take(self, data: bytes) -> list[bytes]:
        """What goes on when this has come."""
        self._count += 1
        out = [] if self._what == "reorder" and self._count % _EACH == 0 else [data]
        if self._count % _EACH == 0:
            if self._what in ("reorder", "duplicate"):
                self._held.append((self._count + 2, data))
            if self._what == "duplicate":
                out.append(data)
            elif self._what == "garbage":
                kind = bytes([self._random.randrange(6), 0, 0, 0])
                out += [kind + os.urandom(self._random.choice((0, 8, 60, 88, 144, 1400)))]
        if self._what == "corrupt" and data and self._random.random() < _SPOILT:
            at = self._random.randrange(len(data))
            out = [data[:at] + bytes([data[at] ^ 1 << self._random.randrange(8)]) + data[at + 1 :]]
        elif self._what == "truncate" and self._random.random() < _SPOILT:
            out = [data[: len(data) // 2]]
        out += [held for due, held in self._held if due <= self._count]
        self._held = [(due, held) for due, held in self._held if due > self._count]
        return out

    def rest(self) -> list[bytes]:
        """Nothing more comes for now: what was held goes."""
        out, self._held = [data for _due, data in self._held], []
        return out


def _send_all(by: socket.socket, datagrams: list[bytes], to: Any) -> None:
    for data in datagrams:
        if to is None:
            by.send(data)
        else:
            by.sendto(data, to)


def main() -> None:
    port, server, server_port, what = sys.argv[1:]
    near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    near.bind(("", int(port)))
    far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    far.connect((server, int(server_port)))
    for each in (near, far):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    client = None
    outward, inward = Way(what), Way(what)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while True:
        ready, _, _ = select.select([near, far], [], [], _PATIENCE)
        if near in ready:
            data, client = near.recvfrom(_LARGEST)
            _send_all(far, outward.take(data), None)
        if far in ready and client is not None:
            _send_all(near, inward.take(far.recv(_LARGEST)), client)
        if not ready:
            _send_all(far, outward.rest(), None)
            _send_all(near, inward.rest(), client)


if __name__ == "__main__":
    main()
