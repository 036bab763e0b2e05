"""What carries DNS messages on asyncio: UDP, TCP and multicast DNS. Other transports bring a `Dial` of their own."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Protocol

from towpath.errors import Misuse
from towpath.names.client import Server
from towpath.names.framing import MessageReader, framed
from towpath.path import Interfaces, list_interfaces

__all__ = ["Channel", "Dial", "dial"]

_CHUNK = 1 << 16
_MULTICAST_HOPS = 255


class Channel(Protocol):
    """Whole DNS messages to one server and back. Its methods raise `OSError` when the server cannot be reached."""

    async def send(self, message: bytes) -> None: ...

    async def receive(self) -> bytes: ...

    def close(self) -> None: ...


Dial = Callable[[Server, str], Awaitable[Channel]]
"""Opens a channel to a server by a protocol. Raises `OSError`."""


async def dial(server: Server, protocol: str) -> Channel:
    """A channel by the protocol of a `Server`, from a port that the kernel draws. Raises `OSError`, `Misuse`.

    Certificates are checked against the system's authorities; `towpath.names.secure_channel` has the others.
    """
    family = socket.AF_INET6 if ":" in server.address else socket.AF_INET
    if protocol == "mdns":
        return _Multicast(server, family)
    if protocol in ("tls", "https", "quic"):
        from towpath.names.secure_channel import SecureDial

        return await SecureDial()(server, protocol)
    if protocol not in ("udp", "tcp"):
        raise Misuse(f"nothing here speaks DNS over {protocol}")
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    endpoint = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        # Connected also for UDP: the kernel drops what others send, and tells when nobody listens there.
        await asyncio.get_running_loop().sock_connect(endpoint, address_of(server, family))
    except BaseException:
        endpoint.close()
        raise
    return _Stream(endpoint) if protocol == "tcp" else _Datagrams(endpoint)


def address_of(server: Server, family: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """The address as a socket takes it, without asking anybody; a zone by its number."""
    if family == socket.AF_INET:
        return server.address, server.port
    plain, _, zone = server.address.partition("%")
    index = 0
    if zone:
        index = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    return plain, server.port, 0, index


def is_neighbour(sender: str, interfaces: Interfaces) -> bool:
    """Whether an address is on a link of this machine: link-local, or in the network of one of its addresses."""
    address = ip_address(sender.partition("%")[0])
    return address.is_link_local or any(
        address in own.network
        for interface in interfaces
        for own in interface.addresses
        if own.address.version == address.version
    )


class _Datagrams:
    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint

    async def send(self, message: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._endpoint, message)

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self._endpoint, _CHUNK)

    def close(self) -> None:
        self._endpoint.close()


class _Stream:
    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint
        self._reader = MessageReader()
        self._waiting: deque[bytes] = deque()

    async def send(self, message: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._endpoint, framed(message))

    async def receive(self) -> bytes:
        while not self._waiting:
            data = await asyncio.get_running_loop().sock_recv(self._endpoint, _CHUNK)
            if not data:
                raise ConnectionResetError("the server ended the stream")
            self._waiting.extend(self._reader.receive(data))
        return self._waiting.popleft()

    def close(self) -> None:
        self._endpoint.close()


class _Multicast:
    """One question to all on the link, answered to this socket alone (RFC 6762 section 6.7).

    Asked on every interface that takes it; answers of others than neighbours are dropped (section 11). Link-local
    addresses in an answer come without a zone, as the answer does not say which interface it came by; a name's other
    addresses need none.
    """

    def __init__(self, group: Server, family: int) -> None:
        self._group = group
        self._family = family
        self._interfaces = list_interfaces()
        self._endpoint = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        if family == socket.AF_INET:
            self._endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _MULTICAST_HOPS)
        else:
            self._endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _MULTICAST_HOPS)

    async def send(self, message: bytes) -> None:
        sent = 0
        refused: OSError | None = None
        for index, _name in socket.if_nameindex():
            try:
                self._choose(index)
                self._endpoint.sendto(message, address_of(self._group, self._family))
                sent += 1
            except OSError as error:
                refused = error
        if not sent:
            raise refused or OSError("there is no interface")

    def _choose(self, index: int) -> None:
        if self._family == socket.AF_INET6:
            self._endpoint.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            # struct ip_mreqn: group, local address, interface index.
            self._endpoint.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("8xi", index))

    async def receive(self) -> bytes:
        while True:
            data, sender = await asyncio.get_running_loop().sock_recvfrom(self._endpoint, _CHUNK)
            if is_neighbour(str(sender[0]), self._interfaces):
                return data

    def close(self) -> None:
        self._endpoint.close()
