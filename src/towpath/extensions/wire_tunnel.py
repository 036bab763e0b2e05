# /// script
# [tool.towpath.extension]
# id = "wire-tunnel"
# version = "0.1"
# kind = "packet-tunnel"
# class = "WireTunnel"
# capabilities = ["packet-tunnel-provider", "listen"]
# memory = 1024
# ///
"""Our reference protocol for tunnels, both ends: super-packets sealed whole, or in pieces where the path loses.

    towpath run --tunnel wire-tunnel:client.toml -- curl http://10.9.0.1/

**Handshake.** Noise_IKpsk2 as WireGuard has it, with cookies and timers: `Device` is used for sessions alone. It was
chosen over TLS-PSK and QUIC because one round trip gives both sides keys and identities, the server holds nothing
for who has not proved that it can be reached, and a peer that moves is followed by what it seals.

**Data.** Two keys derived from a session's are used with AES-256-GCM. A *unit* is a record of the TUN device (10 bytes
that say what is still to be done to a packet, then up to 62 KB of it), sealed whole: the far device takes it, and no
checksum is ever made. A unit travels in as many datagrams as it needs, each behind 12 bytes: the receiver's index (4),
the unit's counter (6, its number in this session), which piece this is (1), how many there are (1).

**Loss.** A lost datagram costs its unit. Each side says four times a second how many units came whole, and which was
the last; so the sender knows how many did not, makes of it the share of lost datagrams, and then its units smaller:
62 KB on a clean path, 8 KB from 0.02 % of lost datagrams on, single packets from 0.3 % on. After 10 clean seconds they
grow again.
"""

from __future__ import annotations

import asyncio
import base64
import struct
from collections import deque
from collections.abc import Mapping
from functools import lru_cache, partial
from ipaddress import ip_network
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.extensions.wireguard.device import Device, destination_of
from towpath.extensions.wireguard.keypair import Keypair
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.extensions.wireguard.peer import Peer
from towpath.providers import (
    DatagramLink,
    Datagrams,
    DisconnectCause,
    DnsSettings,
    Packet,
    PacketTunnelProvider,
    PeerAddress,
    TunnelFailed,
    TunnelSettings,
)

try:
    import numpy
except ImportError:  # an optional dependency
    numpy = None  # type: ignore[assignment]

_HEAD = struct.Struct("<IIHBB")
"""Index, low and high part of the counter, piece, pieces."""
_HANDSHAKE = b"\xff\xff\xff\xff"
"""Before a message of the handshake, in the place of an index."""
_TAG = 16
_PIECE = 1440
"""Sealed bytes of a unit in one datagram."""
_LEVELS = (62_000, 8_000, 0)
"""The most that a unit holds, by how much the path loses; 0 is single packets."""
_LOSSY = (0.0002, 0.003)
_GROW_AFTER = 10.0
_MOST_OPEN = 64
_OPEN_SECONDS = 1.0
_MOST_STAGED = 64
_FIRST_ANSWER = 20.0
_REPORT = 0.25
_REPORT_HEAD = struct.Struct("<4sQQ")
_REPORT_MAGIC = b"\0RPT"


