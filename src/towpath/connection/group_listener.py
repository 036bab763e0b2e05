"""A listener that hands out whole QUIC connections, each as a group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from types import TracebackType

from towpath.connection.endpoint import AddressEndpoint, Endpoint, UnixEndpoint
from towpath.connection.group import ConnectionGroup
from towpath.connection.listener import Listener
from towpath.connection.parameters import Parameters
from towpath.connection.quic_link import QuicLink
from towpath.errors import Cancelled, Misuse
from towpath.protocols.quic import Quic

__all__ = ["GroupListener"]


class GroupListener:
    """Takes QUIC connections on one address; those that the peer opens on them come from each `ConnectionGroup`. ::

        async with GroupListener("[::]:443", Parameters.quic(alpn=["news"], identity=files)) as listener:
            async for group in listener:
                ...

    A group arrives not started, its handshake under way: `ready` says what becomes of it.
    """

    def __init__(self, endpoint: Endpoint | str, parameters: Parameters, *, limit: int | None = None) -> None:
        """`limit` is how many groups may arrive, `None` for any number."""
        if not isinstance(parameters.transport, Quic):
            raise Misuse("groups arrive by QUIC: use Parameters.quic, or a Listener")
        self._listener = Listener(endpoint, parameters, limit=limit)
        self._listener.on_link = self._came
        self._arrived: asyncio.Queue[ConnectionGroup | None] = asyncio.Queue()

    @property
    def local(self) -> AddressEndpoint | UnixEndpoint:
        """Where it listens. Misuse before it is ready."""
        return self._listener.local

    def start(self) -> None:
        """Listens. Raises `ConnectionFailed` where the address cannot be had; needs a running event loop."""
        self._listener.start()

    def cancel(self) -> None:
        """Stops listening. Groups that were handed out live on; those that were not are ended."""
        self._listener.cancel()
        while not self._arrived.empty():
            group = self._arrived.get_nowait()
            if group is not None:
                group.force_cancel()
        self._arrived.put_nowait(None)

    async def accept(self) -> ConnectionGroup:
        """The next group, not started. Raises `Cancelled`."""
        group = await self._arrived.get()
        if group is None:
            self._arrived.put_nowait(None)  # whoever else waits is to learn of it, too
            raise Cancelled(f"{self._listener.endpoint}: the listener was cancelled")
        return group

    async def __aiter__(self) -> AsyncGenerator[ConnectionGroup, None]:
        """Groups, until the listener is cancelled."""
        while True:
            try:
                group = await self.accept()
            except Cancelled:
                return
            yield group

    async def __aenter__(self) -> GroupListener:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def _came(self, link: QuicLink, peer: AddressEndpoint | UnixEndpoint) -> None:
        self._arrived.put_nowait(ConnectionGroup.accepted(link, peer, self._listener.parameters))
