# /// script
# [tool.towpath.extension]
# id = "wire-tunnel"
# version = "0.1"
# kind = "packet-tunnel"
# class = "WireTunnel"
# capabilities = ["packet-tunnel-provider", "listen"]
# memory = 1024
# ///
"""The reference tunnel, client and server:  towpath run --tunnel wire-tunnel:client.toml -- curl http://10.9.0.1/"""

from __future__ import annotations

import asyncio
import base64
from collections import deque
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.extensions.support.peer_links import PeerLinks, place
from towpath.extensions.wire_tunnel.config import Config, Member, read_key
from towpath.extensions.wire_tunnel.path import ANSWER_MAGIC, PROBE, PROBE_MAGIC, REPORT, REPORT_MAGIC, Path
from towpath.extensions.wire_tunnel.sessions import Traffic
from towpath.extensions.wire_tunnel.units import (
    BUNDLE_HEAD,
    HANDSHAKE,
    HEAD,
    NO_INDEX,
    PIECE,
    SMALL_PIECE,
    Pieces,
    Run,
    bundle,
    bundled,
    read_run,
)
from towpath.extensions.wireguard.device import Device
from towpath.extensions.wireguard.keypair import REJECT_AFTER_TIME, TAG_SIZE, Keypair
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.extensions.wireguard.peer import Peer
from towpath.providers import (
    DatagramLink,
    Datagrams,
    DnsSettings,
    Packet,
    PacketTunnelProvider,
    PeerAddress,
    TunnelSettings,
)
from towpath.providers.packets import Buffer

_MOST_STAGED = 64
_BUNDLED = 4096
"""Bytes of the largest record that shares a unit: what is larger would only be copied once more."""
_REPORT_EACH = 0.25


