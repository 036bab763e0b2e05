"""Fuzz entries of tunnels: what comes from a TUN device, from a peer, from a worker, and what a user writes."""

from __future__ import annotations

import base64
import json
import struct
from functools import cache
from ipaddress import ip_network
from typing import Any

from towpath.cli.tunnel import _described
from towpath.errors import ConfigInvalid, PeerViolation
from towpath.extensions.wire_tunnel.path import ANSWER_MAGIC, PROBE, PROBE_MAGIC, REPORT, REPORT_MAGIC
from towpath.extensions.wire_tunnel.provider import WireTunnel
from towpath.extensions.wire_tunnel.units import (
    HANDSHAKE,
    HEAD,
    PIECE,
    SMALL_PIECE,
    Pieces,
    Reassembly,
    Run,
    bundle,
    bundled,
    read_run,
)
from towpath.extensions.wireguard.config import read_config
from towpath.extensions.wireguard.device import Device
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.extensions.wireguard.peer import Peer
from towpath.hosting import messages, tunnel_messages
from towpath.hosting.tunnel_control import _asked
from towpath.linux.netlink import attr, nested
from towpath.linux.wireguard_messages import read_peers
from towpath.providers import Packet, join_packets
from towpath.testing import TunnelHarness
from towpath.wire.segmentation import split_packet
from towpath.wire.virtio_net import read_offload

__all__ = ["ENTRIES", "SEEDS"]


def tun_record(data: bytes) -> None:
    """A record is cut or refused, with numpy and without it alike; joining gives every byte back."""
    try:
        offload = read_offload(data)
        packets = split_packet(data[10:], offload)
    except PeerViolation:
        packets = None
    try:
        from towpath.wire.segment_rows import split_rows

        rows = split_rows(data[10:], read_offload(data))
    except PeerViolation:
        assert packets is None
    else:
        if rows is not None and packets is not None:
            ends = [rows.length] * (len(rows.table) - 1) + [rows.last]
            assert [row[:end].tobytes() for row, end in zip(rows.table, ends, strict=True)] == packets
    if packets is not None:
        found = [one for record in join_packets(packets) for one in Packet(record).split()]
        assert sum(map(len, found)) == sum(map(len, packets))


def wireguard_message(data: bytes) -> None:
    device = Device(PrivateKey(bytes([7]) * 32))
    peer = device.add(Peer(PrivateKey(bytes([8]) * 32).public, allowed=[ip_network("0.0.0.0/0")]))
    peer.endpoint = ("192.0.2.1", 1)
    device.initiate(peer, 0.0)
    assert device.receive(data, ("192.0.2.1", 1), 1.0) is None
    device.transmit(data, 1.0)
    device.tick(1000.0)


@cache
def _joined() -> tuple[TunnelHarness, Any]:
    """A server of the reference protocol, and what its one client seals with."""
    ours, theirs = (PrivateKey(bytes([number]) * 32) for number in (1, 2))
    names = [base64.b64encode(key.public).decode() for key in (ours, theirs)]
    secrets = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
    member = {"public_key": names[0], "addresses": ["10.0.0.2/32"]}
    far = {"private_key": secrets[1], "addresses": ["10.0.0.1/24"], "listen": 4500, "peers": [member]}
    member = {"public_key": names[1], "addresses": ["10.0.0.0/24"], "endpoint": "192.0.2.9:4500"}
    near = {"private_key": secrets[0], "addresses": ["10.0.0.2/32"], "peers": [member]}
    server, client = TunnelHarness(WireTunnel, far), TunnelHarness(WireTunnel, near)
    client.join(server)
    server.start()
    client.start()
    provider: Any = client.provider
    (peer,) = provider._device.peers.values()
    return server, provider._traffic_of(peer.current)


def wire_tunnel_unit(data: bytes) -> None:
    """Units that their sender sealed, whatever is in them, in pieces of both sizes; and what nobody sealed."""
    server, traffic = _joined()
    (link,), source = server.links, ("192.0.2.1", 1000)
    for datagram in (data, HANDSHAKE + data):
        link.receive(datagram, source)
    for size in (PIECE, SMALL_PIECE):
        pieces = Pieces(size)
        row = b"".join(pieces.of(*traffic.seal(data[:60_000], pieces.room)))
        link.receive(row, source, size=size + HEAD.size)


def wireguard_file(data: bytes) -> None:
    try:
        read_config(data.decode("utf-8", "replace"), "wg0.conf")
    except ConfigInvalid:
        return


def tunnel_messages_(data: bytes) -> None:
    for read in (tunnel_messages.to_tunnel, tunnel_messages.from_tunnel):
        try:
            read(data)
        except PeerViolation:
            continue


def wire_tunnel_units(data: bytes) -> None:
    """A bundle is taken apart or refused; pieces in a row are put together as they are one by one, whatever came."""
    try:
        records = bundled(data)
    except PeerViolation:
        pass
    else:
        assert len(records) == 1 or data == bundle(records)
    for size in (13, 40, 1452):
        run = read_run(memoryview(data), size)
        at_once, singly = Reassembly(), Reassembly()
        whole = at_once.add(run, 0.0) if run is not None else None
        for at in range(0, len(data), size):
            one = memoryview(data)[at : at + size]
            if len(one) >= HEAD.size:
                index, low, high, piece, count = HEAD.unpack_from(one)
                unit = singly.add(Run(index, high << 32 | low, piece, 1, count, one[HEAD.size :]), 0.0)
                if run is not None and unit is not None:
                    assert unit == whole


