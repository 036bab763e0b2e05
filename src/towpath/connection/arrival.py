"""What a task awaits that needs the next bytes: it is resumed in the very callback that brought them.

A future would resume its task in the next turn of the event loop, which costs another system call and, for small
messages, a good part of the time. This is an awaitable in asyncio's sense (it yields itself with
``_asyncio_future_blocking`` set), and so obeys task cancellation, `asyncio.timeout` and `asyncio.wait_for`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any

__all__ = ["Arrival"]


class Arrival:
    """One wait of one task."""

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_done", "_interrupted", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._done = False
        self._interrupted = False

    def __await__(self) -> Generator[Any, None, None]:
        if not self._done:
            self._asyncio_future_blocking = True
            yield self
        self.result()

    def fire(self) -> None:
        """Resumes the task now. Only from a callback of the event loop: no task may be running."""
        if not self._done:
            self._done = True
            callback, self._callback = self._callback, None
            if callback is not None and self._context is not None:
                self._context.run(callback, self)

    def fire_soon(self) -> None:
        """Resumes the task in the next turn of the event loop."""
        if not self._done:
            self._done = True
            callback, self._callback = self._callback, None
            if callback is not None:
                self._loop.call_soon(callback, self, context=self._context)

    def done(self) -> bool:
        return self._done

    def cancelled(self) -> bool:
        return self._interrupted

    def exception(self) -> None:
        self.result()

    def result(self) -> None:
        if self._interrupted:
            raise asyncio.CancelledError

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def cancel(self, msg: object = None) -> bool:
        """Called by the task that is being cancelled."""
        if self._done:
            return False
        self._interrupted = True
        self.fire_soon()
        return True

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        if self._done:
            self._loop.call_soon(callback, self, context=context)
        else:
            self._callback, self._context = callback, context

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        removed = self._callback == callback
        self._callback = None if removed else self._callback
        return int(removed)
