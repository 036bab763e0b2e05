"""Signals as readable events, with their sender (signalfd(2)).

A terminal sends ^C to the whole foreground group, so the command has had it already; a signal from `kill` was meant for
the command and must be passed on. Only signalfd tells the two apart.
"""

from __future__ import annotations

import os
import resource
import signal
import struct

from towpath.linux import libc

_SI_KERNEL = 0x80
_RECORD = 128
HANG_UP = signal.SIGHUP
PASSED_ON = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGWINCH,
)


class SignalReader:
    """Blocks the signals of `PASSED_ON` for this process and gives them as events."""

    def __init__(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
        mask = sum(1 << number - 1 for number in PASSED_ON)
        self._descriptor = libc.signalfd(struct.pack("=Q", mask))

    def fileno(self) -> int:
        return self._descriptor

    def receive(self) -> list[tuple[int, bool]]:
        """`(signal, from the terminal)` of each that has come."""
        try:
            data = os.read(self._descriptor, _RECORD * 16)
        except BlockingIOError:
            return []
        records = (struct.unpack_from("=Iii", data, offset) for offset in range(0, len(data), _RECORD))
        return [(number, code == _SI_KERNEL) for number, _errno, code in records]

    def close(self) -> None:
        os.close(self._descriptor)


def die_by(number: int) -> None:
    """Ends this process by the signal that ended the command, without a core file of its own."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


def stop_self() -> None:
    """Stops this process until its shell continues it."""
    os.kill(os.getpid(), signal.SIGSTOP)


def step_back() -> None:
    """Leaves standard input and output to the command, hides this process's memory, takes every descriptor it may.

    Were the manager to hold the command's output open, a reader of it would never see its end.
    """
    nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    libc.prctl(libc.PR_SET_DUMPABLE, 0)
