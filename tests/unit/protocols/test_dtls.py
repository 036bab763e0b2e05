"""DTLS without a network: lost flights are repeated, nothing is kept for strangers, records become datagrams."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from towpath.connection import Connection, Listener, Parameters
from towpath.errors import Misuse, PeerViolation
from towpath.protocols import Dtls
from towpath.protocols.dtls_records import alert_record, datagrams, records
from towpath.testing import FramerHarness, Pki
from towpath.trust import Anchors


def record(size: int) -> bytes:
    return b"\x16\xfe\xfd" + bytes(8) + size.to_bytes(2, "big") + bytes(size)


@pytest.mark.parametrize(
    ("sizes", "limit", "lengths"),
    [((10, 20), 100, [56]), ((10, 80), 100, [23, 93]), ((200, 1), 100, [213, 14]), ((), 100, [])],
)
def test_records_are_packed_into_datagrams(sizes: tuple[int, ...], limit: int, lengths: list[int]) -> None:
    data = b"".join(map(record, sizes))
    packed = list(datagrams(data, limit))
    assert list(map(len, packed)) == lengths
    assert b"".join(packed) == data


@pytest.mark.parametrize("cut", [1, 12, 14])
def test_a_record_that_is_cut_short_is_a_violation(cut: int) -> None:
    with pytest.raises(PeerViolation):
        list(records(record(5)[:cut]))


def test_an_alert_is_one_record_that_no_replay_check_takes_for_an_old_one() -> None:
    (whole,) = records(alert_record(48))
    assert whole[-2:] == b"\2\x30"
    assert int.from_bytes(whole[5:11], "big") > 1 << 32


class Relay(asyncio.DatagramProtocol):
    """Passes datagrams between a client and a server, and loses one of them."""

    def __init__(self, server: tuple[str, int], lose: int) -> None:
        self.sizes: list[int] = []
        self._server, self._lose = server, lose
        self._client: tuple[str, int] | None = None
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        assert self._transport is not None
        self.sizes.append(len(data))
        if address != self._server:
            self._client = address
        if len(self.sizes) != self._lose:
            self._transport.sendto(data, self._server if address == self._client else self._client)


@pytest.mark.parametrize("lose", [0, 1, 2, 5])
def test_a_lost_datagram_of_the_handshake_is_sent_again(tmp_path: Path, lose: int) -> None:
    pki = Pki()
    client = Parameters.dtls(server_name="peer.test", anchors=Anchors.of(pki.root.certificate), mtu=400)
    server = Parameters.dtls(identity=pki.good("peer.test").write(tmp_path), mtu=400)

    async def scenario() -> list[int]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(60), Listener("127.0.0.1:0", server) as listener:
            where = ("127.0.0.1", int(str(listener.local).rpartition(":")[2]))
            transport, relay = await loop.create_datagram_endpoint(lambda: Relay(where, lose), ("127.0.0.1", 0))
            try:
                port: int = transport.get_extra_info("sockname")[1]
                connection = Connection(f"127.0.0.1:{port}", client)
                connection.start()
                async with await listener.accept() as taken, connection:
                    await connection.send(b"arrives")
                    assert (await taken.receive_message()).content == b"arrives"
            finally:
                transport.close()
            return relay.sizes

    sizes = asyncio.run(scenario())
    assert max(sizes) <= 400
    assert len(sizes) > 6


def test_a_datagram_that_does_not_fit_is_misuse(tmp_path: Path) -> None:
    pki = Pki()
    client = FramerHarness(Dtls(anchors=Anchors.of(pki.root.certificate)), host="peer.test")
    server = FramerHarness(Dtls(identity=pki.good("peer.test").write(tmp_path)), is_server=True, host="192.0.2.1")
    client.talk_with(server)
    assert client.is_ready
    client.send(bytes(1000))
    client.talk_with(server)
    assert [message.content for message in server.take_received()] == [bytes(1000)]
    with pytest.raises(Misuse, match="too many"):
        client.send(bytes(1201))


def test_a_stranger_gets_a_cookie_and_nothing_else(tmp_path: Path) -> None:
    """RFC 6347 section 4.2.1: a server sends little to who has not shown that it is where it says."""
    pki = Pki()
    client = FramerHarness(Dtls(anchors=Anchors.of(pki.root.certificate)), host="peer.test")
    server = FramerHarness(Dtls(identity=pki.good("peer.test").write(tmp_path)), is_server=True, host="192.0.2.1")
    hello = client.take_sent()
    server.feed(hello)
    answer = server.take_sent()
    assert 0 < len(answer) < len(hello)
