"""Many connections to one peer over one: the streams and datagrams of a QUIC connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator

from towpath.connection.arrival import Arrival
from towpath.connection.connection import Connection
from towpath.connection.endpoint import Endpoint
from towpath.connection.lifetime import Lifetime
from towpath.connection.parameters import Parameters
from towpath.connection.quic_channel import QuicStreamChannel
from towpath.connection.quic_link import QuicLink
from towpath.connection.report import EstablishmentReport
from towpath.connection.states import State
from towpath.errors import Misuse
from towpath.kernel.network import Network
from towpath.protocols.quic import Quic, QuicDetails

__all__ = ["ConnectionGroup"]


class ConnectionGroup(Lifetime):
    """One QUIC connection whose streams are connections of their own. ::

        async with ConnectionGroup("news.example:443", Parameters.quic(alpn=["news"])) as group:
            async with group.open() as connection:
                await connection.send(b"hello", context=FINAL)
                print(await connection.receive_message())
            await group.datagrams.send(b"now or never")

    Both sides open streams. Its states are those of a connection; it fails and ends as a whole, its streams with it.
    """

    def __init__(self, endpoint: Endpoint | str, parameters: Parameters, *, network: Network | None = None) -> None:
        """Connects to nothing yet; raises `Misuse` for parameters that are not of QUIC."""
        if not isinstance(parameters.transport, Quic) or parameters.otherwise is not None:
            error = Misuse("a group needs QUIC, and no other way beside it")
            error.hint = "use Parameters.quic(alpn=[...]) without otherwise"
            raise error
        self._set_up(Connection.of_group(endpoint, parameters, network=network), parameters)

    def _set_up(self, root: Connection, parameters: Parameters) -> None:
        self.datagrams = root
        """Datagrams as messages (RFC 9221); they may be lost, and come in any order."""
        self.parameters = parameters
        self._link: QuicLink | None = None
        self._arrived: deque[Connection] = deque()
        self._waiting: deque[Arrival] = deque()
        self._members: list[Connection] = []

    @classmethod
    def accepted(cls, link: QuicLink, remote: Endpoint, parameters: Parameters) -> ConnectionGroup:
        """A group that a listener took, not started."""
        made = cls.__new__(cls)
        made._set_up(Connection.accepted(link.datagrams(), remote, parameters), parameters)
        made._adopt(link)
        return made

    @property
    def state(self) -> State:
        return self.datagrams.state

    @property
    def error(self) -> Exception | None:
        return self.datagrams.error

    @property
    def endpoint(self) -> Endpoint:
        return self.datagrams.endpoint

    @property
    def report(self) -> EstablishmentReport:
        """How it came to be; the handshake ``Quic`` has the verdict on the peer in its `QuicDetails`."""
        return self.datagrams.report

    @property
    def details(self) -> QuicDetails | None:
        """What was agreed; `None` before ready."""
        return self._link.engine.details if self._link is not None else None

    async def ready(self) -> None:
        """Returns when it is ready, and starts it before that; raises as `Connection.ready` does."""
        await self.datagrams.ready()
        if self._link is None:
            link = self.datagrams.quic_link
            if link is None:
                raise Misuse("a group without QUIC")
            self._adopt(link)

    def open(self, *, unidirectional: bool = False) -> Connection:
        """A connection on a new stream, not started; one that is unidirectional only sends. Needs a ready group."""
        if self._link is None or self._link.engine.details is None:
            raise Misuse("a group opens streams once it is ready")
        return self._member(self._link.open(unidirectional=unidirectional))

    async def accept(self) -> Connection:
        """The next connection that the peer opens, not started. Raises what ended the group."""
        await self.ready()
        while not self._arrived:
            if self.state is not State.READY or (self._link is not None and self._link.error is not None):
                raise self.error or (self._link.error if self._link is not None else None) or Misuse("it is over")
            arrival = Arrival(asyncio.get_running_loop())
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
        """Connections that the peer opens; ends with the group, whatever ended it."""
        await self.ready()
        while True:
            try:
                connection = await self.accept()
            except Exception:
                return
            yield connection

    def ping(self) -> None:
        """Makes the peer answer, so that silence is noticed and routers keep their state."""
        if self._link is None:
            raise Misuse("a group pings once it is ready")
        self._link.engine.ping()
        self._link.flush_soon()

    async def move(self) -> None:
        """Goes on from another local address or port, as after a change of network; the client's side alone."""
        if self._link is None:
            raise Misuse("a group moves once it is ready")
        await self._link.move()

    def cancel(self, code: int = 0) -> None:
        """Ends all of it in order: what was sent goes out; the peer is told `code`, the application's own."""
        if self._link is not None:
            self._link.code = code
        for connection in (*self._members, *self._arrived):
            connection.cancel()
        self.datagrams.cancel()

    def force_cancel(self, code: int = 0, reason: str = "") -> None:
        """Ends all of it at once, with a code and a reason for the peer."""
        if self._link is not None:
            self._link.close(code, reason)
        for connection in (*self._members, *self._arrived):
            connection.force_cancel()
        self.datagrams.force_cancel()

    async def closed(self) -> None:
        """Returns when nothing of it is left."""
        await self.datagrams.closed()

    def __repr__(self) -> str:
        return f"<ConnectionGroup {self.endpoint} {self.state}>"

    def _adopt(self, link: QuicLink) -> None:
        self._link = link
        link.give_streams_to(self._take, self._over)

    def _take(self, channel: QuicStreamChannel) -> None:
        self._arrived.append(self._member(channel))
        if self._waiting:
            self._waiting.popleft().fire_soon()

    def _member(self, channel: QuicStreamChannel) -> Connection:
        made = Connection.accepted(channel, self.endpoint, self.parameters)
        self._members = [member for member in self._members if member.state is not State.CANCELLED]
        self._members.append(made)
        return made

    def _over(self) -> None:
        while self._waiting:
            self._waiting.popleft().fire_soon()
