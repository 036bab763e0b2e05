"""A thread of its own for what serves a whole host: asked by any thread, answered by futures, ended once with all."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

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

Outcome = TypeVar("Outcome")


class HostThread:
    """A loop, what workers are forked from, and the thread that starts when something is asked of it.

    To be made while this process has one thread: workers are forked from a copy of it. Raises `Misuse` otherwise, in
    the name of `who`. Several can be made before the first of them starts its thread.
    """

    def __init__(self, who: str) -> None:
        if len(os.listdir("/proc/self/task")) > 1:
            raise Misuse(f"{who}: to be made before this process starts threads, for it forks")
        self._who = who
        self._lock = threading.Lock()
        self._closing: Future[None] | None = None
        self._begun = False
        self._zygote = Zygote(worker.live, imports.close)
        self.loop = Loop()
        self.nursery = Nursery(self.loop, self._zygote)

    def prepare(
        self, name: str, end: Callable[[], None], clean: Callable[[], None], begin: Callable[[], None] = lambda: None
    ) -> None:
        """The thread will be called `name`.

        `begin` is called before it starts, by who starts it, and may start threads too. `end` is called in it when it
        is to be closed, and stops the loop when all has ended; `clean` when it has stopped. At the exit of the process
        it is closed.
        """
        self._name = name
        self._end = end
        self._clean = clean
        self._begin = begin

    def _start(self) -> None:
        """To be called with the lock."""
        if not self._begun:
            self._begun = True
            self._begin()
            threading.Thread(target=self._run, name=self._name, daemon=True).start()
            atexit.register(self._at_exit)

    def abandon(self) -> None:
        """It is not to begin any more."""
        self._zygote.close()
        self.loop.close()

    def submit(self, operation: Callable[[Future[Outcome]], None]) -> Future[Outcome]:
        """Calls `operation` in the thread, with the future that this gives. Once closed, that fails with `Misuse`."""
        future: Future[Outcome] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            if self._closing is None:
                self._start()
                self.loop.post(lambda: operation(future))
                return future
        future.set_exception(Misuse(f"this {self._who} is closed"))
        return future

    def close(self) -> Future[None]:
        """Ends it. Further calls give the same future."""
        with self._lock:
            if self._closing is None:
                self._closing = new_future()
                self._start()
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
