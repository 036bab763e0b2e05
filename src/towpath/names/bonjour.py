"""Bonjour: finding services on the link and announcing one's own (RFC 6762, RFC 6763), over the zeroconf library."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal

from zeroconf import (
    BadTypeInNameException,
    InterfaceChoice,
    IPVersion,
    NonUniqueNameException,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from towpath.errors import HostFault, Misuse

__all__ = ["Bonjour", "BonjourChange", "BonjourService"]

_PATIENCE = 1.5
"""Seconds after which the details of a service are asked for afresh: one lost answer must not lose the service."""
_MAX_SERVICES = 1024
"""How many services one browse holds: a neighbour could announce any number."""
_MAX_TEXT = 255


@dataclass(frozen=True, slots=True)
class BonjourService:
    """A service on the link.

    `type` as in ``_http._tcp``; `host` ends in ``.local``, and is this machine's own when a service to announce has
    none. `text` maps keys to values; a key without a value has `None`. `addresses` with a zone where they are
    link-local; `interface` is that zone, where there is one.

    >>> str(BonjourService("Front door", "_http._tcp", port=80))
    'Front door._http._tcp.local'
    """

    name: str
    type: str
    domain: str = "local"
    host: str = ""
    port: int = 0
    text: Mapping[str, bytes | None] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    interface: str | None = None

    def __str__(self) -> str:
        return f"{self.name}.{self.type}.{self.domain}"


@dataclass(frozen=True, slots=True)
class BonjourChange:
    """A service came, went, or says something else than before."""

    kind: Literal["added", "removed", "changed"]
    service: BonjourService


class Bonjour:
    """This machine's part in multicast DNS; use it in an ``async with`` block.

    `interfaces`: addresses of the interfaces to use (default: all).

        async with Bonjour() as bonjour:
            async for change in bonjour.browse("_http._tcp"):
                print(change.kind, change.service)
    """

    def __init__(self, interfaces: Sequence[str] | None = None) -> None:
        self._interfaces = interfaces
        self._zeroconf: AsyncZeroconf | None = None

    async def __aenter__(self) -> Bonjour:
        """Raises `HostFault` where there is no interface for multicast, or port 5353 is taken."""
        try:
            self._zeroconf = AsyncZeroconf(
                interfaces=list(self._interfaces) if self._interfaces is not None else InterfaceChoice.All,
                ip_version=IPVersion.All,
            )
            await self._zeroconf.zeroconf.async_wait_for_start()
        except (OSError, ZeroconfError, RuntimeError) as error:
            number = error.errno if isinstance(error, OSError) and error.errno else 0
            hint = "is an interface up, and may this user bind UDP port 5353?"
            raise HostFault("start multicast DNS", number, str(error) or type(error).__name__, hint) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running, self._zeroconf = self._zeroconf, None
        if running is not None:
            await running.async_close()

    async def browse(self, type: str, domain: str = "local") -> AsyncGenerator[BonjourChange, None]:
        """What there is of a type, then each change; ends when its consumer leaves it. Raises `Misuse`."""
        zeroconf = self._running()
        browsing = _Browsing(zeroconf.zeroconf, f"{type}.{domain}.")
        try:
            browser = AsyncServiceBrowser(zeroconf.zeroconf, browsing.type, handlers=[browsing.changed])
        except BadTypeInNameException as error:
            raise _no_type(type) from error
        try:
            while True:
                yield await browsing.changes.get()
        finally:
            await browser.async_cancel()
            await browsing.close()

    @asynccontextmanager
    async def advertise(self, service: BonjourService) -> AsyncIterator[BonjourService]:
        """Announces a service while the block runs, and says goodbye after it.

        Gives the service under the name it got: one that is taken is numbered. Its addresses are those of this moment,
        unless it has its own. Raises `Misuse` for what cannot be announced, `HostFault` without an address.
        """
        zeroconf = self._running()
        info = _info(service)
        try:
            await (await zeroconf.async_register_service(info, allow_name_change=True))
        except (BadTypeInNameException, NonUniqueNameException) as error:
            raise Misuse(f"{service}: {type(error).__name__}") from error
        try:
            yield _service(info)
        finally:
            await (await zeroconf.async_unregister_service(info))

    def _running(self) -> AsyncZeroconf:
        if self._zeroconf is None:
            raise Misuse("use Bonjour in an async with block")
        return self._zeroconf


class _Browsing:
    """Turns what the library reports into changes of whole services."""

    def __init__(self, zeroconf: Zeroconf, type: str) -> None:
        self.type = type
        self.changes: asyncio.Queue[BonjourChange] = asyncio.Queue()
        self._zeroconf = zeroconf
        self._known: dict[str, BonjourService] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}

    def changed(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """The library's handler; it passes these by name, in the loop."""
        asking = self._asking.pop(name, None)
        if asking is not None:
            asking.cancel()
        if state_change is ServiceStateChange.Removed:
            gone = self._known.pop(name, None)
            if gone is not None:
                self.changes.put_nowait(BonjourChange("removed", gone))
        elif len(self._known) + len(self._asking) < _MAX_SERVICES:
            self._asking[name] = asyncio.ensure_future(self._ask(name))

    async def _ask(self, name: str) -> None:
        info = AsyncServiceInfo(self.type, name)
        # A service that was announced answers sooner or later, or goes, which cancels this.
        while not await info.async_request(self._zeroconf, _PATIENCE * 1000):
            pass
        self._asking.pop(name, None)
        service = _service(info)
        before = self._known.get(name)
        if service != before:
            self._known[name] = service
            self.changes.put_nowait(BonjourChange("added" if before is None else "changed", service))

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


