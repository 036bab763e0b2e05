"""Connections over real sockets on loopback: life, sending, receiving, ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from towpath.connection import (
    FINAL,
    Connection,
    ConnectionEvent,
    Listener,
    Liveness,
    MessageContext,
    Parameters,
    State,
    StateChanged,
    Tcp,
)
from towpath.errors import Cancelled, ConnectionFailed, EndOfStream, Misuse, TimedOut
from towpath.protocols import KeepAlive, LengthPrefix, Lines, Message

ANY = "127.0.0.1:0"


def run(body: Callable[[], Awaitable[None]], seconds: float = 60) -> None:
    async def limited() -> None:
        async with asyncio.timeout(seconds):
            await body()

    asyncio.run(limited())


async def until(holds: Callable[[], bool]) -> None:
    """Lets the loop turn until something holds; the test's own limit ends it."""
    while not holds():  # noqa: ASYNC110
        await asyncio.sleep(0)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def fill(connection: Connection) -> int:
    """Sends until nothing more is taken; gives how many pieces of 64 KiB were."""
    pieces = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.2):
            while True:
                await connection.send(bytes(1 << 16))
                pieces += 1
    return pieces


async def echo(connection: Connection) -> None:
    async for message in connection:
        await connection.send(message)


@asynccontextmanager
async def serving(
    parameters: Parameters,
    answer: Callable[[Connection], Awaitable[None]] = echo,
    endpoint: str = ANY,
    speaks_first: bool = False,
) -> AsyncIterator[str]:
    async def call(connection: Connection) -> None:
        await answer(connection)

    async with Listener(endpoint, parameters, speaks_first=speaks_first) as listener:
        task = asyncio.create_task(listener.serve(call))
        try:
            yield str(listener.local)
        finally:
            listener.cancel()
            await task


@pytest.mark.parametrize("kind", ["tcp", "multipath", "unix", "abstract"])
def test_bytes_go_there_and_back(kind: str, tmp_path: Path) -> None:
    endpoint = {"unix": f"unix:{tmp_path}/s", "abstract": f"unix:@{tmp_path.name}"}.get(kind, ANY)
    parameters = Parameters.tcp(options=Tcp(multipath=kind == "multipath"))

    async def body() -> None:
        async with serving(parameters, endpoint=endpoint) as where, Connection(where, parameters) as connection:
            await connection.send(b"there")
            assert await connection.receive(5, 5) == b"there"
            assert connection.report.multipath is (kind == "multipath")
            assert str(connection.remote) == where

    run(body)


def test_datagrams_are_messages() -> None:
    async def body() -> None:
        async with serving(Parameters.udp()) as where, Connection(where, Parameters.udp()) as connection:
            for content in (b"one", b"", b"three"):
                await connection.send(content)
            found = {(await connection.receive_message()).content for _ in range(3)}
            assert found == {b"one", b"", b"three"}
            assert connection.maximum_datagram_size is not None
            with pytest.raises(Misuse):
                await connection.send(bytes(70_000))
            assert connection.state is State.READY

    run(body)


def test_each_peer_of_a_udp_listener_has_a_connection_of_its_own() -> None:
    async def body() -> None:
        udp = Parameters.udp()
        async with serving(udp) as where, Connection(where, udp) as one, Connection(where, udp) as two:
            await one.send(b"1")
            await two.send(b"2")
            assert (await two.receive_message()).content == b"2"
            assert (await one.receive_message()).content == b"1"

    run(body)


@pytest.mark.parametrize("race_to_ready", [False, True])
def test_messages_keep_their_bounds_through_layers(race_to_ready: bool) -> None:
    parameters = Parameters.tcp(framers=[LengthPrefix(), KeepAlive(b"sixteen bytes or more")])
    parameters = parameters.but(race_to_ready=race_to_ready)

    async def body() -> None:
        async with serving(parameters) as where, Connection(where, parameters) as connection:
            with connection.batch():
                for number in range(100):
                    await connection.send(b"%d" % number)
            found = [(await connection.receive_message()).content for _ in range(100)]
            assert found == [b"%d" % number for number in range(100)]
            assert [one.protocol for one in connection.report.handshakes] == ["KeepAlive"]

    run(body)


def test_a_connection_goes_through_its_states_and_tells_each_once() -> None:
    async def body() -> None:
        events: list[ConnectionEvent] = []
        async with serving(Parameters.tcp()) as where:
            connection = Connection(where, Parameters.tcp())
            connection.observe(events.append)
            async with connection:
                connection.restart()
                assert connection.state is State.READY
            connection.cancel()
            connection.force_cancel()
        states = [event.state for event in events if isinstance(event, StateChanged)]
        assert states == [State.PREPARING, State.READY, State.CANCELLED]
        with pytest.raises(Cancelled):
            await connection.send(b"late")

    run(body)


