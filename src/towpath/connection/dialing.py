"""From an address to a connected socket, with its options set before connecting."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import IPv6Address
from typing import TypeVar

from towpath.connection.arrival import Arrival
from towpath.connection.endpoint import AddressEndpoint, Endpoint, UnixEndpoint
from towpath.connection.parameters import Parameters, Tcp
from towpath.connection.report import AttemptReport
from towpath.errors import ConnectionFailed, HostFault
from towpath.kernel import system
from towpath.kernel.network import Network
from towpath.path.monitor import PathMonitor
from towpath.path.path import Path, PathRequirements

__all__ = ["Candidate", "connect", "dial_one", "prepare", "socket_address"]

_T = TypeVar("_T")

Candidate = AddressEndpoint | UnixEndpoint
_ANY_PATH = PathRequirements()


async def dial_one(
    candidate: Candidate, dial: Callable[[Candidate], Awaitable[_T]], attempts: list[AttemptReport]
) -> _T:
    """The only attempt, where there is nothing to race."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    try:
        result = await dial(candidate)
    except Exception as error:
        attempts.append(AttemptReport(str(candidate), 0.0, loop.time() - begun, "failed", str(error)))
        raise
    attempts.append(AttemptReport(str(candidate), 0.0, loop.time() - begun, "won"))
    return result


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
        if isinstance(parameters.transport, Tcp) and parameters.transport.fast_open and made.family != socket.AF_UNIX:
            transports.allow_fast_open(made)
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


def _family(candidate: Candidate) -> socket.AddressFamily:
    if isinstance(candidate, UnixEndpoint):
        return socket.AF_UNIX
    return socket.AF_INET if candidate.address.version == 4 else socket.AF_INET6


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
