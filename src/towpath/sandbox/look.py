"""Looks at what a TCP client says first, without taking it, until the policy can decide by name."""

from __future__ import annotations

import socket
from collections.abc import Callable

from towpath.errors import PeerViolation
from towpath.sandbox.loop import BOTH_EDGES, Loop
from towpath.wire import http_request, tls_hello

__all__ = ["FirstWords", "Look"]

_PATIENCE = 30.0
"""Seconds for a client to begin to speak. Under a name rule a server that speaks first is never heard."""
_MOST = 1 << 16
_HANDSHAKE = 22


class FirstWords:
    """`scheme` is "tls", "http" or "other"; `name` is the server's name in a ClientHello; `fault` says what was odd."""

    __slots__ = ("fault", "name", "scheme")

    def __init__(self, scheme: str, name: str | None = None, fault: str = "") -> None:
        self.scheme = scheme
        self.name = name
        self.fault = fault


def read(data: bytes) -> FirstWords | None:
    """What the first bytes of a stream are; `None` while it cannot be told."""
    if not data:
        return None
    if data[0] == _HANDSHAKE:
        try:
            hello = tls_hello.parse_stream(data)
        except PeerViolation as violation:
            return FirstWords("other", fault=str(violation))
        if hello is None:
            return FirstWords("other", fault="a ClientHello longer than 64 KiB") if len(data) >= _MOST else None
        return FirstWords("tls", hello.server_name)
    like = http_request.looks_like(data)
    if like is None:
        return None
    return FirstWords("http") if like else FirstWords("other", fault="neither TLS nor HTTP")


class Look:
    """Watches both sockets of a flow until `said(words)` can be called, or `gone(reason)`: one of them, once.

    Both sockets are unwatched again by then.
    """

    def __init__(
        self,
        loop: Loop,
        client: socket.socket,
        server: socket.socket,
        said: Callable[[FirstWords], None],
        gone: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._client = client
        self._server = server
        self._said = said
        self._gone = gone
        self._timer = loop.later(_PATIENCE, lambda: self._leave(FirstWords("other", fault="silent for 30 s")))
        loop.watch(client.fileno(), BOTH_EDGES, self._ready)
        loop.watch(server.fileno(), BOTH_EDGES, self._server_ready)
        self._ready(0)

    def _ready(self, _events: int) -> None:
        try:
            data = self._client.recv(_MOST, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            self._leave(None, "reset by the program before it said anything")
            return
        words = read(data)
        if not data:
            self._leave(None, "closed by the program before it said anything")
        elif words is not None:
            self._leave(words)

    def _server_ready(self, _events: int) -> None:
        error = self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._leave(None, "reset by the server before the program said anything")

    def _leave(self, words: FirstWords | None, reason: str = "") -> None:
        self._timer.cancel()
        self._loop.forget(self._client.fileno())
        self._loop.forget(self._server.fileno())
        if words is not None:
            self._said(words)
        else:
            self._gone(reason)
