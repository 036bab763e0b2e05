"""Listens to what a TCP client says first, passing nothing on, until the policy can decide by name."""

from __future__ import annotations

import socket
from collections.abc import Callable

from towpath.errors import PeerViolation
from towpath.hosting.loop import ENDING, FAILING, READABLE, Loop, Patience
from towpath.wire import http_request, tls_hello

__all__ = ["PATIENCE", "FirstWords", "Look"]

PATIENCE = 30.0
"""Seconds for a client to begin to speak. Under a name rule a server that speaks first is never heard."""
_MOST = 1 << 16
_HANDSHAKE = 22


class FirstWords:
    """`scheme` is "tls", "http" or "other"; `name` and `length` are of a ClientHello; `fault` says what was odd."""

    __slots__ = ("fault", "length", "name", "scheme")

    def __init__(self, scheme: str, name: str | None = None, fault: str = "", length: int = 0) -> None:
        self.length = length
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
        return FirstWords("tls", hello.server_name, length=hello.length)
    like = http_request.looks_like(data)
    if like is None:
        return None
    return FirstWords("http") if like else FirstWords("other", fault="neither TLS nor HTTP")


class Look:
    """Watches both sockets of a flow until `said(look, words)` can be called, or `gone(reason)`: one of them, once.

    Both sockets stay watched then, for whoever adopts or leaves them. `heard` is what the client said so far;
    `client_events` and `server_events` are what has yet to be acted on.
    """

    __slots__ = (
        "_client", "_gone", "_patience", "_said", "_server", "client_events", "heard", "server_events",
    )  # fmt: skip

    def __init__(
        self,
        loop: Loop,
        patience: Patience,
        client: socket.socket,
        server: socket.socket,
        said: Callable[[Look, FirstWords], None],
        gone: Callable[[str], None],
    ) -> None:
        self._patience = patience
        self._client = client
        self._server = server
        self._said = said
        self._gone = gone
        self.heard = b""
        self.client_events = self.server_events = 0
        patience.begin(self, lambda: self._leave(FirstWords("other", fault="silent for 30 s")))
        loop.adopt(client.fileno(), self._client_ready)
        self._server_ready(loop.adopt(server.fileno(), self._server_ready))

    def _client_ready(self, events: int) -> None:
        if not events & READABLE:
            return
        while True:
            try:
                data = self._client.recv(_MOST - len(self.heard))
            except BlockingIOError:
                return
            except OSError:
                self._leave(None, "reset by the program before it said anything")
                return
            if not data:
                self._ended()
                return
            self.heard = self.heard + data if self.heard else data
            words = read(self.heard)
            if words is not None:
                if events & ENDING or len(self.heard) == _MOST:
                    self.client_events = events
                self._leave(words)
                return

    def _ended(self) -> None:
        if self.heard:
            self._leave(FirstWords("other", fault="closed before it said what it is"))
        else:
            self._leave(None, "closed by the program before it said anything")

    def _server_ready(self, events: int) -> None:
        self.server_events |= events
        if events & FAILING and self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._leave(None, "reset by the server before the program said anything")

    def _leave(self, words: FirstWords | None, reason: str = "") -> None:
        self._patience.end(self)
        if words is not None:
            self._said(self, words)
        else:
            self._gone(reason)
