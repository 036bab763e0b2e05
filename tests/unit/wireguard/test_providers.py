"""Both shipped protocols, client and server on one clock: what goes in comes out, as it was, by either data path."""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from towpath.errors import ConfigInvalid
from towpath.extensions.wire_tunnel import units
from towpath.extensions.wire_tunnel.provider import WireTunnel
from towpath.extensions.wireguard import rows
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.extensions.wireguard.provider import WireGuard
from towpath.providers import DisconnectCause, PacketTunnelProvider, TunnelFailed
from towpath.testing import TunnelHarness
from towpath.wire.segmentation import split_packet, sum16
from towpath.wire.virtio_net import NEEDS_CHECKSUM, TCP4, Offload

OURS, THEIRS = PrivateKey(b"\x11" * 32), PrivateKey(b"\x22" * 32)


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def super_packet(size: int, source: bytes = b"\n\0\0\2", destination: bytes = b"\n\0\0\1") -> tuple[bytes, list[bytes]]:
    """A record as a TUN device gives it, and the packets that it stands for."""
    payload = os.urandom(size)
    tcp = struct.pack(">HHLLBBHHH", 1234, 80, 77, 9, 5 << 4, 0x18, 500, 0, 0)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40 + size, 7, 0x4000, 64, 6, 0, source, destination)
    ip = ip[:10] + struct.pack(">H", ~sum16(ip) & 0xFFFF) + ip[12:]
    pseudo = (sum16(ip[12:20]) + 6 + 20 + size) % 0xFFFF
    packet = ip + tcp[:16] + struct.pack(">H", pseudo) + tcp[18:] + payload
    offload = Offload(NEEDS_CHECKSUM, TCP4, 40, 1360, 20, 16)
    return offload.pack() + packet, split_packet(packet, offload)


@contextmanager
def wireguard() -> Iterator[tuple[TunnelHarness, TunnelHarness]]:
    server = "[Interface]\nPrivateKey=" + text(b"\x22" * 32) + "\nAddress=10.0.0.1/24\nListenPort=51820\n"
    server += f"[Peer]\nPublicKey={text(OURS.public)}\nAllowedIPs=10.0.0.2/32\n"
    client = "[Interface]\nPrivateKey=" + text(b"\x11" * 32) + "\nAddress=10.0.0.2/32\n"
    client += f"[Peer]\nPublicKey={text(THEIRS.public)}\nAllowedIPs=10.0.0.0/24\nEndpoint=192.0.2.9:51820\n"
    with joined(WireGuard, {"text": client}, {"text": server}) as pair:
        yield pair


@contextmanager
def reference() -> Iterator[tuple[TunnelHarness, TunnelHarness]]:
    server = {
        "private_key": text(b"\x22" * 32),
        "addresses": ["10.0.0.1/24"],
        "listen": 4500,
        "peers": [{"public_key": text(OURS.public), "addresses": ["10.0.0.2/32"]}],
    }
    peer = {"public_key": text(THEIRS.public), "addresses": ["10.0.0.0/24"], "endpoint": "192.0.2.9:4500"}
    client = {"private_key": text(b"\x11" * 32), "addresses": ["10.0.0.2/32"], "peers": [peer]}
    with joined(WireTunnel, client, server) as pair:
        yield pair


@contextmanager
def joined(
    provider: type[PacketTunnelProvider[Any]], client: object, server: object
) -> Iterator[tuple[TunnelHarness, TunnelHarness]]:
    with TunnelHarness(provider, server) as there, TunnelHarness(provider, client) as here:
        here.join(there)
        there.start()
        here.start()
        yield here, there


PROTOCOLS = {"wireguard": wireguard, "reference": reference}


