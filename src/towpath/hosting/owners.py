"""The process behind a flow, in the words of providers."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from towpath.providers.flow import Ancestor, Owner

if TYPE_CHECKING:
    from towpath.kernel.system import owners

__all__ = ["as_seen"]


@lru_cache(maxsize=256)
def as_seen(owner: owners.Owner) -> Owner:
    """What a provider is told of an owner that was found."""
    parents = tuple(Ancestor(pid, program) for pid, program in owner.parents)
    return Owner(owner.pid, owner.program, owner.executable, owner.command, parents, owner.uid, owner.cgroup)
