"""From an address to a QUIC connection whose handshake is over."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Sequence
from typing import cast

from towpath.connection.dialing import Candidate, connect, socket_address
from towpath.connection.endpoint import AddressEndpoint
from towpath.connection.parameters import Parameters
from towpath.connection.quic_channel import QuicChannel
from towpath.connection.quic_link import QuicLink
from towpath.errors import ConnectionFailed, HostFault, Misuse
from towpath.kernel.network import Network
from towpath.protocols.layer import Link
from towpath.protocols.message import Message
from towpath.protocols.quic_engine import Address

__all__ = ["dial_quic"]

_READ = 1 << 16
_BURST = 64
_PAUSE = 1.0
"""Seconds between two attempts to find another way: routes that change do so in bursts."""


async def dial_quic(
    candidate: Candidate,
    parameters: Parameters,
    link: Link,
    network: Network | None,
    *,
    early: Sequence[Message] = (),
    as_group: bool = False,
) -> QuicChannel:
    """A channel on a new connection: of a stream, or with `as_group` of its datagrams.

    `early` are idempotent messages; they leave with the first packet where a ticket allows it, and are the caller's to
    send otherwise: `QuicChannel.messages_sent` says. Raises `ConnectionFailed`, `TrustRefused`.
    """
    if not isinstance(candidate, AddressEndpoint):
        raise Misuse("QUIC leads to addresses, not to Unix sockets")
    carrier = _ClientCarrier(await connect(candidate, parameters, network), candidate, parameters, network)
    try:
        made = QuicLink(parameters, link, carrier)
        carrier.serve(made)
        made.connect(carrier.address)
        channel: QuicChannel = made.datagrams() if as_group else made.open()
    except BaseException:
        carrier.close()
        raise
    try:
        if early and made.engine.may_send_early:
            channel.start()
            if channel.is_ready:
                for message in early:
                    channel.send(message)
        made.flush()
        await made.ready()
    except BaseException:
        made.close()
        raise
    return channel


class _ClientCarrier:
    """A connected socket for one link; another one takes its place when the way changes (RFC 9000 section 9)."""

    def __init__(
        self, made: socket.socket, candidate: AddressEndpoint, parameters: Parameters, network: Network | None
    ) -> None:
        self.socket = made
        self.address = cast("Address", socket_address(candidate))
        self._candidate = candidate
        self._parameters = parameters
        self._network = network
        self._link: QuicLink | None = None
        self._loop = asyncio.get_running_loop()
        self._moving: asyncio.Task[None] | None = None

    def serve(self, link: QuicLink) -> None:
        self._link = link
        self._loop.add_reader(self.socket.fileno(), self._readable)

    def carry(self, data: bytes, address: Address) -> None:
        try:
            self.socket.send(data)
        except (BlockingIOError, InterruptedError, ConnectionRefusedError):
            return
        except OSError:
            self._begin_to_move()

    async def move(self) -> None:
        moving = self._begin_to_move()
        if moving is not None:
            await asyncio.wait([moving])

    def _begin_to_move(self) -> asyncio.Task[None] | None:
        """Looks for the way anew, with a new socket; once at a time."""
        if self._moving is None and self._link is not None:
            self._moving = self._loop.create_task(self._move())
        return self._moving

    def ended(self, link: QuicLink) -> None:
        self._link = None
        if self._moving is not None:
            self._moving.cancel()
        self.close()

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self._loop.remove_reader(self.socket.fileno())
            self.socket.close()

    def identified(self, link: QuicLink, identifier: bytes) -> None:
        """A socket of its own needs no telling apart."""

    def retired(self, identifier: bytes) -> None:
        """As above."""

    def _readable(self) -> None:
        for _ in range(_BURST):
            link = self._link
            if link is None:
                return
            try:
                data = self.socket.recv(_READ)
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionRefusedError as error:
                # Once there is a connection, only silence ends it: anybody can forge this word of a router.
                if link.engine.details is None:
                    words = os.strerror(errno.ECONNREFUSED)
                    link.closed(ConnectionFailed(str(self._candidate), words, errno=error.errno))
                return
            except OSError:
                self._begin_to_move()
                return
            link.received(data, self.address)

    async def _move(self) -> None:
        try:
            while self._link is not None:
                try:
                    made = await connect(self._candidate, self._parameters.but(local=None), self._network)
                except (ConnectionFailed, HostFault):
                    await asyncio.sleep(_PAUSE)
                    continue
                link = self._link
                self.close()
                self.socket = made
                self._loop.add_reader(made.fileno(), self._readable)
                link.engine.change_path()
                link.engine.ping()
                link.flush()
                return
        finally:
            self._moving = None