@pytest.mark.parametrize("arrays", [True, False], ids=["numpy", "no numpy"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_super_packets_come_out_as_the_packets_they_stand_for(
    name: str, arrays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not arrays:
        monkeypatch.setattr(rows, "numpy", None)
        monkeypatch.setattr(units, "numpy", None)
    with PROTOCOLS[name]() as (here, there):
        for size in (1, 1360, 1361, 5000, 60_000):
            record, packets = super_packet(size)
            here.send_records(record)
            assert there.delivered == packets
            there.delivered.clear()
        record, packets = super_packet(9000, b"\n\0\0\1", b"\n\0\0\2")
        there.send_records(record)
        assert here.delivered == packets


@pytest.mark.parametrize("arrays", [True, False], ids=["numpy", "no numpy"])
@pytest.mark.parametrize("name", PROTOCOLS)
def test_rows_that_come_in_one_read_are_joined_and_taken_once(
    name: str, arrays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not arrays:
        monkeypatch.setattr(rows, "numpy", None)
        monkeypatch.setattr(units, "numpy", None)
    with PROTOCOLS[name]() as (here, there):
        here.links[0].carry = None
        here.links[0].sent.clear()
        record, packets = super_packet(30_000)
        here.send_records(record)
        sent = [data for data, _ in here.links[0].sent]
        row, size = b"".join(sent), len(sent[0])
        assert all(len(one) == size for one in sent[:-1])
        damaged = bytearray(row)
        damaged[len(row) // 2] ^= 1
        there.receive(bytes(damaged), ("192.0.2.1", 1000), size=size)
        assert there.delivered != packets, "what was damaged is not there"
        there.delivered.clear()
        record, packets = super_packet(30_000)
        here.links[0].sent.clear()
        here.send_records(record)
        row = b"".join(data for data, _ in here.links[0].sent)
        there.receive(row, ("192.0.2.1", 1000), size=size)
        assert there.delivered == packets
        there.receive(row, ("192.0.2.1", 1000), size=size)
        assert there.delivered == packets, "a replay"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_pieces_in_any_order_and_twice_are_the_same_packets(name: str) -> None:
    with PROTOCOLS[name]() as (here, there):
        here.links[0].carry = None
        here.links[0].sent.clear()
        record, packets = super_packet(20_000)
        here.send_records(record)
        for data, _ in reversed(here.links[0].sent * 2):
            there.receive(data, ("192.0.2.1", 1000))
        assert sorted(there.delivered) == sorted(packets)


def small_packet(number: int, size: int) -> bytes:
    """A finished record of UDP."""
    udp = struct.pack(">HHHHHH", 5000, 5001, 12 + size, 0, number, 0) + os.urandom(size)
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), number, 0, 64, 17, 0, b"\n\0\0\2", b"\n\0\0\1")
    return bytes(10) + ip[:10] + struct.pack(">H", ~sum16(ip) & 0xFFFF) + ip[12:] + udp


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize("size", [20, 700, 1300])
def test_small_packets_that_come_together_stay_in_order(name: str, size: int) -> None:
    with PROTOCOLS[name]() as (here, there):
        records = [small_packet(number, size) for number in range(64)]
        record, packets = super_packet(20_000)
        here.send_records(*records[:40], record, *records[40:])
        assert there.delivered == [one[10:] for one in records[:40]] + packets + [one[10:] for one in records[40:]]


def test_small_packets_that_come_together_share_a_unit() -> None:
    with reference() as (here, there):
        here.send(small_packet(0, 20)[10:])
        here.links[0].sent.clear()
        here.send_records(*[small_packet(number, 20) for number in range(20)])
        assert len(here.links[0].sent) == 1
        assert len(there.delivered) == 21


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_peer_may_only_send_from_its_own_addresses(name: str) -> None:
    with PROTOCOLS[name]() as (here, there):
        record, _packets = super_packet(4000, b"\n\0\0\x09")
        here.send_records(record)
        assert there.delivered == []
        drops = there.provider.status()["drops"]
        assert sum(drops.values()) >= 1, drops


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_night_of_sleep_costs_a_handshake_and_no_packet(name: str) -> None:
    with PROTOCOLS[name]() as (here, there):
        here.sleep(8 * 3600)
        there.sleep(8 * 3600)
        record, packets = super_packet(3000)
        here.send_records(record)
        here.advance(6)
        assert there.delivered == packets
        assert here.provider.status()["peers"][0]["handshakes"] == 2


@pytest.mark.parametrize("name", PROTOCOLS)
def test_no_status_and_no_repr_shows_a_secret(name: str) -> None:
    with PROTOCOLS[name]() as (here, there):
        for one in (here, there):
            shown = f"{one.provider.status()} {one.provider.config!r} {one.provider!r} {one.logged}"
            assert text(b"\x11" * 32) not in shown
            assert text(b"\x22" * 32) not in shown


def test_a_server_that_does_not_answer_is_given_up_with_a_hint() -> None:
    client = "[Interface]\nPrivateKey=" + text(b"\x11" * 32) + "\nAddress=10.0.0.2/32\n"
    client += f"[Peer]\nPublicKey={text(THEIRS.public)}\nAllowedIPs=::/0\nEndpoint=192.0.2.9:51820\n"
    with TunnelHarness(WireGuard, {"text": client}) as harness:
        with pytest.raises(TunnelFailed, match=r"no answer from 192\.0\.2\.9:51820 in 20 s") as caught:
            harness.start()
        assert text(OURS.public) in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        (DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED, "towpath resolve 192.0.2.9"),
        (DisconnectCause.NO_NETWORK_AVAILABLE, "towpath path 192.0.2.9"),
    ],
)
def test_a_server_to_which_no_link_can_be_had_is_shown_by_its_line(cause: DisconnectCause, hint: str) -> None:
    with wireguard() as (client, _server):
        client.refuse = TunnelFailed(cause, "no")
        with pytest.raises(TunnelFailed, match=":7: no") as caught:
            client.start()
        assert hint in (caught.value.hint or "")


def test_a_file_in_which_nobody_can_be_reached_is_refused() -> None:
    client = "[Interface]\nPrivateKey=" + text(b"\x11" * 32) + "\nAddress=10.0.0.2/32\n"
    client += f"[Peer]\nPublicKey={text(THEIRS.public)}\nAllowedIPs=::/0\n"
    with TunnelHarness(WireGuard, {"text": client}) as harness, pytest.raises(ConfigInvalid, match="no peer has"):
        harness.start()
