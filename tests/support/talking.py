"""A program that talks to a host, as the tests of filters use it."""

from __future__ import annotations

from tests.support.running import python

__all__ = ["talk"]

TALK = """
import socket, sys, time
patience, kind, host, port, *words = sys.argv[1:]
family, _, _, _, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
s = socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
s.settimeout(float(patience))
try:
    s.connect(address)
    if kind == "tcp":
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for word in words:
        if word.startswith("wait"):
            time.sleep(float(word[4:]))
        else:
            s.sendall(word.encode())
    heard, wanted = s.recv(1000), sum(len(word) for word in words if not word.startswith("wait"))
    while kind == "tcp" and 0 < len(heard) < wanted:  # a stream may come in pieces
        heard += s.recv(1000) or bytes(wanted)
    print("heard", heard)
except OSError as error:
    print("failed", type(error).__name__)
"""


def talk(*words: object, patience: float = 60) -> list[str]:
    """A program that says words to a host and prints what it hears, or how it failed; silence is one way to."""
    return [*python(TALK), str(patience), *(str(word) for word in words)]
