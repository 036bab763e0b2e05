"""The event loop of tunnels calls readers at once, and is asyncio's in everything else."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from towpath.hosting.tunnel_loop import TunnelLoop

Pair = tuple[socket.socket, socket.socket]


def run(work: Callable[[asyncio.AbstractEventLoop, Pair], Coroutine[Any, Any, Any]]) -> Any:
    async def whole() -> Any:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            far.setblocking(False)
            return await asyncio.wait_for(work(asyncio.get_running_loop(), (near, far)), 30)

    with asyncio.Runner(loop_factory=TunnelLoop) as runner:
        return runner.run(whole())


def test_a_reader_is_called_with_its_arguments_until_it_is_removed() -> None:
    async def work(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        near, far = pair
        heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        loop.add_reader(near, lambda name: heard.put_nowait((name, near.recv(9))), "first")
        far.send(b"1")
        assert await heard.get() == ("first", b"1")
        loop.add_reader(near.fileno(), lambda: heard.put_nowait(("second", near.recv(9))))
        far.send(b"2")
        assert await heard.get() == ("second", b"2"), "another call took the place of the first"
        assert loop.remove_reader(near) is True
        assert loop.remove_reader(near) is False
        far.send(b"3")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert heard.empty()

    run(work)


def test_what_a_reader_raises_is_told_and_the_loop_goes_on() -> None:
    async def work(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        near, far = pair
        told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        done = loop.create_future()
        loop.set_exception_handler(lambda _loop, context: told.put_nowait(context))

        def reader() -> None:
            if near.recv(9) == b"bad":
                raise ValueError("bad")
            done.set_result(None)

        loop.add_reader(near, reader)
        far.send(b"bad")
        assert isinstance((await told.get())["exception"], ValueError)
        far.send(b"good")
        await done
        loop.remove_reader(near)

    run(work)


def test_a_descriptor_that_was_closed_while_it_was_watched_can_be_watched_under_its_number_again() -> None:
    async def work(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        near, far = pair
        number = os.dup(near.fileno())
        loop.add_reader(number, lambda: None)
        os.close(number)
        again = os.dup(near.fileno())
        assert again == number
        heard = loop.create_future()
        loop.add_reader(again, lambda: heard.set_result(os.read(again, 9)))
        far.send(b"hello")
        assert await heard == b"hello"
        loop.remove_reader(again)
        os.close(again)

    run(work)


def test_sockets_writers_timers_and_threads_of_asyncio_work_beside_readers() -> None:
    async def work(loop: asyncio.AbstractEventLoop, pair: Pair) -> None:
        near, far = pair
        echoed: asyncio.Queue[bytes] = asyncio.Queue()
        loop.add_reader(near, lambda: echoed.put_nowait(near.recv(9)))
        writable = asyncio.Event()
        loop.add_writer(near, writable.set)
        await writable.wait()
        loop.remove_writer(near)
        await loop.sock_sendall(far, b"out")
        assert await echoed.get() == b"out"
        near.send(b"back")
        assert await loop.sock_recv(far, 9) == b"back"
        assert await asyncio.to_thread(lambda: "thread") == "thread"
        timed = loop.create_future()
        loop.call_later(0.001, timed.set_result, "timer")
        assert await timed == "timer"
        loop.remove_reader(near)

    run(work)