def wireguard_answer(data: bytes) -> None:
    """Whatever the kernel's WireGuard answers: peers whose keys are keys, or a violation."""
    try:
        found = read_peers([data, data])
    except PeerViolation:
        return
    for one in found:
        assert len(one.public_key) == 32
        assert all(ip_network(prefix, strict=False) for prefix in one.allowed if int(prefix.partition("/")[2]) <= 32)


def tunnel_figures(data: bytes) -> None:
    """Whatever a provider's process tells of itself can be shown; whatever is asked at the socket is a word."""
    assert isinstance(_asked(data), str)
    try:
        figures = json.loads(data)
    except (ValueError, RecursionError):
        return
    known = {"tunnel": "x", "state": "connected", "pid": 1, "device": "t0"}
    shown = _described((figures if isinstance(figures, dict) else {"peers": figures}) | known)
    assert shown.startswith("x: connected")
    assert all(character.isprintable() or character == "\n" for character in shown)


ENTRIES = {
    "tunnel_figures": tunnel_figures,
    "tun_record": tun_record,
    "tunnel_messages": tunnel_messages_,
    "wire_tunnel_units": wire_tunnel_units,
    "wire_tunnel_unit": wire_tunnel_unit,
    "wireguard_answer": wireguard_answer,
    "wireguard_file": wireguard_file,
    "wireguard_message": wireguard_message,
}

_TCP = struct.pack(">HHIIBBHHH", 1234, 80, 7, 9, 5 << 4, 0x18, 500, 0, 0)
_IP4 = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + 20 + 64, 1, 0x4000, 64, 6, 0, b"\n\0\0\1", b"\n\0\0\2")
_IP6 = struct.pack(">IHBB", 6 << 28, 20 + 64, 6, 64) + bytes(32)
_UDP = struct.pack(">HHHH", 1, 2, 8 + 64, 0)
_IP4_UDP = _IP4[:2] + struct.pack(">H", 20 + 8 + 64) + _IP4[4:9] + b"\x11" + _IP4[10:]

_NET = nested(9, nested(0, attr(1, b"\2\0"), attr(2, b"\n\0\0\0"), attr(3, b"\x08")))

SEEDS: dict[str, tuple[bytes, ...]] = {
    "tunnel_figures": (
        b'{"peers": [{"public_key": "a", "endpoint": "b", "received": 1, "sent": 1e9, "last_handshake": 1e999}]}',
        b'{"packets": {"packets_in": 1, "refused": 2}, "drops": {"a": 1}, "links": [{"dropped": 1}, 7]}',
        b'{"ask": "status"}',
    ),
    "tun_record": (
        struct.pack("=BBHHHH", 1, 1, 40, 20, 20, 16) + _IP4 + _TCP + bytes(range(64)),
        struct.pack("=BBHHHH", 1, 4, 60, 30, 40, 16) + _IP6 + _TCP + bytes(range(64)),
        struct.pack("=BBHHHH", 1, 5, 28, 30, 20, 6) + _IP4_UDP + _UDP + bytes(64),
        bytes(10) + _IP4 + _TCP,
    ),
    "tunnel_messages": tuple(
        packet
        for message in (
            tunnel_messages.LinkWanted(1, "vpn.test", 51820),
            tunnel_messages.Started(6, "no answer", None),
            tunnel_messages.Applied(1),
            messages.Stop(1),
        )
        for packet in messages.batches([message])
    ),
    "wireguard_answer": (
        bytes(4) + nested(8, nested(0, attr(1, bytes(32)) + attr(4, b"\2\0" + bytes(14)) + attr(6, bytes(16)) + _NET)),
    ),
    "wire_tunnel_units": (
        bundle([bytes(10) + b"E" + bytes(19), bytes(10) + b"E" + bytes(40)]),
        b"".join(HEAD.pack(7, 9, 0, piece, 3) + bytes(28) for piece in range(3)),
    ),
    "wire_tunnel_unit": (
        bytes(10) + _IP4 + _TCP + bytes(2000),
        REPORT.pack(REPORT_MAGIC, 7, 9),
        PROBE.pack(PROBE_MAGIC, PIECE).ljust(PIECE - 16, b"\0"),
        PROBE.pack(ANSWER_MAGIC, SMALL_PIECE),
    ),
    "wireguard_file": (
        b"[Interface]\nPrivateKey = YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=\nAddress = 10.0.0.2/32\n"
        b"[Peer]\nPublicKey = YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=\nAllowedIPs = ::/0\nEndpoint = a.test:1\n",
    ),
    "wireguard_message": (
        b"\1\0\0\0" + bytes(144),
        b"\2\0\0\0" + bytes(88),
        b"\3\0\0\0" + bytes(60),
        b"\4\0\0\0" + bytes(28),
        _IP4 + _TCP,
    ),
}
