"""How a process of the owner enters a node of a world, and the shadow that it leaves behind.

A process cannot change its own process namespace, only that of its children (setns(2)). So the one that enters forks:
the child lives in the node, the parent stays as its shadow, and stands for it wherever its process id is known.
"""

from __future__ import annotations

import os
import resource
import signal
from typing import NoReturn

from towpath.linux import libc

__all__ = ["enter"]

_SI_KERNEL = 0x80
_FORWARDED = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2})


def enter(handle: int, *, administrator: bool) -> None:
    """See `towpath.kernel.hosts.Hosts.enter`. `handle` is a pidfd of the node's process."""
    directory = os.getcwd()
    libc.setns(handle, libc.CLONE_NEWUSER | libc.CLONE_NEWNET | libc.CLONE_NEWNS | libc.CLONE_NEWPID)
    os.chdir(directory)
    awaited = {*_FORWARDED, signal.SIGCHLD}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
    child = os.fork()
    if child:
        _shadow(child, awaited)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if administrator:
        everything = _all_capabilities()
        libc.set_capabilities(everything, everything)
    else:
        drop_rights()
    libc.prctl(libc.PR_SET_DUMPABLE, 1)
    libc.prctl(libc.PR_SET_PDEATHSIG, signal.SIGKILL)  # after the rights: a change of them clears it
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def drop_rights() -> None:
    """Leaves an ordinary user's rights, also after an execve: user 0 would win all of them back there."""
    if os.getuid():
        libc.set_capabilities(0)
    else:
        libc.prctl(libc.PR_SET_SECUREBITS, libc.SECBIT_NOROOT_LOCKED)
        libc.set_capabilities(1 << libc.CAP_SETFCAP, 1 << libc.CAP_SETFCAP)


def _all_capabilities() -> int:
    with open("/proc/sys/kernel/cap_last_cap") as file:
        return (2 << int(file.read())) - 1


def _shadow(child: int, awaited: set[signal.Signals]) -> NoReturn:
    """Stands for `child`: hands on what others send, and ends as it ends."""
    os.closerange(0, os.sysconf("SC_OPEN_MAX"))
    while True:
        news = signal.sigwaitinfo(awaited)
        if news.si_signo == signal.SIGCHLD:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                _end_like(status)
        elif news.si_code != _SI_KERNEL:  # the terminal signals the whole group: the child has had this one
            os.kill(child, news.si_signo)


def _end_like(status: int) -> NoReturn:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
