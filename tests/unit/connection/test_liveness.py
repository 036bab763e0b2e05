"""Only silence is death: a peer that lives and does not read is left alone."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from towpath.connection import Connection, Liveness, Parameters, State


def test_a_living_peer_that_reads_nothing_is_not_declared_dead() -> None:
    """Its kernel answers the probes of a closed window (RFC 9293 section 3.8.6.1), which is a sign of life."""

    async def body() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            where = f"127.0.0.1:{listening.getsockname()[1]}"
            async with Connection(where, Parameters.tcp().but(liveness=Liveness(2), teardown=0.1)) as connection:
                taken, _ = listening.accept()
                with taken, contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        while True:
                            await connection.send(bytes(1 << 16))
                assert connection.state is State.READY

    asyncio.run(body())
