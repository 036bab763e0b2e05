"""Many peers of one server that have nothing to say: each has a session, and keeps it alive.

idle_peers.py SERVER PORT SERVER_KEY PREFIX SECONDS, the private keys on its input, one a line; all in base64 but
PREFIX, which is hexadecimal and stands before each message (a protocol that carries these handshakes within its own).
SECONDS is the interval of keepalives. It says "up" when all have a session, and ends with its input.
"""

import base64
import selectors
import socket
import sys
import time

from towpath.extensions.wireguard.device import Device
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.extensions.wireguard.peer import Peer

_AT_ONCE = 20
"""Handshakes begun in one turn: a server under load would ask for cookies, which is another test's business."""
_TURN = 0.5


class IdlePeer:
    """A client of WireGuard that sends keepalives alone."""

    def __init__(self, secret: bytes, server: tuple[str, int], public: bytes, prefix: bytes, seconds: int) -> None:
        self._prefix = prefix
        self._server = server
        self._device = Device(PrivateKey(secret), wall=time.time)
        self.peer = self._device.add(Peer(public, endpoint=server, keepalive=seconds))
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        self.socket.connect(server)

    def begin(self) -> None:
        self._device.initiate(self.peer, time.monotonic(), wanted=True)
        self._flush()

    def hear(self) -> None:
        data = self.socket.recv(2048)[len(self._prefix) :]
        self._device.receive(data, self._server, time.monotonic())
        self._flush()

    def tick(self) -> None:
        self._device.tick(time.monotonic())
        self._flush()

    def _flush(self) -> None:
        for _peer, message in self._device.take_outgoing():
            self.socket.send(self._prefix + message)


def main() -> None:
    server, port, public, prefix, seconds = sys.argv[1:]
    place, key = (server, int(port)), base64.b64decode(public)
    secrets = []
    while line := sys.stdin.readline().strip():
        secrets.append(base64.b64decode(line))
    peers = [IdlePeer(secret, place, key, bytes.fromhex(prefix), int(seconds)) for secret in secrets]
    selector = selectors.DefaultSelector()
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    for peer in peers:
        selector.register(peer.socket, selectors.EVENT_READ, peer)
    waiting, said, turn = list(peers), False, time.monotonic()
    while True:
        for key_, _events in selector.select(_TURN):
            if key_.data is None:
                return
            key_.data.hear()
        if time.monotonic() >= turn:
            turn = time.monotonic() + _TURN
            for peer in waiting[:_AT_ONCE]:
                peer.begin()
            waiting = waiting[_AT_ONCE:]
            for peer in peers:
                if peer not in waiting:
                    peer.tick()
        if not said and all(peer.peer.handshakes for peer in peers):
            said = True
            print("up", flush=True)


main()
