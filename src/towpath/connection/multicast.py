"""Datagrams to and from a multicast group, on every interface that may be used (RFC 1112, RFC 4291 section 2.7)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from types import TracebackType
from typing import cast

from towpath.connection.arrival import Arrival
from towpath.connection.dialing import socket_address
from towpath.connection.endpoint import AddressEndpoint, Endpoint
from towpath.connection.establishment import endpoint_of
from towpath.connection.parameters import Parameters, Udp
from towpath.errors import Cancelled, ConnectionFailed, Misuse
from towpath.kernel import system
from towpath.path import Interface, LinkFlag, list_interfaces
from towpath.path.marks import PathPolicy

__all__ = ["GroupMessage", "MulticastGroup"]

_READ = 1 << 16
_BURST = 64
_MAX_WAITING = 1024


@dataclass(frozen=True, slots=True)
class GroupMessage:
    """A datagram, and who sent it."""

    content: bytes
    sender: AddressEndpoint


class MulticastGroup:
    """A member of a multicast group of IPv4 or IPv6. ::

        async with MulticastGroup("224.0.0.199:5000") as group:
            await group.send(b"who is there?")
            async for message in group:
                await group.reply(message, b"me")

    A message goes out on each interface that was joined, and comes back to this machine's other members. A reply goes
    to its sender alone. Whoever does not receive in time loses the oldest, as datagrams may be lost anywhere.
    """

    def __init__(
        self,
        endpoint: Endpoint | str,
        parameters: Parameters | None = None,
        *,
        hops: int = 1,
        maximum: int = 65_507,
    ) -> None:
        """Joins nothing yet.

        The path requirements in `parameters` say on which interfaces. `hops` is how far messages go: 1 is the link.
        Larger messages than `maximum` bytes are left out. Raises `Misuse` for an address that is no group's.
        """
        endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        if not isinstance(endpoint, AddressEndpoint) or not endpoint.address.is_multicast:
            error = Misuse(f"{endpoint} is no multicast group")
            error.hint = "groups are in 224.0.0.0/4 and ff00::/8, such as 224.0.0.199:5000"
            raise error
        parameters = parameters or Parameters.udp()
        if not isinstance(parameters.transport, Udp) or parameters.layers:
            raise Misuse("a multicast group takes plain datagrams: use Parameters.udp() without framers")
        if not 0 <= hops <= 255:
            raise Misuse(f"a message goes over 0 to 255 hops: {hops} was given")
        self.endpoint = endpoint
        self.parameters = parameters
        self.interfaces: tuple[str, ...] = ()
        """Those that were joined."""
        self._hops = hops
        self._maximum = maximum
        self._sockets: list[socket.socket] = []
        self._own: dict[int, socket.socket] = {}
        self._messages: deque[GroupMessage] = deque()
        self._waiting: deque[Arrival] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Joins. Raises `ConnectionFailed` where no interface may be used; needs a running event loop."""
        if self._loop is not None:
            raise Misuse("a group is joined once")
        self._loop = asyncio.get_running_loop()
        wanted = [interface for interface in list_interfaces() if self._may_use(interface)]
        try:
            self._join(wanted)
        except OSError as error:
            self._close()
            words = f"cannot join: {os.strerror(error.errno or 0)}"
            raise ConnectionFailed(str(self.endpoint), words, errno=error.errno) from None
        if not self.interfaces:
            self._close()
            words = "there is no interface for multicast that may be used"
            hint = "towpath path --interfaces shows what there is"
            raise ConnectionFailed(str(self.endpoint), words, errno=errno.ENODEV, hint=hint)
        for made in self._sockets:
            self._loop.add_reader(made.fileno(), self._readable, made)

    def cancel(self) -> None:
        """Leaves the group; who waits gets `Cancelled`."""
        self._close()
        while self._waiting:
            self._waiting.popleft().fire_soon()

    async def send(self, content: bytes) -> None:
        """Sends to all members. Raises `Misuse` for what does not fit, `ConnectionFailed` when it left nowhere."""
        loop = self._running()
        failure: OSError | None = None
        for made in self._own.values():
            try:
                await loop.sock_sendto(made, content, self._target())
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    raise Misuse(f"{len(content)} bytes are too many for one datagram") from None
                failure = error
            else:
                loop = self._running()
        if failure is not None and len(self._own) == 1:
            raise ConnectionFailed(str(self.endpoint), os.strerror(failure.errno or 0), errno=failure.errno)

    async def reply(self, message: GroupMessage, content: bytes) -> None:
        """Answers the sender alone; it may do so much later."""
        loop = self._running()
        made = next(iter(self._own.values()))
        target = socket_address(message.sender)
        if len(target) == 4 and target[3] in self._own:
            made = self._own[int(target[3])]
        try:
            await loop.sock_sendto(made, content, cast("tuple[str, int]", target))
        except OSError as error:
            words = os.strerror(error.errno or 0)
            raise ConnectionFailed(str(message.sender), words, errno=error.errno) from None

    async def receive(self) -> GroupMessage:
        """The next message, of the group or an answer to this member. Raises `Cancelled`."""
        loop = self._running()
        while not self._messages:
            arrival = Arrival(loop)
            self._waiting.append(arrival)
            try:
                await arrival
            finally:
                if arrival in self._waiting:
                    self._waiting.remove(arrival)
            self._running()
        return self._messages.popleft()

    async def __aiter__(self) -> AsyncGenerator[GroupMessage, None]:
        """Messages, until the group is left."""
        while True:
            try:
                message = await self.receive()
            except Cancelled:
                return
            yield message

    async def __aenter__(self) -> MulticastGroup:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _may_use(self, interface: Interface) -> bool:
        if self.parameters.path.objection(interface, PathPolicy.default()) is not None:
            return False
        named = self.parameters.path.required_interface == interface.name
        able = LinkFlag.MULTICAST in interface.flags and LinkFlag.LOOPBACK not in interface.flags
        return interface.up and (able or named) and interface.has_address(self.endpoint.address.version)

    def _join(self, wanted: list[Interface]) -> None:
        if self.endpoint.address.version == 4:
            shared = self._member(socket_address(self.endpoint))
        for interface in wanted:
            own = self._open()
            self._sockets.append(own)
            own.bind(("", 0))
            if self.endpoint.address.version == 4:
                request = struct.pack("=4s4si", self.endpoint.address.packed, bytes(4), interface.index)
                shared.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
                own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
                own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, self._hops)
            else:
                # A group of link scope is another one on each link (RFC 4007 section 6), and so is its address.
                place = (*self._target(), 0, interface.index)
                request = self.endpoint.address.packed + struct.pack("=I", interface.index)
                self._member(place).setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
                own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
                own.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, self._hops)
            self._own[interface.index] = own
            self.interfaces = (*self.interfaces, interface.name)

    def _member(self, place: object) -> socket.socket:
        """A socket bound to the group, so that nothing else to its port comes here."""
        made = self._open()
        self._sockets.append(made)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(place)  # type: ignore[arg-type]
        return made

    def _open(self) -> socket.socket:
        family = socket.AF_INET if self.endpoint.address.version == 4 else socket.AF_INET6
        return system.transports.open_socket(family, socket.SOCK_DGRAM)

    def _target(self) -> tuple[str, int]:
        return str(self.endpoint.address).partition("%")[0], self.endpoint.port

    def _readable(self, made: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                content, name = made.recvfrom(_READ)
            except OSError:
                break
            sender = endpoint_of(name)
            if not isinstance(sender, AddressEndpoint) or len(content) > self._maximum:
                continue
            if len(self._messages) >= _MAX_WAITING:
                self._messages.popleft()
            self._messages.append(GroupMessage(content, sender))
        for _ in range(min(len(self._waiting), len(self._messages))):
            self._waiting.popleft().fire_soon()

    def _running(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise Misuse("join the group first: use it in an async with block")
        if not self._sockets:
            raise Cancelled(f"{self.endpoint}: this side left the group")
        return self._loop

    def _close(self) -> None:
        for made in self._sockets:
            if self._loop is not None:
                self._loop.remove_reader(made.fileno())
            made.close()
        self._sockets.clear()
        self._own.clear()