def test_a_refused_connection_fails_with_its_report() -> None:
    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            where = f"127.0.0.1:{taken.getsockname()[1]}"
        connection = Connection(where, Parameters.tcp())
        with pytest.raises(ConnectionFailed) as caught:
            await connection.ready()
        assert caught.value.errno == errno.ECONNREFUSED
        (attempt,) = caught.value.report.attempts
        assert (attempt.endpoint, attempt.outcome) == (where, "failed")
        assert connection.state is State.FAILED
        connection.cancel()
        await connection.closed()

    run(body)


def test_of_several_addresses_the_first_that_answers_wins() -> None:
    async def body() -> None:
        async with serving(Parameters.tcp()) as where:
            port = where.rpartition(":")[2]
            async with Connection(f"localhost:{port}", Parameters.tcp()) as connection:
                report = connection.report
                assert report.resolutions[0].endpoints
                assert [one.outcome for one in report.attempts][-1] == "won"
                assert report.seconds is not None
                assert report.resolutions[0].seconds <= report.seconds

    run(body)


def test_the_end_of_the_peer_is_told_after_all_that_came_before() -> None:
    async def say(connection: Connection) -> None:
        await connection.send(b"last words", context=FINAL)

    async def body() -> None:
        async with (
            serving(Parameters.tcp(), say, speaks_first=True) as where,
            Connection(where, Parameters.tcp()) as connection,
        ):
            with pytest.raises(EndOfStream) as caught:
                await connection.receive(100)
            assert caught.value.partial == b"last words"

    run(body)


def test_after_the_final_message_nothing_is_sent_and_answers_still_come() -> None:
    async def answer(connection: Connection) -> None:
        whole = await connection.receive_message()
        await connection.send(whole.content.upper())

    async def body() -> None:
        async with serving(Parameters.tcp(), answer) as where, Connection(where, Parameters.tcp()) as connection:
            await connection.send(b"quest", complete=False)
            await connection.send(b"ion")
            await connection.send(context=FINAL)
            with pytest.raises(Misuse):
                await connection.send(b"more")
            assert (await connection.receive_message()).content == b"QUESTION"

    run(body)


def test_who_waits_when_it_is_cancelled_gets_an_error() -> None:
    async def body() -> None:
        async with serving(Parameters.tcp()) as where:
            connection = Connection(where, Parameters.tcp())
            await connection.ready()
            receiving = asyncio.ensure_future(connection.receive())
            await asyncio.sleep(0)
            connection.cancel()
            with pytest.raises(Cancelled):
                await receiving
            await connection.closed()

    run(body)


def test_a_sender_waits_for_a_slow_receiver() -> None:
    async def body() -> None:
        begin = asyncio.Event()

        async def slow(connection: Connection) -> None:
            await begin.wait()
            total = 0
            async for message in connection:
                total += len(message.content)
            await connection.send(b"%d" % total)

        async with (
            serving(Parameters.tcp(), slow, speaks_first=True) as where,
            Connection(where, Parameters.tcp()) as connection,
        ):
            pieces = await fill(connection)
            assert 0 < pieces < 1000
            begin.set()
            await connection.send(b"end", context=FINAL)
            assert int(await connection.receive()) == pieces * (1 << 16) + 3

    run(body)


def test_waiting_messages_go_by_priority_and_drop_when_they_expire() -> None:
    async def body() -> None:
        begin, lines = asyncio.Event(), Parameters.tcp(framers=[LengthPrefix()])
        arrived: list[bytes] = []

        async def slow(connection: Connection) -> None:
            await begin.wait()
            arrived.extend([one.content async for one in connection if len(one.content) < 100])
            await connection.send(b"done")

        async with serving(lines, slow, speaks_first=True) as where, Connection(where, lines) as connection:
            await fill(connection)
            low, high = MessageContext(priority=0.1), MessageContext(priority=0.9)
            after = MessageContext(antecedent=low, priority=1.0)
            dropped = MessageContext(expires_after=0.01)
            sends = [
                asyncio.ensure_future(connection.send(name, context=context))
                for name, context in ((b"low", low), (b"after", after), (b"high", high), (b"dropped", dropped))
            ]
            with pytest.raises(TimedOut):
                await sends[3]
            begin.set()
            await asyncio.gather(*sends[:3])
            await connection.send(context=FINAL)
            assert (await connection.receive_message()).content == b"done"
            assert arrived == [b"high", b"low", b"after"]

    run(body)


