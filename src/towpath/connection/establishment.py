"""From an endpoint to a channel whose layers are ready: try, and while there is no path, wait and try again."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from ipaddress import ip_address

from towpath.connection.channel import Channel
from towpath.connection.datagram_channel import DatagramChannel
from towpath.connection.dialing import Candidate, connect, dial_one
from towpath.connection.endpoint import (
    AddressEndpoint,
    Endpoint,
    HostEndpoint,
    ServiceEndpoint,
    UnixEndpoint,
    UrlEndpoint,
)
from towpath.connection.parameters import Parameters, Tcp
from towpath.connection.race_candidates import Transport
from towpath.connection.report import AttemptReport, EstablishmentReport, ResolutionReport
from towpath.connection.stream_channel import StreamChannel
from towpath.connection.supervision import network_changed
from towpath.errors import ConnectionFailed, HostFault
from towpath.kernel import system
from towpath.kernel.network import Network
from towpath.path.watch import QUIET
from towpath.protocols.layer import Link
from towpath.protocols.message import Message
from towpath.protocols.quic import Quic

__all__ = ["Establishment", "channel_for", "endpoint_of", "link_for"]

_NO_PATH = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENODEV})


class Establishment:
    """Makes one channel, and keeps account of how."""

    def __init__(self, endpoint: Endpoint, parameters: Parameters, network: Network | None) -> None:
        self.accepted: Channel | None = None
        """The channel of a connection that a listener took, on which only the layers have to be started."""
        self.as_group = False
        """The channel is to carry the datagrams of a QUIC connection, not a stream of it."""
        self.early: list[Message] = []
        """Idempotent messages that were sent before ready."""
        self._endpoint = endpoint
        self._parameters = parameters
        self._network = network
        self._resolutions: list[ResolutionReport] = []
        self._attempts: list[AttemptReport] = []
        self._channel: Channel | None = None
        self._again: asyncio.Event | None = None
        self._begun = 0.0
        self._tried = 0.0
        self._tries = 0
        self._round_trip: float | None = None
        self._multipath = False
        self._seconds: float | None = None
        self.local: AddressEndpoint | UnixEndpoint | None = None
        self.remote: AddressEndpoint | UnixEndpoint | None = None

    @property
    def report(self) -> EstablishmentReport:
        return EstablishmentReport(
            resolutions=tuple(self._resolutions),
            attempts=tuple(self._attempts),
            handshakes=self._channel.handshakes if self._channel is not None else (),
            round_trip=self._round_trip,
            seconds=self._seconds,
            started_after=self._tried - self._begun if self._seconds is not None else None,
            earlier_tries=max(0, self._tries - 1),
            multipath=self._multipath,
        )

    @property
    def datagram_size(self) -> int | None:
        return self._channel.datagram_size if self._channel is not None else None

    def try_again(self) -> None:
        """Ends the wait for a path, if there is one."""
        if self._again is not None:
            self._again.set()

    async def run(self, waits: Callable[[Exception], None], tries: Callable[[], None]) -> Channel:
        """A channel whose layers are ready. `waits` and `tries` are called as it begins to wait, and tries anew."""
        loop = asyncio.get_running_loop()
        self._begun = loop.time()
        try:
            return await self._try(loop)
        except OSError as error:
            if self.accepted is not None or not _has_no_path(error):
                raise
        async with AsyncExitStack() as stack:
            # Once more after subscribing: what changed since the first try would else go unnoticed.
            self._again = await stack.enter_async_context(network_changed(self._network))
            while True:
                try:
                    return await self._try(loop)
                except OSError as error:
                    if not _has_no_path(error):
                        raise
                    waits(error)
                await self._again.wait()
                await asyncio.sleep(QUIET)  # the kernel tells of one change in many words
                self._again.clear()
                tries()

    async def _try(self, loop: asyncio.AbstractEventLoop) -> Channel:
        self._tries += 1
        self._tried = loop.time()
        channel = self._channel = self.accepted or await self._dial()
        try:
            if self.accepted is not None or not self._parameters.race_to_ready:
                channel.start()
            await channel.wait_ready()
        except ConnectionFailed as error:
            channel.abort()
            error.report = self.report
            raise
        except BaseException:
            channel.loop.call_soon(channel.close)
            raise
        self._note(loop)
        return channel

    async def _dial(self) -> Channel:
        try:
            target = self._endpoint.target if isinstance(self._endpoint, UrlEndpoint) else self._endpoint
            if isinstance(target, AddressEndpoint | UnixEndpoint):
                return await dial_one(target, self._attempt, self._attempts)
            if not isinstance(target, HostEndpoint | ServiceEndpoint):
                raise ConnectionFailed(str(target), f"nothing leads to a {type(target).__name__}")
            from towpath.connection.finding import find_and_dial

            if isinstance(self._parameters.transport, Quic):
                # Loaded once, before the race: it would take most of the head start that QUIC has.
                import towpath.connection.quic_dialing  # noqa: F401

            noted = self._resolutions, self._attempts
            return await find_and_dial(target, self._attempt, Channel.abort, self._parameters, self._network, *noted)
        except ConnectionFailed as error:
            error.endpoint = str(self._endpoint)
            error.report = self.report
            raise

    async def _attempt(self, candidate: Candidate, transport: Transport = "tcp") -> Channel:
        parameters = self._parameters.over(transport)
        if isinstance(parameters.transport, Quic):
            from towpath.connection.quic_dialing import dial_quic

            link = link_for(self._endpoint)
            return await dial_quic(candidate, parameters, link, self._network, early=self.early, as_group=self.as_group)
        made = await connect(candidate, parameters, self._network)
        channel = channel_for(made, parameters, self._endpoint)
        if parameters.race_to_ready:
            try:
                channel.start()
                await channel.wait_ready()
            except BaseException:
                channel.abort()
                raise
        return channel

    def _note(self, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = loop.time() - self._tried
        channel = self._channel
        if channel is None or channel.socket.fileno() < 0:
            return
        try:
            self.local, self.remote = map(endpoint_of, channel.names)
        except OSError:
            return  # the peer has left already, which the channel finds out by itself
        made, transport = channel.socket, channel.parameters.transport
        if isinstance(transport, Tcp) and made.family != socket.AF_UNIX:
            self._round_trip = system.transports.stream_figures(made).round_trip or None
            self._multipath = transport.multipath and system.transports.is_multipath(made)


def channel_for(made: socket.socket, parameters: Parameters, endpoint: Endpoint, *, is_server: bool = False) -> Channel:
    """The channel for a connected socket; its layers know `endpoint` as the peer that was meant."""
    link = link_for(endpoint, is_server=is_server)
    kind = StreamChannel if isinstance(parameters.transport, Tcp) else DatagramChannel
    return kind(made, parameters, link, asyncio.get_running_loop())


def link_for(endpoint: Endpoint, *, is_server: bool = False) -> Link:
    """What the layers of a connection may know of a peer that is meant by `endpoint`."""
    target = endpoint.target if isinstance(endpoint, UrlEndpoint) else endpoint
    host = None
    if isinstance(target, HostEndpoint):
        host = target.host
    elif isinstance(target, AddressEndpoint):
        host = str(target.address)
    url = endpoint.url if isinstance(endpoint, UrlEndpoint) else None
    return Link(asyncio.get_running_loop().time, is_server, host, url)


def endpoint_of(name: object) -> AddressEndpoint | UnixEndpoint | None:
    """The endpoint in what getsockname(2) and getpeername(2) give; `None` for a Unix socket without a name."""
    if isinstance(name, tuple):
        host, port = str(name[0]), int(name[1])
        if len(name) == 4 and name[3] and "%" not in host:
            host += f"%{_name_of(int(name[3]))}"
        return AddressEndpoint(ip_address(host), port)
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    if isinstance(name, str) and name.strip("\0"):
        return UnixEndpoint(name.lstrip("\0"), abstract=name.startswith("\0")) if _fits(name) else None
    return None


def _fits(name: str) -> bool:
    return name.startswith(("/", "\0")) and "\0" not in name.lstrip("\0")


def _name_of(index: int) -> str:
    try:
        return socket.if_indextoname(index)
    except OSError:
        return str(index)


def _has_no_path(error: OSError) -> bool:
    return isinstance(error, (ConnectionFailed, HostFault)) and error.errno in _NO_PATH
