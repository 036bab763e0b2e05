"""A server of the host's on Unix sockets, as agents, databases and desktops have them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.support.rootless_lab import RootlessLab

__all__ = ["UnixServer", "unix_server"]

_SERVER = r"""
import os, select, socket, sys, json
listeners = []
for kind, name in json.loads(sys.argv[1]):
    if name.startswith("/"):
        os.makedirs(os.path.dirname(name), exist_ok=True)
    one = socket.socket(socket.AF_UNIX, getattr(socket, kind))
    one.bind(name)
    if kind != "SOCK_DGRAM":
        one.listen(50)
    listeners.append(one)
print("ready", flush=True)
reached = 0
while True:
    ready, _, _ = select.select([0, *listeners], [], [])
    for one in listeners:
        if one in ready:
            reached += 1
            if one.type == socket.SOCK_DGRAM:
                one.recv(100)
            else:
                try:
                    one.accept()[0].send(b"secret")
                except BrokenPipeError:
                    pass
    if ready == [0]:
        break
print(reached, flush=True)
"""


@dataclass
class UnixServer:
    """`reached` is how many have connected, or sent a datagram; known once it has ended."""

    reached: int = field(default=-1)


@contextlib.contextmanager
def unix_server(lab: RootlessLab, *sockets: Sequence[str]) -> Iterator[UnixServer]:
    """Serves each `(kind, name)`, ``("SOCK_STREAM", "/path")``; a name without a slash in front is abstract."""
    names = [(kind, name if name.startswith("/") else "\0" + name) for kind, name in sockets]
    started = lab.start_on_client([lab.user.python, "-I", "-c", _SERVER, json.dumps(names)])
    assert started.line() == "ready\n", started.finish()
    server = UnixServer()
    try:
        yield server
    finally:
        server.reached = int(started.finish().out)
