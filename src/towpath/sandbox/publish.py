"""Servers inside a run, reached from the host's loopback: `--publish [HOSTPORT:]PORT`."""

from __future__ import annotations

import errno
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from towpath.errors import ConfigInvalid
from towpath.hosting.loop import IN, OUT, Loop
from towpath.kernel.system import SocketsMade, pipes, sockets
from towpath.policy.policy import Decision
from towpath.sandbox.flows import Flow
from towpath.sandbox.stream import Stream

if TYPE_CHECKING:
    from towpath.sandbox.filtering import Filtering
    from towpath.sandbox.report import Ledger

__all__ = ["Published", "parse_publish"]

_LOOPBACK = {4: "127.0.0.1", 6: "::1"}
_RESERVE = 16


def parse_publish(text: str) -> tuple[int, int]:
    """`(port of the host, port inside)` of ``[HOSTPORT:]PORT``; host port 0 takes a free one."""
    outer, _, inner = text.rpartition(":")
    try:
        port = int(inner)
        host_port = int(outer) if outer else port
    except ValueError:
        port = host_port = -1
    if not (0 <= host_port <= 65535 and 0 < port <= 65535):
        reason = f"{text!r} is not [HOSTPORT:]PORT with ports up to 65535"
        raise ConfigInvalid("--publish", reason, "for example --publish 8080:80")
    return host_port, port


class Published:
    """Listens on the host's loopback and joins each connection to one made inside the scope."""

    def __init__(
        self, loop: Loop, pool: pipes.PipePool, ledger: Ledger, request_sockets: Callable[[int, int], None]
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._ledger = ledger
        self._request = request_sockets
        self.filtering: Filtering | None = None
        self._inside: deque[socket.socket] = deque()
        self._waiting: deque[tuple[socket.socket, int]] = deque()
        self._listeners: list[socket.socket] = []

    def open(self, host_port: int, port: int) -> int:
        """Begins to listen; gives the host's port. Raises `ConfigInvalid` when it is taken."""
        try:
            listener = sockets.tcp_listener(4, _LOOPBACK[4], host_port, transparent=False)
        except OSError as error:
            why = "it is in use" if error.errno == errno.EADDRINUSE else str(error.strerror)
            raise ConfigInvalid(
                f"--publish {host_port}:{port}", f"cannot listen on 127.0.0.1:{host_port}: {why}", "choose another port"
            ) from None
        self._listeners.append(listener)
        self._loop.watch(listener.fileno(), IN, lambda _events: self._accept(listener, port))
        return int(listener.getsockname()[1])

    def start(self) -> None:
        """Asks for the first sockets, once the scope can make them."""
        if self._listeners:
            self._request(4, _RESERVE)

    def _accept(self, listener: socket.socket, port: int) -> None:
        try:
            client, _peer = listener.accept()
        except OSError:
            return
        client.setblocking(False)
        self._waiting.append((client, port))
        if len(self._inside) < _RESERVE // 2:
            self._request(4, _RESERVE)
        self._join()

    def provide(self, made: SocketsMade) -> None:
        self._inside.extend(made.sockets)
        self._join()

    def _join(self) -> None:
        while self._waiting and self._inside:
            client, port = self._waiting.popleft()
            inside = self._inside.popleft()
            inside.setblocking(False)
            flow = self._flow(client, port)
            if self.filtering is None:
                self._connect(client, inside, flow)
            else:
                self.filtering.ask(flow, partial(self._filtered, client, inside, flow))

    def _filtered(
        self, client: socket.socket, inside: socket.socket, flow: Flow, refusal: Decision | None, _silent: bool
    ) -> None:
        if refusal is None:
            self._connect(client, inside, flow)
        else:
            self._ledger.refused(flow, refusal)
            self._failed(client, inside, flow, errno.ECONNREFUSED)

    def _connect(self, client: socket.socket, inside: socket.socket, flow: Flow) -> None:
        code = inside.connect_ex((_LOOPBACK[4], flow.port))
        if code in (0, errno.EINPROGRESS):
            self._await(client, inside, flow)
        else:
            self._failed(client, inside, flow, code)

    def _await(self, client: socket.socket, inside: socket.socket, flow: Flow) -> None:
        self._loop.watch(inside.fileno(), OUT, lambda _events: self._connected(client, inside, flow))

    def _flow(self, client: socket.socket, port: int) -> Flow:
        host, source_port = client.getpeername()[:2]
        flow = Flow("tcp", socket.inet_aton(host), source_port, socket.inet_aton(_LOOPBACK[4]), port)
        flow.direction = "in"
        self._ledger.opened(flow, Decision("allow", None, f"--publish {port}", "address", None), ())
        return flow

    def _connected(self, client: socket.socket, inside: socket.socket, flow: Flow) -> None:
        self._loop.forget(inside.fileno())
        code = inside.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._failed(client, inside, flow, code)
            return

        filtering = self.filtering

        def done(sent: int, received: int, error: str) -> None:
            flow.sent, flow.received, flow.error = received, sent, error
            flow.packets = stream.packets
            self._ledger.closed(flow)

        holds = filtering.holds(flow) if filtering is not None else None
        stream = Stream(self._loop, self._pool, client, inside, done, holds=holds, counted=filtering is not None)
        if filtering is not None:
            filtering.join(flow, stream, partial(self._cut, flow, stream))
        stream.start()

    def _cut(self, flow: Flow, stream: Stream, refusal: Decision) -> None:
        self._ledger.refused(flow, refusal, begun=True)
        stream.cut()

    def _failed(self, client: socket.socket, inside: socket.socket, flow: Flow, code: int) -> None:
        inside.close()
        sockets.reset(client)
        flow.error = errno.errorcode.get(code, str(code))
        self._ledger.closed(flow)

    def close(self) -> None:
        for one in (*self._listeners, *self._inside, *(client for client, _ in self._waiting)):
            one.close()
