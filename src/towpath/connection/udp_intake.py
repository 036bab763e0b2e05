"""How a listener takes UDP: each peer's first datagram makes a connected socket of its own.

The kernel prefers a connected socket over the listening one, so later datagrams of that peer need no look-up here.
Datagrams that came before that are still read here, and are passed on to the peer's channel.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from weakref import WeakValueDictionary

from towpath.connection.datagram_channel import DatagramChannel
from towpath.connection.dialing import prepare
from towpath.connection.endpoint import AddressEndpoint, UnixEndpoint
from towpath.connection.establishment import endpoint_of
from towpath.connection.parameters import Parameters
from towpath.kernel import system

__all__ = ["UdpIntake"]

_READ = 1 << 16
_BURST = 64

Arrive = Callable[[socket.socket, "AddressEndpoint | UnixEndpoint | None"], object]


class UdpIntake:
    """Reads the listening socket and hands out a connected one for each new peer, with its first datagram."""

    def __init__(
        self,
        listening: socket.socket,
        loop: asyncio.AbstractEventLoop,
        parameters: Parameters,
        arrive: Arrive,
        may_take: Callable[[], bool],
    ) -> None:
        self._listening = listening
        self._loop = loop
        self._parameters = parameters
        self._arrive = arrive
        self._may_take = may_take
        self._peers: WeakValueDictionary[object, DatagramChannel] = WeakValueDictionary()

    def read(self) -> None:
        """Takes what is there."""
        for _ in range(_BURST):
            if not self._may_take():
                return
            try:
                data, name = self._listening.recvfrom(_READ)
            except OSError:
                return
            self._take(data, name)

    def close(self) -> None:
        self._listening.close()

    def _take(self, data: bytes, name: object) -> None:
        known = self._peers.get(name)
        if known is not None and not known.is_closed:
            known.take(data)
            return
        made = system.transports.open_socket(self._listening.family, socket.SOCK_DGRAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.bind(self._listening.getsockname())
            made.connect(name)  # type: ignore[arg-type]
            prepare(made, self._parameters)
        except OSError:
            made.close()  # the peer's address cannot be answered; a datagram may be lost
            return
        channel = self._arrive(made, endpoint_of(name))
        if isinstance(channel, DatagramChannel):
            self._peers[name] = channel
            channel.take(data)