class WireTunnel(PacketTunnelProvider[Config]):
    """Client and server."""

    async def start(self, options: Mapping[str, str] | None) -> None:
        config = self.config
        self._device = Device(PrivateKey(read_key(config.private_key)), wall=self.tunnel.now)
        self._links: PeerLinks[Peer] = PeerLinks(self, self._receive)
        self._traffic: dict[int, Traffic] = {}
        self._paths: dict[Peer, Path] = {}
        self._staged: dict[Peer, deque[bytes]] = {}
        """Records that wait for a session. Those of the device are packets, and would be sent as such."""
        self._pieces = {size: Pieces(size) for size in (PIECE, SMALL_PIECE)}
        self._answered = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        for member in config.peers:
            await self._add(member)
        if config.listen:
            await self._links.listen(config.listen)
        elif not self._links.dialled:
            raise ConfigInvalid("peers", "no peer has an endpoint, and there is no port to listen on")
        await self.set_settings(
            TunnelSettings(
                remote=config.peers[0].endpoint,
                addresses=config.addresses,
                included=tuple(dict.fromkeys(one for member in config.peers for one in member.addresses)),
                dns=DnsSettings(servers=config.dns, match_domains=config.domains) if config.dns else None,
                mtu=config.mtu,
            )
        )
        self.packets.deliver_to(self._send)
        now = self.tunnel.boot_time()
        for peer in self._links.dialled:
            self._device.initiate(peer, now, wanted=True)
        self._flush()
        self._tick()
        if self._links.dialled:
            key = base64.b64encode(self._device.key.public).decode()
            hint = f"does that server know the public key {key}, are its own and the endpoint right, is UDP dropped?"
            await self._links.first_answer(self._answered, self._device.drops, hint)

    async def _add(self, member: Member) -> None:
        peer = self._device.add(
            Peer(
                read_key(member.public_key),
                preshared=read_key(member.preshared_key) if member.preshared_key else bytes(32),
                allowed=[ip_network(one) for one in member.addresses],
                keepalive=25 if member.endpoint else 0,
            )
        )
        self._paths[peer] = Path()
        self._staged[peer] = deque(maxlen=_MOST_STAGED)
        if member.endpoint:
            host, _, port = member.endpoint.rpartition(":")
            await self._links.dial(peer, host.strip("[]"), int(port), f"endpoint of {member.public_key}")

    # Out.

    def _send(self, packets: list[Packet]) -> None:
        now = self.tunnel.boot_time()
        find = self._device.allowed.find
        waiting: dict[Peer, list[Buffer]] = {}
        for packet in packets:
            record = packet.record
            peer = find(_destination(record))
            if peer is None:
                self._device.drops["no peer for the destination"] += 1
            elif peer in waiting:
                waiting[peer].append(record)
            else:
                waiting[peer] = [record]
        for peer, records in waiting.items():
            keypair = peer.sending_keypair(now)
            if keypair is None:
                self._staged[peer].extend(map(bytes, records))
                self._device.initiate(peer, now, wanted=True)
            else:
                self._send_records(peer, keypair, records, now)
                self._device.keep_fresh(peer, keypair, now)
        self._flush()

    def _send_records(self, peer: Peer, keypair: Keypair, records: list[Buffer], now: float) -> None:
        """In units as large as the path is good for, and not smaller than a datagram."""
        path = self._paths[peer]
        path.used, room = True, max(path.most, path.piece - TAG_SIZE)
        if len(records) == 1 and len(records[0]) <= room:
            self._send_unit(peer, keypair, records[0], now)
            return
        together: list[Buffer] = []
        left = room - BUNDLE_HEAD
        for record in records:
            length = len(record)
            if length > left - 2 and together:
                self._send_bundle(peer, keypair, together, now)
                together, left = [], room - BUNDLE_HEAD
            if length <= _BUNDLED and length <= left - 2:
                together.append(record)
                left -= length + 2
                continue
            if together:
                self._send_bundle(peer, keypair, together, now)
                together, left = [], room - BUNDLE_HEAD
            if length <= room:
                self._send_unit(peer, keypair, record, now)
            else:
                self._send_smaller(peer, keypair, Packet(record), path, now)
        if together:
            self._send_bundle(peer, keypair, together, now)

    def _send_bundle(self, peer: Peer, keypair: Keypair, records: list[Buffer], now: float) -> None:
        self._send_unit(peer, keypair, records[0] if len(records) == 1 else bundle(records), now)

    def _send_smaller(self, peer: Peer, keypair: Keypair, packet: Packet, path: Path, now: float) -> None:
        """Cuts a super-packet into smaller ones, by whole segments; into packets where the path is bad."""
        try:
            records = packet.cut(path.most)
        except PeerViolation:
            self._device.drops["packet-malformed"] += 1
            return
        if path.most or any(len(record) > path.piece - TAG_SIZE for record in records):
            for record in records:
                self._send_unit(peer, keypair, record, now)
            return
        traffic = self._traffic_of(keypair)
        room = self._pieces[path.piece].room
        datagrams = []
        for record in records:
            length, start = traffic.seal(record, room)
            datagrams.append(b"".join((start, b"\0\1", room[:length])))
        traffic.pieces_sent += len(datagrams)
        peer.note_sent(sum(map(len, datagrams)), now, data=True)
        self._links.send_each(peer, datagrams)

    def _send_unit(self, peer: Peer, keypair: Keypair, content: Buffer, now: float) -> None:
        traffic = self._traffic.get(keypair.index) or self._traffic_of(keypair)
        pieces = self._pieces[self._paths[peer].piece]
        length, start = traffic.seal(content, pieces.room)
        count = -(-length // pieces.size)
        traffic.pieces_sent += count
        peer.note_sent(length + count * HEAD.size, now, data=True)
        self._links.send(peer, pieces.of(length, start), pieces.size + HEAD.size if count > 1 else 0)

    def _flush(self) -> None:
        for peer, message in self._device.take_outgoing():
            self._links.send(peer, [HANDSHAKE + message], 0)
        for endpoint, message in self._device.to_endpoint:
            self._links.answer(endpoint, HANDSHAKE + message)
        self._device.to_endpoint.clear()

    def _traffic_of(self, keypair: Keypair) -> Traffic:
        traffic = self._traffic.get(keypair.index)
        if traffic is None:
            known = {one.index for peer in self._device.peers.values() for one in peer.keypairs()}
            for index in [index for index in self._traffic if index not in known]:
                del self._traffic[index]
            traffic = self._traffic[keypair.index] = Traffic(keypair)
        return traffic

    # In.

    def _receive(self, _link: DatagramLink, rows: Datagrams) -> None:
        now = self.tunnel.boot_time()
        packets: list[Packet] = []
        data, size, source = memoryview(rows.data), rows.size, rows.source
        if len(data) <= size:
            self._datagram(data, source, now, packets)
        elif (run := read_run(data, size)) is not None:
            self._pieces_came(run, source, now, packets)
        else:
            for at in range(0, len(data), size):
                self._datagram(data[at : at + size], source, now, packets)
        if packets:
            self.packets.write(packets)
        if self._device.outgoing or self._device.to_endpoint:
            self._flush()

    def _datagram(self, data: memoryview, source: PeerAddress, now: float, packets: list[Packet]) -> None:
        if len(data) < HEAD.size:
            self._device.drops["not a message"] += 1
            return
        index, low, high, piece, count = HEAD.unpack_from(data)
        if count == 1 and index != NO_INDEX:
            self._unit(index, high << 32 | low, data[HEAD.size :], source, now, packets)
        elif index == NO_INDEX:
            self._handshake(bytes(data[len(HANDSHAKE) :]), source, now)
        elif piece >= count:
            self._device.drops["data-index"] += 1
        else:
            run = Run(index, high << 32 | low, piece, 1, count, bytes(data[HEAD.size :]))
            self._pieces_came(run, source, now, packets)

    def _pieces_came(self, run: Run, source: PeerAddress, now: float, packets: list[Packet]) -> None:
        session = self._device.session(run.receiver)
        if session is None:
            self._device.drops["data-index"] += 1
            return
        unit = self._traffic_of(session[1]).reassembly.add(run, now)
        if unit is not None:
            self._unit(run.receiver, run.counter, unit, source, now, packets)

    def _handshake(self, message: bytes, source: PeerAddress, now: float) -> None:
        before = self._device.drops.total()
        self._device.receive(message, source, now)
        if message[:1] == b"\4" and self._device.drops.total() == before:
            session = self._device.session(int.from_bytes(message[4:8], "little"))
            if session is not None:
                self._traffic_of(session[1]).came(int.from_bytes(message[8:16], "little"))
        if any(peer.handshakes for peer in self._links.dialled):
            self._answered.set()
        self._send_staged(now)

    def _send_staged(self, now: float) -> None:
        for peer, staged in self._staged.items():
            keypair = peer.sending_keypair(now) if staged else None
            if keypair is not None and staged:
                self._send_records(peer, keypair, list(staged), now)
                staged.clear()

    def _unit(
        self, index: int, counter: int, sealed: Buffer, source: PeerAddress, now: float, packets: list[Packet]
    ) -> None:
        device = self._device
        session = device.session(index)
        if session is None:
            device.drops["data-index"] += 1
            return
        peer, keypair = session
        traffic = self._traffic.get(index) or self._traffic_of(keypair)
        try:
            if now - keypair.made >= REJECT_AFTER_TIME:
                raise PeerViolation("data-expired", "a session that is too old")
            content = traffic.open(counter, sealed)
            device.authentic(peer, keypair, source, len(sealed), now, data=True)
            magic = content[:4]
            if magic == REPORT_MAGIC and len(content) == REPORT.size:
                _magic, came, end = REPORT.unpack(content)
                self._paths[peer].report(traffic, came, end, now)
            elif magic in (PROBE_MAGIC, ANSWER_MAGIC):
                self._probed(peer, keypair, content, now)
            else:
                self._take(peer, bundled(content), packets)
        except PeerViolation as violation:
            device.drops[violation.fault] += 1
        if self._staged[peer]:
            self._send_staged(now)

    def _take(self, peer: Peer, records: list[Buffer], packets: list[Packet]) -> None:
        """Those whose source is the peer's (cryptokey routing)."""
        find = self._device.allowed.find
        for record in records:
            if find(_source(record)) is peer:
                packets.append(Packet(record))
            else:
                self._device.drops["packet-source"] += 1

    # Time.

    def _probed(self, peer: Peer, keypair: Keypair, record: bytes, now: float) -> None:
        """A probe of the peer's is answered; an answer says what gets through to it."""
        if len(record) < PROBE.size:
            return
        magic, size = PROBE.unpack_from(record)
        if magic == ANSWER_MAGIC:
            self._paths[peer].answered(size, now)
        elif size == len(record) + TAG_SIZE:
            self._send_unit(peer, keypair, PROBE.pack(ANSWER_MAGIC, size), now)

    def _probe(self, now: float) -> None:
        for peer, path in self._paths.items():
            keypair = peer.sending_keypair(now)
            if keypair is None:
                continue
            for size in path.probes(now):
                probe = PROBE.pack(PROBE_MAGIC, size).ljust(size - TAG_SIZE, b"\0")
                traffic, pieces = self._traffic_of(keypair), self._pieces[PIECE]
                length, start = traffic.seal(probe, pieces.room)
                traffic.pieces_sent += 1
                peer.note_sent(length + HEAD.size, now, data=True)
                self._links.send(peer, pieces.of(length, start), 0)

    def _tick(self) -> None:
        now = self.tunnel.boot_time()
        self._device.tick(now)
        self._report(now)
        self._probe(now)
        self._flush()
        self._timer = asyncio.get_running_loop().call_later(_REPORT_EACH, self._tick)

    def _report(self, now: float) -> None:
        """Says what came of the last session's datagrams, where any came since the last time."""
        for peer in self._device.peers.values():
            keypair = peer.sending_keypair(now)
            traffic = self._traffic.get(keypair.index) if keypair is not None else None
            if keypair is None or traffic is None:
                continue
            traffic.reassembly.expire(now)
            missing = traffic.settled - traffic.whole
            # Reports of reports would never end; but a side of which little comes waits for being told of its losses.
            if traffic.whole > traffic.told + 3 or missing > traffic.missing:
                traffic.told, traffic.missing = traffic.whole, missing
                self._send_unit(peer, keypair, REPORT.pack(REPORT_MAGIC, traffic.whole, traffic.settled), now)
            traffic.settle()

    def wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._tick()

    def network_changed(self) -> None:
        now = self.tunnel.boot_time()
        for peer in self._links.dialled:
            self._paths[peer].another()
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
            "peers": [
                {
                    "public_key": base64.b64encode(peer.public).decode(),
                    "endpoint": peer.endpoint and place(*peer.endpoint),
                    "last_handshake": peer.last_handshake or None,
                    "handshakes": peer.handshakes,
                    "received": peer.received,
                    "sent": peer.sent,
                    "unit": self._paths[peer].most or "packets",
                    "piece": self._paths[peer].piece,
                }
                for peer in device.peers.values()
            ],
            "drops": dict(device.drops),
        }


def _destination(record: Buffer) -> bytes:
    """Of the packet in a record, packed; nothing of what is no packet."""
    version = record[10] >> 4 if len(record) >= 30 else 0
    return bytes(record[26:30] if version == 4 else record[34:50] if version == 6 else b"")


def _source(record: Buffer) -> bytes:
    version = record[10] >> 4 if len(record) >= 30 else 0
    return bytes(record[22:26] if version == 4 else record[18:34] if version == 6 else b"")
