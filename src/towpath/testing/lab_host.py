"""One host of a running Lab."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from towpath.errors import HostFault, Misuse
from towpath.kernel import system
from towpath.testing.faults import Fault, apply
from towpath.testing.records import Record

if TYPE_CHECKING:
    from towpath.testing.lab import Lab

__all__ = ["LabHost"]

P = ParamSpec("P")
T = TypeVar("T")


class LabHost:
    """A host: run commands on it, break it, ask what its services saw.

    >>> host.run(["curl", "https://news.test/"]).stdout      # doctest: +SKIP
    '<!doctype html>...'
    """

    def __init__(self, lab: Lab, name: str) -> None:
        card = lab.layout.cards(name)[0]
        self.lab = lab
        self.name = name
        self.address4 = str(card.address4.ip)
        self.address6 = str(card.address6.ip)

    def __repr__(self) -> str:
        return f"<LabHost {self.name} {self.address4} {self.address6}>"

    def run(
        self, command: Sequence[str], *, administrator: bool = False, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """subprocess.run on the host, with the output captured as text unless `options` say otherwise."""
        timeout = options.pop("timeout", None)
        check = options.pop("check", False)
        words = options.pop("input", None)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("text", True)
        options.setdefault("stdin", subprocess.DEVNULL if words is None else subprocess.PIPE)
        with self.popen(command, administrator=administrator, **options) as process:
            try:
                output, errors = process.communicate(words, timeout)
            except BaseException:
                process.kill()
                raise
        finished = subprocess.CompletedProcess(list(command), process.returncode, output, errors)
        if check:
            finished.check_returncode()
        return finished

    def popen(self, command: Sequence[str], *, administrator: bool = False, **options: Any) -> subprocess.Popen[Any]:
        """subprocess.Popen on the host: its network, its resolver, the Lab's authority trusted, its own processes.

        The command runs under the caller's user id without any capability, as an ordinary user's does (user 0 keeps
        CAP_SETFCAP); as `administrator` with all those that the Lab has over itself. `options` are those of Popen;
        an `env` is used as it is but for the variables that name the Lab's authority. Signals sent to the process
        reach the command, and killing it kills the command.
        """
        if "preexec_fn" in options:
            raise Misuse("preexec_fn is how the command gets onto the host")
        options["env"] = self.lab.environment(options.get("env"))
        handle = self.handle
        return subprocess.Popen(
            command, preexec_fn=lambda: system.hosts.enter(handle, administrator=administrator), **options
        )

    @property
    def handle(self) -> int:
        """The descriptor by which processes enter the host."""
        return self.lab.world.handle(self.name)

    def call(self, function: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Calls a function in a forked process on the host, as its administrator, and gives its result.

        The result, or the exception, comes back pickled; the function need not be. Raises `HostFault` when the
        process ended without one.
        """
        data, _ = self._inside(lambda: (function(*arguments, **named), []))
        result: T = data
        return result

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        """A socket made on the host: it is in the host's network, wherever it is used."""

        def make() -> tuple[tuple[int, int, int], list[int]]:
            made = socket.socket(family, kind, protocol)
            return (family, kind, protocol), [made.detach()]

        _, descriptors = self._inside(make)
        return socket.socket(family, kind, protocol, descriptors[0])

    def _inside(self, function: Callable[[], tuple[Any, list[int]]]) -> tuple[Any, list[int]]:
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            ours.close()
            _answer(theirs, self.handle, function)
        theirs.close()
        with ours:
            data, descriptors, _, _ = socket.recv_fds(ours, 1 << 16, 1)
            parts = [data]
            while part := ours.recv(1 << 20):
                parts.append(part)
        os.waitpid(child, 0)
        data = b"".join(parts)
        if not data:
            raise HostFault(f"call a function on {self.name}", 10, "its process ended without a result")
        result, error = pickle.loads(data)
        if error is not None:
            raise error
        return result, list(descriptors)

    @contextlib.contextmanager
    def fault(self, kind: Fault, *, port: int | None = None, **amount: float | str) -> Iterator[None]:
        """Breaks the host, or one port of it, for the time of the `with` block. See `towpath.testing.faults`."""
        mend = apply(self, kind, port, amount)
        try:
            yield
        finally:
            mend()

    @property
    def log(self) -> list[Record]:
        """What the host's services saw so far; all that had arrived when this was asked is in it."""
        return self.lab.log(self.name)


def _answer(out: socket.socket, handle: int, function: Callable[[], tuple[Any, list[int]]]) -> None:
    """In the forked process: never returns."""
    try:
        system.hosts.enter(handle, administrator=True)
        descriptors: list[int] = []
        try:
            result, descriptors = function()
            data = pickle.dumps((result, None))
        except BaseException as error:
            error.add_note("".join(traceback.format_exception(error)))
            try:
                data = pickle.dumps((None, error))
                pickle.loads(data)
            except Exception:
                data = pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
        socket.send_fds(out, [data[:1]], descriptors)
        out.sendall(data[1:])
    finally:
        os._exit(0)
