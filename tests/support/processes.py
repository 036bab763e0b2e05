"""Who belongs to a Lab, seen from outside: for tests that nothing is left of it."""

from __future__ import annotations

import os
import select
from pathlib import Path

__all__ = ["descendants", "manager_of", "parent_of", "wait_for_end"]


def descendants(process: int) -> dict[int, set[str]]:
    """The process ids of all its children and theirs, each with the namespaces it is in (``net:[4026532281]``)."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: dict[int, set[str]] = {}
    waiting = [process]
    while waiting:
        parent = waiting.pop()
        children = [child for child, of in parents.items() if of == parent]
        waiting += children
        found |= {child: _namespaces(child) for child in children}
    return found


def _namespaces(process: int) -> set[str]:
    try:
        return {os.readlink(entry) for entry in Path(f"/proc/{process}/ns").iterdir()}
    except FileNotFoundError:
        return set()  # it has just ended


def wait_for_end(handles: list[int], seconds: float) -> int:
    """Waits until the processes behind the pidfds have ended; gives how many have not in that time."""
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    left = set(handles)
    while left:
        ready = poll.poll(seconds * 1000)
        if not ready:
            break
        for handle, _ in ready:
            poll.unregister(handle)
            left.discard(handle)
    return len(left)


def parent_of(process: int) -> int:
    with open(f"/proc/{process}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def manager_of(process: int) -> int:
    """The manager of a run under the process that stands for it in a Lab."""
    found = [child for child in descendants(process) if parent_of(child) == process]
    assert len(found) == 1
    return found[0]