class Member(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The other side: `endpoint` is HOST:PORT of a server; a server's clients have none."""

    public_key: str
    addresses: tuple[str, ...]
    endpoint: str = ""
    preshared_key: str = ""

    def __repr__(self) -> str:
        return f"Member({self.public_key})"


class Config(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Keys are base64, as `towpath tunnel keygen` makes them. With `listen`, a port, it is a server."""

    private_key: str
    addresses: tuple[str, ...]
    peers: tuple[Member, ...]
    listen: int = 0
    dns: tuple[str, ...] = ()
    mtu: int = 1400

    def __repr__(self) -> str:
        return f"Config(addresses={self.addresses})"


class _Reassembly:
    """Pieces of units that have not come whole."""

    def __init__(self) -> None:
        self._open: dict[int, tuple[list[bytes | None], int, float]] = {}

    def add(self, counter: int, piece: int, pieces: int, data: memoryview, now: float) -> bytes | None:
        """The whole unit when this was its last piece."""
        parts, left, since = self._open.get(counter, ([None] * pieces, pieces, now))
        if len(parts) != pieces or parts[piece] is not None:
            return None
        parts[piece] = bytes(data)
        if left > 1:
            self._open[counter] = parts, left - 1, since
            if len(self._open) > _MOST_OPEN:
                del self._open[next(iter(self._open))]
            return None
        self._open.pop(counter, None)
        return b"".join(part for part in parts if part is not None)

    def expire(self, now: float) -> None:
        for counter, (_parts, _left, since) in list(self._open.items()):
            if now - since > _OPEN_SECONDS:
                del self._open[counter]


class _Traffic:
    """What is known of one session's data: ciphers, counters, and how the path is."""

    def __init__(self, keypair: Keypair) -> None:
        send, receive = keypair.derived(b"wire tunnel unit")
        self.send_cipher = AESGCM(send)
        self.receive_cipher = AESGCM(receive)
        self.reassembly = _Reassembly()
        self.pieces_sent = 0
        self.whole = 0
        """Units that came."""
        self.end = 0
        """One more than the greatest number of a unit that came."""
        self.told = (0, 0)
        self.path_seen = (0, 0, 0)
        """Of the last report that was used: whole, end, and the pieces that had been sent."""

    def came(self, counter: int) -> None:
        self.whole += 1
        self.end = max(self.end, counter + 1)


class _Path:
    """How large a unit may be, by what the other side says of loss."""

    def __init__(self) -> None:
        self.level = 0
        self._clean_since = 0.0

    def report(self, traffic: _Traffic, whole: int, end: int, now: float) -> None:
        whole_before, end_before, pieces_before = traffic.path_seen
        sent, lost = end - end_before, end - end_before - (whole - whole_before)
        if sent < 20 and lost <= 0:
            return
        pieces = max(1.0, (traffic.pieces_sent - pieces_before) / max(1, sent))
        traffic.path_seen = whole, end, traffic.pieces_sent
        share = max(0, lost) / max(1, sent) / pieces
        if lost > 0:
            self.level = max(self.level, sum(share > limit for limit in _LOSSY))
            self._clean_since = now
        elif now - self._clean_since > _GROW_AFTER and self.level:
            self.level -= 1
            self._clean_since = now


class WireTunnel(PacketTunnelProvider[Config]):
    """Client and server."""

    async def start(self, options: Mapping[str, str] | None) -> None:
        config = self.config
        self._device = Device(_private(config.private_key), wall=self.tunnel.now)
        self._links: dict[Peer, DatagramLink] = {}
        self._listening: DatagramLink | None = None
        self._traffic: dict[int, _Traffic] = {}
        self._paths: dict[Peer, _Path] = {}
        self._staged: dict[Peer, deque[bytes]] = {}
        """Records that wait for a session. Those of the device are packets, and would be sent as such."""
        self._dialled: list[Peer] = []
        self._answered = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        for member in config.peers:
            await self._add(member)
        if config.listen:
            self._listening = await self.listen(config.listen)
            self._listening.deliver_to(partial(self._receive, self._listening))
        elif not self._dialled:
            raise ConfigInvalid("peers", "no peer has an endpoint, and there is no port to listen on")
        await self.set_settings(
            TunnelSettings(
                remote=config.peers[0].endpoint,
                addresses=config.addresses,
                included=tuple(dict.fromkeys(one for member in config.peers for one in member.addresses)),
                dns=DnsSettings(servers=config.dns) if config.dns else None,
                mtu=config.mtu,
            )
        )
        self.packets.deliver_to(self._send)
        now = self.tunnel.boot_time()
        for peer in self._dialled:
            self._device.initiate(peer, now, wanted=True)
        self._flush()
        self._tick()
        if self._dialled:
            try:
                await asyncio.wait_for(self._answered.wait(), _FIRST_ANSWER)
            except TimeoutError:
                raise TunnelFailed(DisconnectCause.SERVER_NOT_RESPONDING, "the server does not answer") from None

    async def _add(self, member: Member) -> None:
        peer = self._device.add(
            Peer(
                _key(member.public_key),
                preshared=_key(member.preshared_key) if member.preshared_key else bytes(32),
                allowed=[ip_network(one) for one in member.addresses],
                keepalive=25 if member.endpoint else 0,
            )
        )
        self._paths[peer] = _Path()
        self._staged[peer] = deque(maxlen=_MOST_STAGED)
        if member.endpoint:
            host, _, port = member.endpoint.rpartition(":")
            link = await self.connect(host.strip("[]"), int(port))
            peer.endpoint = link.remote
            self._links[peer] = link
            self._dialled.append(peer)
            link.deliver_to(partial(self._receive, link))

    # Out.

    def _send(self, packets: list[Packet]) -> None:
        now = self.tunnel.boot_time()
        for packet in packets:
            destination = destination_of(packet.data)  # type: ignore[arg-type]
            peer = self._device.allowed.find(destination) if destination is not None else None
            if peer is None:
                self._device.drops["no peer for the destination"] += 1
                continue
            keypair = peer.sending_keypair(now)
            if keypair is None:
                self._staged[peer].append(bytes(packet.record))
                self._device.initiate(peer, now, wanted=True)
                continue
            most = _LEVELS[self._paths[peer].level]
            if len(packet.record) <= max(most, _PIECE - _TAG):
                self._send_unit(peer, keypair, packet.record, now)
            else:
                self._send_smaller(peer, keypair, packet, most, now)
            self._device.keep_fresh(peer, keypair, now)
        self._flush()

    def _send_smaller(self, peer: Peer, keypair: Keypair, packet: Packet, most: int, now: float) -> None:
        """Cuts a super-packet into smaller ones, by whole segments; into packets where the path is bad."""
        try:
            records = packet.cut(most)
        except PeerViolation:
            self._device.drops["packet-malformed"] += 1
            return
        if most:
            for record in records:
                self._send_unit(peer, keypair, record, now)
            return
        traffic = self._traffic_of(keypair)
        datagrams = []
        for record in records:
            counter = keypair.counter
            keypair.counter += 1
            sealed = traffic.send_cipher.encrypt(b"unit" + counter.to_bytes(8, "little"), record, None)
            head = _HEAD.pack(keypair.peer_index, counter & 0xFFFFFFFF, counter >> 32, 0, 1)
            datagrams.append(head + sealed)
        traffic.pieces_sent += len(datagrams)
        peer.note_sent(sum(map(len, datagrams)), now, data=True)
        link = self._links.get(peer)
        if link is not None:
            link.send_each(datagrams)
        elif self._listening is not None and peer.endpoint is not None:
            self._listening.send_each(datagrams, peer.endpoint)

    def _send_unit(self, peer: Peer, keypair: Keypair, record: bytes | bytearray | memoryview, now: float) -> None:
        traffic = self._traffic_of(keypair)
        counter = keypair.counter
        keypair.counter += 1
        sealed = memoryview(traffic.send_cipher.encrypt(b"unit" + counter.to_bytes(8, "little"), record, None))
        pieces = -(-len(sealed) // _PIECE)
        size = _PIECE + _HEAD.size
        same = _HEAD.pack(keypair.peer_index, counter & 0xFFFFFFFF, counter >> 32, 0, 0)[:10]
        parts = _pieces(sealed, same, pieces)
        traffic.pieces_sent += pieces
        peer.note_sent(len(sealed) + pieces * _HEAD.size, now, data=True)
        self._put(peer, parts, size if pieces > 1 else 0)

    def _put(self, peer: Peer, parts: list[Any], size: int) -> None:
        link = self._links.get(peer)
        if link is not None:
            link.send(parts, size)
        elif self._listening is not None and peer.endpoint is not None:
            self._listening.send(parts, size, peer.endpoint)

    def _flush(self) -> None:
        for peer, message in self._device.take_outgoing():
            self._put(peer, [_HANDSHAKE + message], 0)
        for endpoint, message in self._device.to_endpoint:
            if self._listening is not None:
                self._listening.send([_HANDSHAKE + message], 0, endpoint)
        self._device.to_endpoint.clear()

    def _traffic_of(self, keypair: Keypair) -> _Traffic:
        traffic = self._traffic.get(keypair.index)
        if traffic is None:
            known = {one.index for peer in self._device.peers.values() for one in peer.keypairs()}
            for index in [index for index in self._traffic if index not in known]:
                del self._traffic[index]
            traffic = self._traffic[keypair.index] = _Traffic(keypair)
        return traffic

    # In.

    def _receive(self, _link: DatagramLink, rows: Datagrams) -> None:
        now = self.tunnel.boot_time()
        records: list[Packet] = []
        data = memoryview(rows.data)
        size = rows.size
        whole = _whole_unit(data, size)
        if whole is not None:
            self._unit(*whole, rows.source, now, records)
            data = data[:0]
        for at in range(0, len(data), size or 1):
            one = data[at : at + size]
            if len(one) < _HEAD.size:
                self._device.drops["not a message"] += 1
            elif bytes(one[:4]) == _HANDSHAKE:
                self._handshake(bytes(one[4:]), rows.source, now)
            else:
                self._piece(one, rows.source, now, records)
        if records:
            self.packets.write(records)
        self._flush()

    def _handshake(self, message: bytes, source: PeerAddress, now: float) -> None:
        before = self._device.drops.total()
        self._device.receive(message, source, now)
        if message[:1] == b"\4" and self._device.drops.total() == before:
            session = self._device.session(int.from_bytes(message[4:8], "little"))
            if session is not None:
                self._traffic_of(session[1]).came(int.from_bytes(message[8:16], "little"))
        if any(peer.handshakes for peer in self._dialled):
            self._answered.set()
        self._send_staged(now)

    def _send_staged(self, now: float) -> None:
        for peer, staged in self._staged.items():
            keypair = peer.sending_keypair(now) if staged else None
            while keypair is not None and staged:
                self._send_unit(peer, keypair, staged.popleft(), now)

    def _piece(self, one: memoryview, source: PeerAddress, now: float, records: list[Packet]) -> None:
        index, low, high, piece, pieces = _HEAD.unpack_from(one)
        session = self._device.session(index)
        if session is None or piece >= pieces:
            self._device.drops["data-index"] += 1
            return
        traffic = self._traffic_of(session[1])
        counter = high << 32 | low
        body = one[_HEAD.size :]
        if pieces == 1:
            self._unit(index, counter, body, source, now, records)
            return
        unit = traffic.reassembly.add(counter, piece, pieces, body, now)
        if unit is not None:
            self._unit(index, counter, unit, source, now, records)

    def _unit(
        self,
        index: int,
        counter: int,
        unit: bytes | memoryview,
        source: PeerAddress,
        now: float,
        records: list[Packet],
    ) -> None:
        session = self._device.session(index)
        if session is None:
            self._device.drops["data-index"] += 1
            return
        peer, keypair = session
        traffic = self._traffic_of(keypair)
        try:
            record = traffic.receive_cipher.decrypt(b"unit" + counter.to_bytes(8, "little"), unit, None)
        except (InvalidTag, ValueError):
            self._device.drops["data-authentication"] += 1
            return
        if not keypair.window.take(counter):
            self._device.drops["data-replayed"] += 1
            return
        traffic.came(counter)
        self._device.authentic(peer, keypair, source, len(unit), now, data=True)
        if self._staged[peer]:
            self._send_staged(now)
        if record[:4] == _REPORT_MAGIC:
            if len(record) == _REPORT_HEAD.size:
                _magic, came, end = _REPORT_HEAD.unpack(record)
                self._paths[peer].report(traffic, came, end, now)
            return
        packet = Packet(record)
        if packet.version in (4, 6) and len(record) >= 30 and self._device.may_send(peer, record[10:]):
            records.append(packet)
        else:
            self._device.drops["packet-source"] += 1

    # Time.

    def _tick(self) -> None:
        now = self.tunnel.boot_time()
        self._device.tick(now)
        self._report(now)
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(_REPORT, self._tick)

    def _report(self, now: float) -> None:
        """Says what came of the last session's datagrams, where any came since the last time."""
        for peer in self._device.peers.values():
            keypair = peer.sending_keypair(now)
            traffic = self._traffic.get(keypair.index) if keypair is not None else None
            if keypair is None or traffic is None:
                continue
            traffic.reassembly.expire(now)
            if traffic.whole > traffic.told[0] + 3:  # reports of reports would never end
                traffic.told = traffic.whole, traffic.end
                self._send_unit(peer, keypair, _REPORT_HEAD.pack(_REPORT_MAGIC, *traffic.told), now)

    def wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._tick()

    def network_changed(self) -> None:
        now = self.tunnel.boot_time()
        for peer in self._dialled:
            self._device.keepalive(peer, now)
        self._flush()

    def stop(self, reason: object) -> None:
        timer = getattr(self, "_timer", None)
        if timer is not None:
            timer.cancel()

    def status(self) -> Mapping[str, Any]:
        device = getattr(self, "_device", None)
        if device is None:
            return {}
        return {
            "protocol": "wire tunnel",
            "implementation": "Towpath, in user space",
            "peers": [
                {
                    "public_key": base64.b64encode(peer.public).decode(),
                    "endpoint": peer.endpoint and "{}:{}".format(*peer.endpoint),
                    "last_handshake": peer.last_handshake or None,
                    "handshakes": peer.handshakes,
                    "received": peer.received,
                    "sent": peer.sent,
                    "unit": _LEVELS[self._paths[peer].level] or "packets",
                }
                for peer in device.peers.values()
            ],
            "drops": dict(device.drops),
        }


@lru_cache(64)
def _tails(count: int) -> list[bytes]:
    """What the heads of a unit's pieces end with, behind nothing: what they begin with joins them to all heads."""
    return [b"", *(bytes((piece, count)) for piece in range(count))]


def _pieces(sealed: memoryview, same: bytes, count: int) -> list[Any]:
    """The datagrams of a unit, to be sent in one call; `same` is what each head begins with."""
    if count == 1:
        return [same, b"\0\1", sealed]
    tails = _tails(count)[1:]
    if numpy is None:
        return [
            part
            for piece, tail in enumerate(tails)
            for part in (same, tail, sealed[piece * _PIECE : (piece + 1) * _PIECE])
        ]
    whole = (count - 1) * _PIECE
    table = numpy.empty((count - 1, _HEAD.size + _PIECE), numpy.uint8)
    heads = numpy.frombuffer(same.join(_tails(count)), numpy.uint8).reshape(count, _HEAD.size)
    table[:, : _HEAD.size] = heads[:-1]
    table[:, _HEAD.size :] = numpy.frombuffer(sealed[:whole], numpy.uint8).reshape(count - 1, _PIECE)
    return [table.data.cast("B"), same, tails[-1], sealed[whole:]]


def _whole_unit(data: memoryview, size: int) -> tuple[int, int, bytes] | None:
    """Index, counter and sealed bytes of a read that holds exactly one unit of several pieces, in order."""
    count = -(-len(data) // size) if size else 0
    if numpy is None or count < 2 or data[11] != count or bytes(data[:4]) == _HANDSHAKE:
        return None
    index, low, high, _piece, _count = _HEAD.unpack_from(data)
    last = (count - 1) * size
    table = numpy.frombuffer(data[:last], numpy.uint8).reshape(count - 1, size)
    heads = table[:, : _HEAD.size].tobytes() + bytes(data[last : last + _HEAD.size])
    if heads != bytes(data[:10]).join(_tails(count)):
        return None
    return index, high << 32 | low, table[:, _HEAD.size :].tobytes() + bytes(data[last + _HEAD.size :])


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ConfigInvalid("keys", "a key is not 32 bytes in base64", "towpath tunnel keygen")
    return raw


def _private(text: str) -> PrivateKey:
    return PrivateKey(_key(text))
