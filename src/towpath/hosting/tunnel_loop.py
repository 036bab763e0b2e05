"""An event loop of asyncio in which what watches a descriptor is called at once, and not put in line.

asyncio makes of each readable descriptor a handle that is run in a context of its own, later. Where packets are rare,
all of that is out of the processor's caches each time, and a packet pays for it at every turn.
"""

from __future__ import annotations

import asyncio
import select
import selectors
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["TunnelLoop"]

_AT_ONCE = 16


class TunnelLoop(asyncio.SelectorEventLoop):
    """`add_reader` calls directly; everything else is as it always is.

    >>> async def ring() -> str:
    ...     loop, (near, far) = asyncio.get_running_loop(), socket.socketpair()
    ...     heard = loop.create_future()
    ...     loop.add_reader(near, lambda: heard.done() or heard.set_result(near.recv(9).decode()))
    ...     far.send(b"hello")
    ...     try:
    ...         return await heard
    ...     finally:
    ...         loop.remove_reader(near), near.close(), far.close()
    >>> import socket
    >>> with asyncio.Runner(loop_factory=TunnelLoop) as runner: runner.run(ring())
    'hello'
    """

    def __init__(self) -> None:
        self._direct = _DirectSelector(self._failed)
        super().__init__(self._direct)

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:  # type: ignore[override]
        self._direct.watch(_number(fd), (lambda: callback(*args)) if args else callback)

    def remove_reader(self, fd: Any) -> bool:
        return self._direct.forget(_number(fd))

    def _failed(self, error: BaseException, call: Callable[[], Any]) -> None:
        self.call_exception_handler({"message": f"Exception in callback {call!r}", "exception": error})


class _DirectSelector(selectors.BaseSelector):
    """A selector in front of which a few descriptors are watched whose calls it makes by itself."""

    def __init__(self, failed: Callable[[BaseException, Callable[[], Any]], None]) -> None:
        self._failed = failed
        self._others = selectors.EpollSelector()
        self._epoll = select.epoll()
        self._epoll.register(self._others.fileno(), select.EPOLLIN)
        self._calls: dict[int, Callable[[], Any]] = {}

    def watch(self, descriptor: int, call: Callable[[], Any]) -> None:
        try:
            self._epoll.register(descriptor, select.EPOLLIN)
        except FileExistsError:
            pass  # it has another call from now on
        self._calls[descriptor] = call

    def forget(self, descriptor: int) -> bool:
        if self._calls.pop(descriptor, None) is None:
            return False
        try:
            self._epoll.unregister(descriptor)
        except OSError:
            pass  # it was closed before
        return True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found: list[tuple[selectors.SelectorKey, int]] = []
        for descriptor, _events in self._epoll.poll(timeout, _AT_ONCE):
            call = self._calls.get(descriptor)
            if call is None:
                found = self._others.select(0)
                continue
            try:
                call()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._failed(error, call)
        return found

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._others.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._others.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._others.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._others.get_map()

    def close(self) -> None:
        self._calls.clear()
        self._epoll.close()
        self._others.close()


def _number(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())
