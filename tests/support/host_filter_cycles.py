"""Switches a filter off and on from several threads and from an event loop, and counts what became of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter
from concurrent.futures import Future

from towpath.errors import TowpathError
from towpath.hosting.bundle import find_bundle
from towpath.hosting.host_filter import HostFilter

_lock = threading.Lock()
_completions: Counter[Future[None]] = Counter()
_seconds: list[float] = []


def follow(future: Future[None], begun: float) -> Future[None]:
    def done(_future: Future[None]) -> None:
        with _lock:
            _completions[future] += 1
            _seconds.append(time.monotonic() - begun)

    future.add_done_callback(done)
    return future


def refused(error: TowpathError) -> None:
    """Another thread has switched it off meanwhile, which is told; anything else ends the program."""
    if "switched off" not in str(error):
        raise error


def cycle(host_filter: HostFilter, times: int) -> None:
    for _ in range(times):
        follow(host_filter.disable(), time.monotonic()).result(60)
        try:
            follow(host_filter.enable(), time.monotonic()).result(60)
        except TowpathError as error:
            refused(error)


async def cycle_in_a_loop(host_filter: HostFilter, times: int) -> None:
    for _ in range(times):
        await asyncio.wrap_future(follow(host_filter.disable(), time.monotonic()))
        try:
            await asyncio.wrap_future(follow(host_filter.enable(), time.monotonic()))
        except TowpathError as error:
            refused(error)


def children() -> int:
    """Processes below this one: the zygote, and workers that it made."""
    found, waiting = 0, [os.getpid()]
    while waiting:
        with open(f"/proc/{waiting[0]}/task/{waiting.pop(0)}/children", encoding="ascii") as file:
            below = [int(word) for word in file.read().split()]
        found += len(below)
        waiting += below
    return found


def main() -> None:
    filters, each = sys.argv[2:], int(sys.argv[1])
    host_filter = HostFilter([find_bundle(text) for text in filters], "pass")
    host_filter.start().result()
    threads = [threading.Thread(target=cycle, args=(host_filter, each)) for _ in range(3)]
    threads.append(threading.Thread(target=lambda: asyncio.run(cycle_in_a_loop(host_filter, each))))
    before = len(os.listdir("/proc/self/fd"))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    host_filter.enable().result()
    after, below = len(os.listdir("/proc/self/fd")), children()
    host_filter.close().result()
    facts = {
        "asked": each * 8,
        "completed": len(_completions),
        "twice": sum(count != 1 for count in _completions.values()),
        "longest": max(_seconds),
        "descriptors": after - before,
        "processes": below,
        "left": children(),
    }
    sys.stdout.write(json.dumps(facts) + "\n")


main()
