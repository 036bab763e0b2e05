"""From an endpoint to a connected socket: names to addresses, addresses raced, options set before connecting."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeVar

from towpath.connection.arrival import Arrival
from towpath.connection.endpoint import AddressEndpoint, Endpoint, HostEndpoint, UnixEndpoint, UrlEndpoint
from towpath.connection.parameters import Parameters, Tcp
from towpath.connection.report import AttemptReport, ResolutionReport
from towpath.errors import ConnectionFailed, HostFault
from towpath.kernel import system
from towpath.kernel.network import Network
from towpath.path.monitor import PathMonitor
from towpath.path.path import Path, PathRequirements

__all__ = ["ATTEMPT_DELAY", "Candidate", "connect", "dial_first", "prepare", "resolve", "socket_address"]

_T = TypeVar("_T")

ATTEMPT_DELAY = 0.25
"""Seconds that an attempt has before the next one joins it (RFC 8305 section 8)."""

Candidate = AddressEndpoint | UnixEndpoint
_ANY_PATH = PathRequirements()


async def resolve(endpoint: Endpoint, resolutions: list[ResolutionReport]) -> list[Candidate]:
    """The addresses to try, in order; a name that was asked for is noted. Raises `ConnectionFailed`."""
    target = endpoint.target if isinstance(endpoint, UrlEndpoint) else endpoint
    if isinstance(target, AddressEndpoint | UnixEndpoint):
        return [target]
    if not isinstance(target, HostEndpoint):
        raise ConnectionFailed(str(endpoint), "a Bonjour service has to be resolved to a host first")
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        found = await loop.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        words = error.strerror if isinstance(error, socket.gaierror) else str(error)
        resolutions.append(ResolutionReport(target.host, "getaddrinfo", loop.time() - begun, error=words))
        again = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        raise ConnectionFailed(
            str(endpoint),
            f"the name {target.host} cannot be resolved: {words}",
            errno=errno.ENETUNREACH if again else None,
            hint="ask what the resolver says: getent ahosts " + target.host,
        ) from error
    candidates: list[Candidate] = [
        AddressEndpoint(_with_zone(name), target.port) for name in dict.fromkeys(entry[4] for entry in found)
    ]
    texts = tuple(str(candidate) for candidate in candidates)
    resolutions.append(ResolutionReport(target.host, "getaddrinfo", loop.time() - begun, texts))
    return candidates


async def dial_first(
    candidates: Sequence[Candidate],
    dial: Callable[[Candidate], Awaitable[_T]],
    discard: Callable[[_T], None],
    attempts: list[AttemptReport],
) -> _T:
    """The first success of a staggered race; the others are cancelled and noted as lost.

    When all fail, raises the error that says most: a peer's refusal before a lack of a way to it.
    """
    loop = asyncio.get_running_loop()
    begun = loop.time()
    failures: list[Exception] = []

    async def attempt(candidate: Candidate) -> _T:
        offset = loop.time() - begun

        def note(outcome: str, error: Exception | None = None) -> None:
            seconds = loop.time() - begun - offset
            attempts.append(AttemptReport(str(candidate), offset, seconds, outcome, str(error) if error else None))

        try:
            result = await dial(candidate)
        except asyncio.CancelledError:
            note("lost")
            raise
        except Exception as error:
            note("failed", error)
            failures.append(error)
            raise
        note("won")
        return result

    if len(candidates) == 1:
        return await attempt(candidates[0])
    waiting = list(candidates)
    running: set[asyncio.Task[_T]] = set()
    won: asyncio.Task[_T] | None = None
    try:
        while won is None and (waiting or running):
            if waiting:
                running.add(loop.create_task(attempt(waiting.pop(0))))
            delay = ATTEMPT_DELAY if waiting else None
            done, running = await asyncio.wait(running, timeout=delay, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if task.exception() is not None:
                    continue
                if won is None:
                    won = task
                else:
                    discard(task.result())
    finally:
        for task in running:
            task.cancel()
        for outcome in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                discard(outcome)
    if won is None:
        raise max(failures, key=lambda error: (not _is_local(error), -failures.index(error)))
    return won.result()


async def connect(candidate: Candidate, parameters: Parameters, network: Network | None) -> socket.socket:
    """A connected socket with its options set. Raises `ConnectionFailed`, `HostFault`, `FeatureMissing`."""
    transports = system.transports
    stream = isinstance(parameters.transport, Tcp)
    kind = socket.SOCK_STREAM if stream else socket.SOCK_DGRAM
    multipath = isinstance(parameters.transport, Tcp) and parameters.transport.multipath
    interface = _interface(candidate, parameters.path, network)
    made = transports.open_socket(_family(candidate), kind, multipath=multipath)
    try:
        if interface is not None:
            transports.bind_to_interface(made, interface)
        prepare(made, parameters)
        if parameters.local is not None:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            _os(candidate, "bind to the local endpoint", lambda: made.bind(socket_address(parameters.local)))
        await _connected(made, candidate)
    except BaseException:
        made.close()
        raise
    return made


def prepare(made: socket.socket, parameters: Parameters) -> None:
    """Sets what the parameters say on a socket that is to be connected, or was accepted."""
    transports = system.transports
    if made.family == socket.AF_UNIX:
        return
    tcp = parameters.transport
    if isinstance(tcp, Tcp):
        if tcp.no_delay:
            transports.set_no_delay(made, on=True)
        if tcp.keepalive is not None:
            transports.set_keepalive(made, tcp.keepalive.idle, tcp.keepalive.interval, tcp.keepalive.count)
        if tcp.user_timeout is not None:
            transports.set_user_timeout(made, tcp.user_timeout)
        if tcp.fast_open:
            transports.allow_fast_open(made)
    dscp, priority = parameters.service_class.marks
    if dscp or priority:
        transports.set_traffic_class(made, dscp, priority)


def socket_address(endpoint: Endpoint | None) -> str | tuple[str, int] | tuple[str, int, int, int]:
    """What bind(2) and connect(2) take for an address or a Unix socket."""
    if isinstance(endpoint, UnixEndpoint):
        return endpoint.name
    if not isinstance(endpoint, AddressEndpoint):
        raise TypeError(f"{endpoint} is neither an address nor a Unix socket")
    address = endpoint.address
    if isinstance(address, IPv6Address):
        zone = address.scope_id
        scope = 0 if zone is None else int(zone) if zone.isdecimal() else _index(zone)
        return str(address).partition("%")[0], endpoint.port, 0, scope
    return str(address), endpoint.port


async def _connected(made: socket.socket, candidate: Candidate) -> None:
    loop = asyncio.get_running_loop()
    code = made.connect_ex(socket_address(candidate))
    if code == errno.EINPROGRESS:
        arrival = Arrival(loop)
        descriptor = made.fileno()
        loop.add_writer(descriptor, arrival.fire)
        try:
            await arrival
        finally:
            loop.remove_writer(descriptor)
        code = system.transports.take_error(made)
    if code:
        raise ConnectionFailed(str(candidate), os.strerror(code), errno=code)


def _interface(candidate: Candidate, wanted: PathRequirements, network: Network | None) -> str | None:
    """The interface that the requirements leave; `None` when there are none. Raises `ConnectionFailed`."""
    if wanted == _ANY_PATH or isinstance(candidate, UnixEndpoint):
        return None
    path = _path(candidate, wanted, network)
    if not path.satisfied:
        # The kernel's own choice is not allowed; another interface may have a route as well.
        others = PathMonitor(wanted, network=network).current().interfaces
        for other in others:
            path = _path(candidate, replace(wanted, required_interface=other.name), network)
            if path.satisfied:
                break
    if not path.satisfied:
        raise ConnectionFailed(
            str(candidate),
            f"there is no path that may be used: {path.reason}",
            errno=errno.ENETUNREACH,
            hint="it goes on when one appears; see what there is with: towpath path",
        )
    return path.interfaces[0].name


def _path(candidate: AddressEndpoint, wanted: PathRequirements, network: Network | None) -> Path:
    try:
        return PathMonitor(wanted, destination=candidate.address, network=network).current()
    except HostFault as fault:
        raise ConnectionFailed(str(candidate), str(fault), errno=errno.ENETUNREACH, hint=fault.hint) from fault


def _is_local(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EHOSTUNREACH)


def _family(candidate: Candidate) -> socket.AddressFamily:
    if isinstance(candidate, UnixEndpoint):
        return socket.AF_UNIX
    return socket.AF_INET if candidate.address.version == 4 else socket.AF_INET6


def _with_zone(name: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]) -> IPv4Address | IPv6Address:
    host = str(name[0])
    zone = f"%{name[3]}" if len(name) == 4 and name[3] and "%" not in host else ""
    return ip_address(host + zone)


def _index(zone: str) -> int:
    try:
        return socket.if_nametoindex(zone)
    except OSError as error:
        raise HostFault(f"find interface {zone!r}", error.errno or 0, "there is none") from None


def _os(candidate: Candidate, operation: str, act: Callable[[], object]) -> None:
    try:
        act()
    except OSError as error:
        words = f"{operation}: {os.strerror(error.errno or 0)}"
        raise ConnectionFailed(str(candidate), words, errno=error.errno) from None
