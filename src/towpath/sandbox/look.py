"""Listens to what a TCP client says first, passing nothing on, until the policy can decide by name."""

from __future__ import annotations

import socket
from collections.abc import Callable

from towpath.hosting.first_words import MOST_HEARD, FirstWords, read
from towpath.hosting.loop import ENDING, FAILING, READABLE, Loop, Patience

__all__ = ["PATIENCE", "Look"]

PATIENCE = 30.0
"""Seconds for a client to begin to speak. Under a name rule a server that speaks first is never heard."""


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
                data = self._client.recv(MOST_HEARD - len(self.heard))
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
                if events & ENDING or len(self.heard) == MOST_HEARD:
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
