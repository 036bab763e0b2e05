"""The process that workers are copied from: it is made before a run's command starts and loads no code after.

A worker that is replaced while the command runs must not come from an interpreter that starts anew: until it is
confined such a one would import from folders that the command may be able to write. A copy is also ready in
milliseconds.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import NoReturn

import msgspec

from towpath.errors import FeatureMissing, HostFault
from towpath.kernel import system

__all__ = ["Spawned", "Zygote"]

_LARGEST = 1 << 16


class _Order(msgspec.Struct, array_like=True):
    number: int
    readable: tuple[str, ...]
    memory: int


class _Outcome(msgspec.Struct, array_like=True):
    number: int
    pid: int
    errno: int = 0
    operation: str = ""
    detail: str = ""
    feature: str = ""


class Spawned(msgspec.Struct):
    """A worker that was made: `pidfd` tells when it has ended and is what it is killed by; or why there is none."""

    number: int
    pid: int
    pidfd: int | None
    fault: HostFault | None


class Zygote:
    """Makes workers that run `live`. To be made while this process has one thread and nothing to hide."""

    def __init__(self, live: Callable[[int], None], close_imports: Callable[[], None]) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            self._socket.close()
            _serve(theirs, live, close_imports)
        theirs.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def order(self, number: int, channel: int, output: int, readable: Sequence[str], memory: int) -> None:
        """Asks for a worker; `receive` tells of it by its `number`. Both descriptors stay the caller's to close.

        Raises `BrokenPipeError` when the zygote has gone.
        """
        order = msgspec.msgpack.encode(_Order(number, tuple(readable), memory))
        socket.send_fds(self._socket, [order], [channel, output])

    def receive(self) -> Spawned | None:
        """Waits for the next worker; `None` when the zygote has gone."""
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self._socket, _LARGEST, 1)
        except ConnectionResetError:
            return None
        if not data:
            return None
        outcome = msgspec.msgpack.decode(data, type=_Outcome)
        fault: HostFault | None = None
        if outcome.feature:
            fault = FeatureMissing(outcome.operation, outcome.errno, outcome.detail, feature=outcome.feature)
        elif outcome.errno:
            fault = HostFault(outcome.operation, outcome.errno, outcome.detail)
        return Spawned(outcome.number, outcome.pid, descriptors[0] if descriptors else None, fault)

    def close(self) -> None:
        """Ends the zygote and with it every worker that is left."""
        self._socket.close()
        try:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def _serve(orders: socket.socket, live: Callable[[int], None], close_imports: Callable[[], None]) -> NoReturn:
    try:
        os.setsid()  # ^C at the terminal is not for it
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for workers; a pidfd tells of their end
        system.confinement.stand_apart(orders.fileno())
        close_imports()
        while True:
            data, descriptors, _flags, _address = socket.recv_fds(orders, _LARGEST, 2)
            if not data:
                os._exit(0)
            order = msgspec.msgpack.decode(data, type=_Order)
            outcome, pidfd = _make(order, descriptors, live)
            socket.send_fds(orders, [msgspec.msgpack.encode(outcome)], [] if pidfd is None else [pidfd])
            for descriptor in (*descriptors, *(() if pidfd is None else (pidfd,))):
                os.close(descriptor)
    finally:
        os._exit(1)


def _make(order: _Order, descriptors: list[int], live: Callable[[int], None]) -> tuple[_Outcome, int | None]:
    if len(descriptors) != 2:
        return _Outcome(order.number, 0, errno.EBADF, "make a worker", "its descriptors did not arrive"), None
    try:
        pid = system.confinement.spawn(live, descriptors[0], descriptors[1], order.readable, order.memory)
    except HostFault as fault:
        feature = fault.feature if isinstance(fault, FeatureMissing) else ""
        return _Outcome(order.number, 0, fault.errno or errno.EPERM, fault.operation, str(fault), feature), None
    try:
        return _Outcome(order.number, pid), os.pidfd_open(pid)
    except ProcessLookupError:
        return _Outcome(order.number, pid), None  # it is over already; its socket says so