def _no_type(type: str) -> Misuse:
    error = Misuse(f"not a type of service: {type!r}")
    error.hint = "as in _http._tcp"
    return error


def _service(info: AsyncServiceInfo) -> BonjourService:
    # The instance's own name may hold dots, so it is what the type leaves over.
    name = info.name.removesuffix(f".{info.type}")
    words = info.type.rstrip(".").split(".")
    addresses = tuple(info.parsed_scoped_addresses())
    zones = [address.partition("%")[2] for address in addresses if "%" in address]
    text = {key.decode("utf-8", "replace"): value for key, value in info.properties.items()}
    host = (info.server or "").rstrip(".")
    return BonjourService(
        name, ".".join(words[:2]), ".".join(words[2:]), host, info.port or 0, text, addresses, _named(zones)
    )


def _named(zones: list[str]) -> str | None:
    if not zones:
        return None
    try:
        return socket.if_indextoname(int(zones[0])) if zones[0].isdigit() else zones[0]
    except OSError:
        return None


def _info(service: BonjourService) -> AsyncServiceInfo:
    for key, value in service.text.items():
        if not key.isascii() or not key.isprintable() or "=" in key or not key:
            raise Misuse(f"not a key of a text record: {key!r}")
        if len(key) + 1 + len(value or b"") > _MAX_TEXT:
            raise Misuse(f"the text {key!r} is longer than {_MAX_TEXT} bytes")
    if not 0 < service.port <= 65535:
        raise Misuse(f"{service}: {service.port} is no port")
    kind = f"{service.type}.{service.domain}."
    host = service.host or f"{socket.gethostname().partition('.')[0]}.{service.domain}"
    try:
        return AsyncServiceInfo(
            kind,
            f"{service.name}.{kind}",
            service.port,
            properties=dict(service.text),
            server=f"{host.rstrip('.')}.",
            parsed_addresses=[address.partition("%")[0] for address in service.addresses or _own_addresses()],
        )
    except BadTypeInNameException as error:
        raise _no_type(service.type) from error


def _own_addresses() -> list[str]:
    """This machine's addresses: those of interfaces that are up, loopback left out. Raises `HostFault` for none.

    Not only of those that run: a cable that settles at this moment must not leave the service without an address.
    """
    from towpath.path import InterfaceType, list_interfaces

    found = [
        str(address.address)
        for interface in list_interfaces()
        if interface.type is not InterfaceType.LOOPBACK and interface.up
        for address in interface.addresses
        if address.usable
    ]
    if not found:
        hint = "bring an interface up, or give the service addresses"
        raise HostFault("announce a service", errno.EADDRNOTAVAIL, "this machine has no address", hint)
    return found
