"""Datagrams in a batch go out in rows and come in in rows; each stays a message of its own."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath import Connection, Parameters
from towpath.kernel.system import transports


def exchange(contents: list[bytes], family: str = "127.0.0.1") -> list[bytes]:
    """What a plain UDP socket hears of a batch, and a connection of the answer in one row."""
    peer = socket.socket(socket.AF_INET6 if ":" in family else socket.AF_INET, socket.SOCK_DGRAM)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    peer.bind((family, 0))
    peer.settimeout(60)
    host = f"[{family}]" if ":" in family else family

    async def body() -> list[bytes]:
        async with Connection(f"{host}:{peer.getsockname()[1]}", Parameters.udp()) as connection:
            with connection.batch():
                for content in contents:
                    await connection.send(content)
            heard = [peer.recv(1 << 16) for _ in contents]
            assert connection.local is not None
            return heard

    try:
        return asyncio.run(body())
    finally:
        peer.close()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=200) | st.sampled_from([bytes(1200), b"x" * 1200]), min_size=1, max_size=90)
)
def test_any_batch_arrives_as_the_messages_it_was(contents: list[bytes]) -> None:
    assert exchange(contents) == contents


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_a_row_is_one_call_to_the_kernel(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    rows: list[int] = []
    send = transports.send_datagrams

    def counted(made: socket.socket, datagrams: list[bytes]) -> int:
        rows.append(len(datagrams))
        return send(made, datagrams)

    monkeypatch.setattr(transports, "send_datagrams", counted)
    contents = [bytes([number]) * 1000 for number in range(50)] + [b"short"]
    assert exchange(contents, address) == contents
    assert rows == [51]


@pytest.mark.parametrize("fault", [errno.EIO, errno.EINVAL, errno.EMSGSIZE, errno.ENOPROTOOPT])
def test_a_kernel_that_cannot_sends_them_one_by_one(monkeypatch: pytest.MonkeyPatch, fault: int) -> None:
    def refused(_made: socket.socket, _datagrams: list[bytes]) -> int:
        raise OSError(fault, "refused")

    monkeypatch.setattr(transports, "send_datagrams", refused)
    assert exchange([b"one", b"two", b"three"]) == [b"one", b"two", b"three"]


def test_a_row_that_the_kernel_hands_over_is_taken_apart() -> None:
    async def body() -> list[bytes]:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        with peer:
            async with Connection(f"127.0.0.1:{peer.getsockname()[1]}", Parameters.udp()) as connection:
                await connection.send(b"hello")
                _, back = peer.recvfrom(100)
                peer.connect(back)
                transports.send_datagrams(peer, [b"a" * 900, b"b" * 900, b"c" * 100])
                async with asyncio.timeout(60):
                    return [(await connection.receive_message()).content for _ in range(3)]

    assert asyncio.run(body()) == [b"a" * 900, b"b" * 900, b"c" * 100]
