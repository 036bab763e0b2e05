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
from towpath.extensions.wire_tunnel.units import HANDSHAKE, HEAD, cut_unit, whole_unit
from towpath.extensions.wireguard.device import Device, destination_of
from towpath.extensions.wireguard.keypair import TAG_SIZE, Keypair
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

_MOST_STAGED = 64
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
            path = self._paths[peer]
            path.used, most = True, path.most
            if len(packet.record) <= max(most, path.piece - TAG_SIZE):
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
        if most or any(len(record) > self._paths[peer].piece - TAG_SIZE for record in records):
            for record in records:
                self._send_unit(peer, keypair, record, now)
            return
        traffic = self._traffic_of(keypair)
        datagrams = []
        for record in records:
            sealed, head = traffic.seal(record)
            datagrams.append(b"".join((head, b"\0\1", sealed)))
        traffic.pieces_sent += len(datagrams)
        peer.note_sent(sum(map(len, datagrams)), now, data=True)
        self._links.send_each(peer, datagrams)

    def _send_unit(self, peer: Peer, keypair: Keypair, record: bytes | bytearray | memoryview, now: float) -> None:
        traffic = self._traffic_of(keypair)
        sealed, head = traffic.seal(record)
        size = self._paths[peer].piece
        pieces = -(-len(sealed) // size)
        traffic.pieces_sent += pieces
        peer.note_sent(len(sealed) + pieces * HEAD.size, now, data=True)
        self._links.send(peer, cut_unit(sealed, head, pieces, size), size + HEAD.size if pieces > 1 else 0)

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
        records: list[Packet] = []
        data = memoryview(rows.data)
        size = rows.size
        whole = whole_unit(data, size)
        if whole is not None:
            self._unit(*whole, rows.source, now, records)
            data = data[:0]
        for at in range(0, len(data), size or 1):
            one = data[at : at + size]
            if len(one) < HEAD.size:
                self._device.drops["not a message"] += 1
            elif bytes(one[:4]) == HANDSHAKE:
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
        if any(peer.handshakes for peer in self._links.dialled):
            self._answered.set()
        self._send_staged(now)

    def _send_staged(self, now: float) -> None:
        for peer, staged in self._staged.items():
            keypair = peer.sending_keypair(now) if staged else None
            while keypair is not None and staged:
                self._send_unit(peer, keypair, staged.popleft(), now)

    def _piece(self, one: memoryview, source: PeerAddress, now: float, records: list[Packet]) -> None:
        index, low, high, piece, pieces = HEAD.unpack_from(one)
        session = self._device.session(index)
        if session is None or piece >= pieces:
            self._device.drops["data-index"] += 1
            return
        traffic = self._traffic_of(session[1])
        counter = high << 32 | low
        body = one[HEAD.size :]
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
            record = traffic.open(counter, unit)
        except PeerViolation as violation:
            self._device.drops[violation.fault] += 1
            return
        self._device.authentic(peer, keypair, source, len(unit), now, data=True)
        if self._staged[peer]:
            self._send_staged(now)
        if record[:4] == REPORT_MAGIC:
            if len(record) == REPORT.size:
                _magic, came, end = REPORT.unpack(record)
                self._paths[peer].report(traffic, came, end, now)
            return
        if record[:4] in (PROBE_MAGIC, ANSWER_MAGIC):
            self._probed(peer, keypair, record, now)
            return
        packet = Packet(record)
        if packet.version in (4, 6) and len(record) >= 30 and self._device.may_send(peer, record[10:]):
            records.append(packet)
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
                traffic = self._traffic_of(keypair)
                sealed, head = traffic.seal(PROBE.pack(PROBE_MAGIC, size).ljust(size - TAG_SIZE, b"\0"))
                traffic.pieces_sent += 1
                peer.note_sent(len(sealed) + HEAD.size, now, data=True)
                self._links.send(peer, cut_unit(sealed, head, 1), 0)

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
            if traffic.whole > traffic.told[0] + 3:  # reports of reports would never end
                traffic.told = traffic.whole, traffic.end
                self._send_unit(peer, keypair, REPORT.pack(REPORT_MAGIC, *traffic.told), now)

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
            "implementation": "Towpath, in user space",
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
