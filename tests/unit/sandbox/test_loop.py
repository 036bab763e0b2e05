"""The loop calls what is ready, in time, and never for events older than the handler."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from functools import partial

import pytest

from towpath.hosting.loop import IN, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def test_a_readable_descriptor_calls_its_handler(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        seen: list[bytes] = []

        def ready(_events: int) -> None:
            seen.append(ours.recv(10))
            loop.stop()

        loop.watch(ours.fileno(), IN, ready)
        theirs.send(b"x")
        loop.run()
        loop.forget(ours.fileno())
        assert seen == [b"x"]


def test_timers_fire_in_order_and_cancelled_ones_do_not(loop: Loop) -> None:
    fired: list[str] = []
    loop.later(0.02, loop.stop)
    loop.later(0.01, lambda: fired.append("second"))
    loop.later(0.0, lambda: fired.append("first"))
    loop.later(0.005, lambda: fired.append("never")).cancel()
    loop.run()
    assert fired == ["first", "second"]


def test_a_descriptor_that_is_used_again_gets_no_event_of_the_one_before(loop: Loop) -> None:
    """Both are ready in one batch: whichever comes first closes the other and watches an idle pipe in its place."""
    pairs = [socket.socketpair(), socket.socketpair()]
    calls: list[str] = []
    reader, writer = os.pipe()

    def replace(other: socket.socket) -> None:
        number = other.detach()
        loop.forget(number)
        os.dup2(reader, number)
        loop.watch(number, IN, lambda _events: calls.append("stale"))
        loop.later(0, loop.stop)

    def ready_first(_events: int) -> None:
        loop.forget(pairs[0][0].fileno())
        replace(pairs[1][0])

    def ready_second(_events: int) -> None:
        loop.forget(pairs[1][0].fileno())
        replace(pairs[0][0])

    loop.watch(pairs[0][0].fileno(), IN, ready_first)
    loop.watch(pairs[1][0].fileno(), IN, ready_second)
    numbers = [one.fileno() for one, _ in pairs]
    for _, peer in pairs:
        peer.send(b"x")
    loop.run()
    assert calls == []
    for one, peer in pairs:
        one.close()
        peer.close()
    for number in (*(number for number in numbers if number >= 0), reader, writer):
        try:
            os.close(number)
        except OSError:
            continue  # the one of the two that was not replaced


def test_other_threads_post_calls_in_order(loop: Loop) -> None:
    seen: list[int] = []

    def post() -> None:
        for one in range(100):
            loop.post(partial(seen.append, one))
        loop.post(loop.stop)

    thread = threading.Thread(target=post)
    thread.start()
    loop.run()
    thread.join()
    assert seen == list(range(100))
