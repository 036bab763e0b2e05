"""TLS with a shared key: who has it talks, who has another does not, and nobody listens in."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from towpath.connection import FINAL, Connection, Listener, Parameters
from towpath.errors import ConnectionFailed, Misuse
from towpath.protocols import Lines, TlsPsk

KEY, OTHER = bytes(range(32)), bytes(32)


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await body()

    asyncio.run(limited())


def parameters(layer: TlsPsk) -> Parameters:
    return Parameters.tcp(framers=[layer, Lines()])


@pytest.mark.parametrize(
    "server",
    [TlsPsk(KEY, identity="player"), TlsPsk(lookup={"player": KEY, "guest": OTHER}.get)],
    ids=["one key", "many keys"],
)
def test_who_shares_the_key_talks(server: TlsPsk) -> None:
    async def body() -> None:
        async with Listener("127.0.0.1:0", parameters(server)) as listener:
            connection = Connection(str(listener.local), parameters(TlsPsk(KEY, identity="player")))
            connection.start()
            async with await listener.accept() as taken, connection:
                await connection.send(b"x" * 100_000, context=FINAL)
                assert len((await taken.receive_message()).content) == 100_000
                for side in (connection, taken):
                    details = side.about(TlsPsk)
                    assert details is not None
                    assert (details.version, details.identity) == ("TLSv1.2", "player")
                    assert details.cipher.startswith("ECDHE-PSK")

    run(body)


@pytest.mark.parametrize(
    "client", [TlsPsk(OTHER, identity="player"), TlsPsk(KEY, identity="stranger")], ids=["wrong key", "unknown"]
)
def test_who_does_not_is_refused_on_both_sides(client: TlsPsk) -> None:
    async def body() -> None:
        async with Listener("127.0.0.1:0", parameters(TlsPsk(KEY, identity="player"))) as listener:
            connection = Connection(str(listener.local), parameters(client))
            connection.start()
            taken = await listener.accept()
            for side in (taken, connection):
                with pytest.raises(ConnectionFailed, match="shared key") as caught:
                    await side.ready()
                assert caught.value.hint is not None
                side.cancel()

    run(body)


def test_a_lookup_that_breaks_is_told_as_what_it_is() -> None:
    def broken(identity: str) -> bytes | None:
        raise FileNotFoundError(2, "no key store")

    async def body() -> None:
        async with Listener("127.0.0.1:0", parameters(TlsPsk(lookup=broken))) as listener:
            connection = Connection(str(listener.local), parameters(TlsPsk(KEY, identity="player")))
            connection.start()
            taken = await listener.accept()
            with pytest.raises(FileNotFoundError):
                await taken.ready()
            taken.cancel()
            connection.force_cancel()

    run(body)


@pytest.mark.parametrize(("key", "identity"), [(b"secret", "me"), (KEY, "x" * 129), (KEY, "a\0b")])
def test_weak_keys_and_long_identities_are_misuse(key: bytes, identity: str) -> None:
    with pytest.raises(Misuse):
        TlsPsk(key, identity=identity)
