"""The process behind a flow, in the words of providers."""

from __future__ import annotations

import os
import socket
from functools import lru_cache
from typing import TYPE_CHECKING

from towpath.kernel import system
from towpath.providers.flow import Ancestor, Owner

if TYPE_CHECKING:
    from towpath.kernel.system import owners

__all__ = ["as_seen", "host_owners"]

_SOCK_DIAG = 4


@lru_cache(maxsize=256)
def as_seen(owner: owners.Owner) -> Owner:
    """What a provider is told of an owner that was found."""
    parents = tuple(Ancestor(pid, program) for pid, program in owner.parents)
    return Owner(owner.pid, owner.program, owner.executable, owner.command, parents, owner.uid, owner.cgroup)


def host_owners() -> owners.OwnerFinder:
    """Finds owners in this process's own namespaces."""
    diagnosis = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG)
    finder = system.owners.OwnerFinder(diagnosis.detach())
    finder.use_processes(os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    return finder
