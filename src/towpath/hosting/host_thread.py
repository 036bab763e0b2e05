"""A thread of its own for what serves a whole host: asked by any thread, answered by futures, ended once with all."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from towpath.errors import Misuse
from towpath.hosting import imports, worker
from towpath.hosting.loop import Loop
from towpath.hosting.nursery import Nursery
from towpath.hosting.zygote import Zygote
from towpath.providers.provider import Prompt, Reply

if TYPE_CHECKING:
    from towpath.errors import TowpathError

__all__ = ["HostThread", "new_future", "nobody", "settle", "write"]

_AT_EXIT = 10.0


class HostThread:
    """A loop, what workers are forked from, and the thread that `begin` starts.

    To be made while this process has one thread: workers are forked from a copy of it. Raises `Misuse` otherwise, in
    the name of `who`.
    """

    def __init__(self, who: str) -> None:
        if len(os.listdir("/proc/self/task")) > 1:
            raise Misuse(f"{who}: to be made before this process starts threads, for it forks")
        self._who = who
        self._lock = threading.Lock()
        self._closing: Future[None] | None = None
        self._zygote = Zygote(worker.live, imports.close)
        self.loop = Loop()
        self.nursery = Nursery(self.loop, self._zygote)

    def begin(self, name: str, end: Callable[[], None], clean: Callable[[], None]) -> None:
        """Runs the loop in a thread called `name`.

        `end` is called there when it is to be closed, and stops the loop when all has ended; `clean` when it has
        stopped. At the exit of the process it is closed.
        """
        self._end = end
        self._clean = clean
        threading.Thread(target=self._run, name=name, daemon=True).start()
        atexit.register(self._at_exit)

    def abandon(self) -> None:
        """It is not to begin any more."""
        self._zygote.close()
        self.loop.close()

    def submit(self, operation: Callable[[Future[None]], None]) -> Future[None]:
        """Calls `operation` in the thread, with the future that this gives. Once closed, that fails with `Misuse`."""
        future = new_future()
        with self._lock:
            if self._closing is None:
                self.loop.post(lambda: operation(future))
                return future
        future.set_exception(Misuse(f"this {self._who} is closed"))
        return future

    def close(self) -> Future[None]:
        """Ends it. Further calls give the same future."""
        with self._lock:
            if self._closing is None:
                self._closing = new_future()
                self.loop.post(self._end)
            return self._closing

    def _at_exit(self) -> None:
        self.close().result(_AT_EXIT)

    def _run(self) -> None:
        try:
            self.loop.run()
        finally:
            with self._lock:
                closing = self._closing = self._closing or new_future()
            self._clean()
            self._zygote.close()
            self.loop.close()
            atexit.unregister(self._at_exit)
            closing.set_result(None)


def new_future() -> Future[None]:
    """One that cannot be cancelled: what was asked for happens."""
    future: Future[None] = Future()
    future.set_running_or_notify_cancel()
    return future


def settle(futures: list[Future[None]], error: TowpathError | None) -> None:
    """Gives all of them, who are waited for no longer, their outcome."""
    waiting = futures[:]
    futures.clear()
    for future in waiting:
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


def nobody(_question: Prompt, answered: Callable[[Reply], None]) -> None:
    """Answers every prompt that nobody is there."""
    answered(Reply(None, "there is no terminal to ask at"))


def write(level: str, text: str) -> None:
    """To standard error."""
    sys.stderr.write(f"towpath: {level}: {text}\n")