def test_what_was_measured_is_what_went_through() -> None:
    async def body() -> None:
        async with serving(Parameters.tcp()) as where, Connection(where, Parameters.tcp()) as connection:
            await connection.send(b"before")
            await connection.receive(6)
            measurement = connection.measure()
            await connection.send(bytes(1000))
            await connection.receive(1000)
            report = measurement.collect()
            assert (report.bytes_sent, report.bytes_received, report.messages_sent) == (1000, 1000, 1)
            assert report.kernel is not None
            assert report.kernel.bytes_received == 1006
        assert connection.transferred is not None
        assert connection.transferred.collect().bytes_sent == 1006

    run(body)


def test_c3_a_connection_that_closes_before_data_is_counted_and_not_surfaced() -> None:
    async def body() -> None:
        async with Listener(ANY, Parameters.tcp(framers=[Lines()])) as listener:
            address = ("127.0.0.1", int(str(listener.local).rpartition(":")[2]))
            losers = [socket.create_connection(address) for _ in range(3)]
            for loser in losers:
                loser.close()
            async with Connection(str(listener.local), Parameters.tcp(framers=[Lines()])) as winner:
                await winner.send(b"I won")
                async with await listener.accept() as taken:
                    assert (await taken.receive_message()).content == b"I won"
                accepting = asyncio.ensure_future(listener.accept())
                await until(lambda: listener.closed_before_data == 3)
                assert not accepting.done()
                listener.cancel()
                with pytest.raises(Cancelled):
                    await accepting

    run(body)


def test_a_listener_takes_no_more_than_its_limit_until_it_is_raised() -> None:
    async def body() -> None:
        async with Listener(ANY, Parameters.tcp(), limit=1, speaks_first=True) as listener:
            where = str(listener.local)
            async with Connection(where, Parameters.tcp()), Connection(where, Parameters.tcp()):
                (await listener.accept()).cancel()
                assert listener.new_connection_limit == 0
                second = asyncio.ensure_future(listener.accept())
                await asyncio.sleep(0.05)
                assert not second.done()
                listener.new_connection_limit = 1
                (await second).cancel()

    run(body)


def test_what_a_layer_refuses_to_send_leaves_the_connection_as_it_was() -> None:
    parameters = Parameters.tcp(framers=[LengthPrefix(maximum=10)])

    async def body() -> None:
        async with serving(parameters) as where, Connection(where, parameters) as connection:
            with pytest.raises(Misuse):
                await connection.send(bytes(11))
            await connection.send(b"small")
            assert await connection.receive_message() == Message(b"small")

    run(body)


def test_cancelling_at_every_await_point_leaves_nothing_behind() -> None:
    """Cancels the client after one more turn of the loop each time, from its first to its last."""

    async def body() -> None:
        async def client(where: str) -> None:
            async with Connection(where, Parameters.tcp(framers=[LengthPrefix()])) as connection:
                await connection.send(b"x" * 1000)
                await connection.receive_message()

        async with serving(Parameters.tcp(framers=[LengthPrefix()])) as where:
            await client(where)
            before = descriptors()
            finished = False
            turns = 0
            while not finished:
                task = asyncio.ensure_future(client(where))
                for _ in range(turns):
                    await asyncio.sleep(0)
                finished = task.done()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                turns += 1
                assert turns < 5000
            await until(lambda: descriptors() <= before)
            assert len(asyncio.all_tasks()) <= 3

    run(body)


def resident() -> int:
    """This process's memory in bytes, without what only pages in files hold."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, whole, shared, *_ = map(int, file.read().split())
    return (whole - shared) * os.sysconf("SC_PAGE_SIZE")


def test_ten_thousand_connections_that_come_and_go_leave_nothing_behind() -> None:
    async def body() -> None:
        async with serving(Parameters.tcp()) as where:

            async def once() -> None:
                async with Connection(where, Parameters.tcp()) as connection:
                    await connection.send(b"x")
                    await connection.receive()

            for _ in range(500):
                await once()
            gc.collect()
            before = descriptors(), len(asyncio.all_tasks()), len(gc.get_objects()), resident()
            for _ in range(10_000):
                await once()
            await until(lambda: (descriptors(), len(asyncio.all_tasks())) <= before[:2])
            gc.collect()
            assert len(gc.get_objects()) < before[2] + 2000
            assert resident() < before[3] + (4 << 20)

    run(body, 500)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Parameters.tcp().but(liveness=Liveness(10, ping=True)),
        lambda: Parameters.udp().but(liveness=Liveness(10)),
        lambda: Liveness(0.5),
        lambda: MessageContext(priority=2),
        lambda: Listener("localhost:80", Parameters.tcp()),
    ],
)
def test_what_cannot_work_is_refused_at_once(make: Callable[[], object]) -> None:
    with pytest.raises(Misuse):
        make()
