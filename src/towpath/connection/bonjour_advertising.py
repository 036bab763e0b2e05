"""A listener's announcement on the link, for as long as it listens (RFC 6763)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

from towpath.errors import Cancelled
from towpath.names.bonjour import Bonjour, BonjourService

__all__ = ["Advertisement"]


class Advertisement:
    """Announces a service from `start` until `cancel`, which says goodbye."""

    def __init__(self, service: BonjourService) -> None:
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._announced: asyncio.Future[BonjourService] | None = None

    def start(self, address: IPv4Address | IPv6Address, port: int) -> None:
        """Begins to announce the service at this address and port; at all of this machine's for the unspecified one."""
        loop = asyncio.get_running_loop()
        service = replace(self._service, port=port)
        if not service.addresses and not address.is_unspecified:
            service = replace(service, addresses=(str(address),))
        self._announced = loop.create_future()
        # Nobody has to ask how it went: an unasked failure must not be told at exit.
        self._announced.add_done_callback(lambda future: future.cancelled() or future.exception())
        self._task = loop.create_task(self._announce(service, self._announced))

    async def announced(self) -> BonjourService:
        """The service under the name it got. Raises `HostFault`, `Misuse`; `Cancelled` once it is over."""
        if self._announced is None or self._announced.cancelled():
            raise Cancelled(f"{self._service}: is not announced")
        return await asyncio.shield(self._announced)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Returns when the goodbye was said."""
        if self._task is not None:
            await asyncio.wait([self._task])

    @staticmethod
    async def _announce(service: BonjourService, announced: asyncio.Future[BonjourService]) -> None:
        try:
            async with Bonjour() as bonjour, bonjour.advertise(service) as got:
                announced.set_result(got)
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            announced.cancel()
            raise
        except Exception as error:
            announced.set_exception(error)
