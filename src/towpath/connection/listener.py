"""A listener: takes connections, and tells those that carry something from those that lost a race elsewhere."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from towpath.connection.arrival import Arrival
from towpath.connection.channel import Channel
from towpath.connection.connection import Connection
from towpath.connection.dialing import prepare, socket_address
from towpath.connection.endpoint import AddressEndpoint, Endpoint, UnixEndpoint
from towpath.connection.establishment import channel_for, endpoint_of
from towpath.connection.parameters import Parameters, Tcp
from towpath.connection.states import Lifecycle, State
from towpath.connection.udp_intake import UdpIntake
from towpath.errors import Cancelled, ConnectionFailed, Misuse
from towpath.kernel import system
from towpath.protocols.quic import Quic
from towpath.protocols.tls import Tls

if TYPE_CHECKING:
    from towpath.connection.bonjour_advertising import Advertisement
    from towpath.connection.quic_intake import QuicIntake
    from towpath.connection.quic_link import QuicLink
    from towpath.names.bonjour import BonjourService

__all__ = ["Listener"]

_BACKLOG = 1024
_BURST = 64
"""Connections that are taken before others of this loop get their turn."""
_GRACE = 1.0
"""Seconds after which a connection without a byte is no loser of a race any more: those are closed sooner."""
_PAUSE = 0.1
"""Seconds without accepting where the process has no descriptor left."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Listener:
    """Takes connections on one address or Unix socket; `parameters` are those of each of them. ::

        async def answer(connection: Connection) -> None:
            async for message in connection:
                await connection.send(message)

        async with Listener("[::1]:7", Parameters.tcp(framers=[Lines()])) as listener:
            await listener.serve(answer)

    A connection arrives not started, once its first byte is there: one that closes before is counted in
    `closed_before_data` and never seen, because clients that race several addresses leave such behind. One that is
    silent for a second arrives, too. Where the server has the first word, `speaks_first` lets all arrive at once.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        parameters: Parameters,
        *,
        limit: int | None = None,
        speaks_first: bool = False,
        advertise: BonjourService | None = None,
    ) -> None:
        """`limit` is how many connections may still arrive, `None` for any number; see `new_connection_limit`.

        `advertise` is announced on the link while it listens, with this listener's port; see `advertised`.
        """
        endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        if not isinstance(endpoint, AddressEndpoint | UnixEndpoint):
            error = Misuse(f"a listener needs an address or a Unix socket: {endpoint} is neither")
            error.hint = "all addresses of this machine are [::]:PORT"
            raise error
        self.endpoint: AddressEndpoint | UnixEndpoint = endpoint
        if isinstance(self.endpoint, UnixEndpoint) and not isinstance(parameters.transport, Tcp):
            raise Misuse("a listener on a Unix socket takes streams: datagrams there have nobody to answer to")
        if advertise is not None and isinstance(endpoint, UnixEndpoint):
            raise Misuse("nobody on the link can reach a Unix socket: it cannot be announced")
        for protocol in (parameters.transport, *parameters.layers):
            if isinstance(protocol, Quic | Tls) and protocol.identity is None:
                error = Misuse(f"a listener with {type(protocol).__name__} shows a certificate, and none was given")
                error.hint = "identity=(Path('chain.pem'), Path('key.pem')); a WebSocket listener without: secure=False"
                raise error
        self.parameters = parameters
        self.closed_before_data = 0
        self._advertisement: Advertisement | None = None
        if advertise is not None:
            from towpath.connection.bonjour_advertising import Advertisement

            self._advertisement = Advertisement(advertise)
        self._limit = limit
        self._speaks_first = speaks_first
        self._life = Lifecycle()
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accepting = False
        self._arrived: deque[Connection] = deque()
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}
        self._waiting: deque[Arrival] = deque()
        self._intake: UdpIntake | QuicIntake | None = None
        self.on_link: Callable[[QuicLink, AddressEndpoint | UnixEndpoint], None] | None = None
        """Takes whole QUIC connections instead of their streams: see `GroupListener`."""

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def local(self) -> AddressEndpoint | UnixEndpoint:
        """Where it listens, with the port that the system chose. Misuse before it is ready."""
        found = endpoint_of(self._socket.getsockname()) if self._socket is not None else None
        if found is None:
            raise Misuse("a listener has its address once it is ready")
        return found

    @property
    def new_connection_limit(self) -> int | None:
        """How many may still arrive; at 0 the others wait in the kernel until it is raised, or turn away."""
        return self._limit

    @new_connection_limit.setter
    def new_connection_limit(self, limit: int | None) -> None:
        self._limit = limit
        self._resume()

    def start(self) -> None:
        """Listens. Raises `ConnectionFailed` where the address cannot be had; needs a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._life.move(State.PREPARING)
        try:
            self._socket = self._open()
        except Exception as error:
            self._life.move(State.FAILED, error)
            raise
        if isinstance(self.parameters.transport, Quic):
            from towpath.connection.quic_intake import QuicIntake

            self._intake = QuicIntake(self._socket, self._loop, self.parameters, self._link_came, self._may_take)
        elif not isinstance(self.parameters.transport, Tcp):
            self._intake = UdpIntake(self._socket, self._loop, self.parameters, self._arrive, self._may_take)
        self._life.move(State.READY)
        self._resume()
        if self._advertisement is not None and isinstance(self.local, AddressEndpoint):
            self._advertisement.start(self.local.address, self.local.port)

    async def advertised(self) -> BonjourService:
        """The service under the name it got on the link, once it is announced.

        Raises `HostFault` where there is no multicast, `Misuse` for what cannot be announced, `Cancelled`.
        """
        if self._advertisement is None:
            raise Misuse("this listener announces nothing: give it a service to advertise")
        return await self._advertisement.announced()

    def cancel(self) -> None:
        """Stops listening. Connections that were handed out live on; those that were not are closed."""
        if self.state is State.CANCELLED:
            return
        self._pause()
        self._life.move(State.CANCELLED)
        if self._advertisement is not None:
            self._advertisement.cancel()
        for made, timer in self._silent.items():
            timer.cancel()
            if self._loop is not None:
                self._loop.remove_reader(made.fileno())
            made.close()
        self._silent.clear()
        for connection in self._arrived:
            connection.force_cancel()
        self._arrived.clear()
        if self._intake is not None:
            self._intake.close()
        elif self._socket is not None:
            self._socket.close()
        if self._socket is not None and isinstance(self.endpoint, UnixEndpoint) and not self.endpoint.abstract:
            Path(self.endpoint.path).unlink(missing_ok=True)
        while self._waiting:
            self._waiting.popleft().fire_soon()

    async def accept(self) -> Connection:
        """The next connection, not started. Raises `Cancelled`."""
        if self._loop is None:
            raise Misuse("a listener that is not started takes no connections")
        while not self._arrived:
            if self.state is not State.READY:
                raise Cancelled(f"{self.endpoint}: the listener was cancelled")
            arrival = Arrival(self._loop)
            self._waiting.append(arrival)
            try:
                await arrival
            finally:
                if arrival in self._waiting:
                    self._waiting.remove(arrival)
                elif self._arrived and self._waiting:
                    self._waiting.popleft().fire_soon()
        return self._arrived.popleft()

    async def __aiter__(self) -> AsyncGenerator[Connection, None]:
        """Connections, until the listener is cancelled."""
        while True:
            try:
                connection = await self.accept()
            except Cancelled:
                return
            yield connection

    async def serve(self, answer: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
        """Runs `answer` for each connection, ready and in a task of its own; ends with the listener.

        What a connection fails with ends its own task only; any other error is told to the loop's exception handler.
        """
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for connection in self:
                task = loop.create_task(_answer(connection, answer))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def __aenter__(self) -> Listener:
        if self.state is State.SETUP:
            self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()
        if self._advertisement is not None:
            await self._advertisement.ended()

    def __repr__(self) -> str:
        return f"<Listener {self.endpoint} {self.state}>"

    def _open(self) -> socket.socket:
        endpoint, parameters = self.endpoint, self.parameters
        stream = isinstance(parameters.transport, Tcp)
        if isinstance(endpoint, UnixEndpoint):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET if endpoint.address.version == 4 else socket.AF_INET6
        multipath = isinstance(parameters.transport, Tcp) and parameters.transport.multipath
        kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
        made = system.transports.open_socket(family, kind, multipath=multipath)
        try:
            if family != socket.AF_UNIX and stream:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if parameters.reuse_local_endpoint or (family != socket.AF_UNIX and not stream):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if parameters.path.required_interface is not None:
                system.transports.bind_to_interface(made, parameters.path.required_interface)
            if isinstance(endpoint, UnixEndpoint):
                _remove_stale(endpoint)
            made.bind(socket_address(endpoint))
            if stream:
                made.listen(_BACKLOG)
                if (
                    family != socket.AF_UNIX
                    and isinstance(parameters.transport, Tcp)
                    and parameters.transport.fast_open
                ):
                    system.transports.take_fast_open(made, _BACKLOG)
        except OSError as error:
            made.close()
            words = f"cannot listen: {os.strerror(error.errno or 0)}"
            hint = "something else listens there: see ss -ltnp" if error.errno == errno.EADDRINUSE else None
            raise ConnectionFailed(str(endpoint), words, errno=error.errno, hint=hint) from None
        return made

    def _resume(self) -> None:
        if self.state is not State.READY or self._socket is None or self._loop is None or self._accepting:
            return
        if self._may_take():
            self._accepting = True
            self._loop.add_reader(self._socket.fileno(), self._take)

    def _pause(self) -> None:
        if self._accepting and self._socket is not None and self._loop is not None:
            self._accepting = False
            self._loop.remove_reader(self._socket.fileno())

    def _may_take(self) -> bool:
        return self._limit is None or self._limit > len(self._silent)

    def _take(self) -> None:
        if self._intake is not None:
            self._intake.read()
            if not self._may_take():
                self._pause()
            return
        for _ in range(_BURST):
            if not self._may_take():
                self._pause()
                return
            if self._socket is None or self._loop is None:
                return
            try:
                made, name = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    return
                self._pause()
                self._loop.call_later(_PAUSE, self._resume)
                return
            made.setblocking(False)
            if self._speaks_first:
                self._hand_out(made)
            else:
                self._silent[made] = self._loop.call_later(_GRACE, self._judge, made, True)
                self._loop.add_reader(made.fileno(), self._judge, made, False)

    def _judge(self, made: socket.socket, patient: bool) -> None:
        """A connection that was silent so far has a byte, or has ended, or (`patient`) was silent for long."""
        timer = self._silent.pop(made)
        timer.cancel()
        if self._loop is not None:
            self._loop.remove_reader(made.fileno())
        try:
            alive = bool(made.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, InterruptedError):
            alive = patient
        except OSError:
            alive = False
        if alive:
            self._hand_out(made)
        else:
            self.closed_before_data += 1
            made.close()
            self._resume()

    def _hand_out(self, made: socket.socket) -> None:
        try:
            prepare(made, self.parameters)
            remote = endpoint_of(made.getpeername())
        except OSError:
            made.close()  # it has been reset meanwhile
            return
        self._arrive(made, remote)

    def _arrive(self, made: socket.socket, remote: AddressEndpoint | UnixEndpoint | None) -> Channel:
        if self._limit is not None:
            self._limit -= 1
        peer = remote or UnixEndpoint("unnamed", abstract=True)
        channel = channel_for(made, self.parameters, peer, is_server=True)
        self._queue(channel, peer)
        return channel

    def _queue(self, channel: Channel, peer: AddressEndpoint | UnixEndpoint) -> None:
        self._arrived.append(Connection.accepted(channel, peer, self.parameters))
        if self._waiting:
            self._waiting.popleft().fire_soon()

    def _link_came(self, link: QuicLink, peer: AddressEndpoint | UnixEndpoint) -> None:
        """A QUIC connection begins: each stream of the peer's is one connection here, or all of it a group."""
        if self._limit is not None:
            self._limit -= 1
        if self.on_link is not None:
            self.on_link(link, peer)
            return
        streams = 0

        def stream_came(channel: Channel) -> None:
            nonlocal streams
            streams += 1
            self._queue(channel, peer)

        def over() -> None:
            self.closed_before_data += not streams

        link.give_streams_to(stream_came, over)


async def _answer(connection: Connection, answer: Callable[[Connection], Coroutine[Any, Any, None]]) -> None:
    try:
        async with connection:
            await answer(connection)
    except asyncio.CancelledError:
        raise
    except Exception as error:
        if connection.error is None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": f"answering {connection.endpoint} failed", "exception": error}
            )


def _remove_stale(endpoint: UnixEndpoint) -> None:
    """Removes a socket file that nobody listens on any more, as a crash leaves one behind."""
    if endpoint.abstract:
        return
    try:
        if not stat.S_ISSOCK(os.lstat(endpoint.path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            probe.connect(endpoint.path)
    except ConnectionRefusedError:
        Path(endpoint.path).unlink(missing_ok=True)
    except OSError:
        return
