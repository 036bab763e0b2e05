# /// script
# [tool.towpath.extension]
# id = "wireguard"
# version = "0.1"
# kind = "packet-tunnel"
# class = "WireGuard"
# capabilities = ["packet-tunnel-provider", "listen", "kernel-wireguard"]
# memory = 1024
# ///
"""A tunnel from a wg-quick(8) file:  towpath run --tunnel wg0.conf -- curl https://example.org/

Peers with an Endpoint are dialled. With a ListenPort, and a peer without an Endpoint, it is a server besides.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from towpath.errors import ConfigInvalid, PeerViolation
from towpath.extensions.support.peer_links import PeerLinks, place
from towpath.extensions.wireguard.config import PeerConfig, WireGuardConfig, read_config
from towpath.extensions.wireguard.device import Device, whole_packet
from towpath.extensions.wireguard.in_kernel import InKernel
from towpath.extensions.wireguard.keypair import REJECT_AFTER_TIME
from towpath.extensions.wireguard.peer import REKEY_ATTEMPT_TIME, Peer
from towpath.extensions.wireguard.rows import joined, open_row, seal_super_packet
from towpath.providers import (
    DatagramLink,
    Datagrams,
    DnsSettings,
    Packet,
    PacketTunnelProvider,
    TunnelSettings,
    join_packets,
)

_MTU = 1420
_TICK = 1.0
_REASSERTED_AFTER = 15.0


class Config(msgspec.Struct):
    """The text of a wg-quick file, which holds a secret, and its name."""

    name: str = "wg0.conf"
    text: str = ""

    def __repr__(self) -> str:
        return f"Config(name={self.name!r})"


class WireGuard(PacketTunnelProvider[Config]):
    """Joins `Device` to the packets and the links."""

    config_texts = (".conf",)
    _kernel: InKernel | None = None

    async def start(self, options: Mapping[str, str] | None) -> None:
        if not self.config.text:
            raise ConfigInvalid("--tunnel wireguard", "no wg-quick file is named", "--tunnel wg0.conf")
        config = read_config(self.config.text, self.config.name)
        for line in config.ignored:
            self.log(line, "warning" if line in config.not_run else "debug")
        if self.tunnel.kernel_wireguard:
            await self._start_in_kernel(config)
            return
        self._timer: asyncio.TimerHandle | None = None
        self._due = float("inf")
        self._links: PeerLinks[Peer] = PeerLinks(self, self._receive)
        self._answered = asyncio.Event()
        self._device = Device(config.private_key, wall=self.tunnel.now)
        await self._open_links(config)
        remote = self._links.dialled[0].endpoint if self._links.dialled else None
        await self.set_settings(_settings(config, remote))
        self.packets.deliver_to(self._send)
        now = self.tunnel.boot_time()
        for peer in self._links.dialled:
            self._device.initiate(peer, now, wanted=True)
        self._flush()
        self._wake_within(_TICK)
        if self._links.dialled:
            await self._links.first_answer(self._answered, self._device.drops, self._hint(config))

    async def _start_in_kernel(self, config: WireGuardConfig) -> None:
        self._kernel = InKernel(self, config)
        await self._kernel.set_up(self.config.name)
        servers = [peer.endpoint for peer in config.peers if peer.endpoint is not None]
        await self.set_settings(_settings(config, servers[0] if servers else None))
        await self._kernel.first_answer(self._hint(config))

    def _hint(self, config: WireGuardConfig) -> str:
        return (
            f"does that server know this PublicKey ({_text(config.private_key.public)}), are its PublicKey and "
            f"Endpoint in {self.config.name} right, is this machine's clock, does a firewall drop UDP?"
        )

    async def _open_links(self, config: WireGuardConfig) -> None:
        for entry in config.peers:
            peer = self._device.add(_peer(entry))
            if entry.endpoint is not None:
                await self._links.dial(peer, *entry.endpoint, f"{self.config.name}:{entry.endpoint_line}")
        if len(self._links.dialled) == len(config.peers):
            return
        if config.listen_port is not None:
            await self._links.listen(config.listen_port)

    def stop(self, reason: object) -> None:
        if getattr(self, "_timer", None) is not None and self._timer is not None:
            self._timer.cancel()

    # Out.

    def _send(self, packets: list[Packet]) -> None:
        device, now = self._device, self.tunnel.boot_time()
        for packet in packets:
            try:
                if not packet.record[1]:
                    device.transmit(packet.split()[0], now)
                elif not self._send_whole(packet, now):
                    for one in packet.split():
                        device.transmit(one, now)
            except (PeerViolation, IndexError):
                device.drops["packet-malformed"] += 1
        self._flush()

    def _send_whole(self, packet: Packet, now: float) -> bool:
        """Seals a super-packet at once; False where it has to be done one by one."""
        device = self._device
        peer = device.peer_of(packet.data)  # type: ignore[arg-type]
        keypair = peer.sending_keypair(now) if peer is not None else None
        if peer is None or keypair is None:
            return False
        sealed = seal_super_packet(packet, keypair)
        if sealed is None:
            return False
        self._flush()  # what came before goes before
        data, size, _count = sealed
        peer.note_sent(len(data), now, data=True)
        self._links.send(peer, [data], size)
        device.keep_fresh(peer, keypair, now)
        return True

    def _flush(self) -> None:
        device = self._device
        if device.outgoing:
            batch: list[bytes] = []
            last: Peer | None = None
            for peer, message in device.take_outgoing():
                if peer is not last and last is not None:
                    self._links.send_each(last, batch)
                    batch = []
                last = peer
                batch.append(message)
            if last is not None:
                self._links.send_each(last, batch)
            self._wake_within(_TICK)
        if device.to_endpoint:
            for endpoint, message in device.to_endpoint:
                self._links.answer(endpoint, message)
            device.to_endpoint.clear()

    # In.

    def _receive(self, link: DatagramLink, rows: Datagrams) -> None:
        device, now = self._device, self.tunnel.boot_time()
        data, size = rows.data, rows.size
        if len(data) > size and data[0] == 4 and self._receive_rows(rows, now):
            self._after()
            return
        packets = []
        for one in rows:
            packet = device.receive(bytes(one), rows.source, now)
            if packet is not None:
                packets.append(packet)
        self._give(packets)
        self._after()

    def _receive_rows(self, rows: Datagrams, now: float) -> bool:
        device = self._device
        data = memoryview(rows.data)
        session = device.session(int.from_bytes(data[4:8], "little"))
        if session is None:
            return False
        peer, keypair = session
        if now - keypair.made >= REJECT_AFTER_TIME:
            return False
        opened = open_row(data, rows.size, keypair)
        if opened is None:
            return False
        table, left = opened
        device.authentic(peer, keypair, rows.source, len(data), now, data=True)
        records = joined(table, left)
        if records is None:
            self._give([packet for packet in (self._row(peer, row) for row in table) if packet is not None])
            return True
        packets = [Packet(record) for record in records if device.may_send(peer, memoryview(record)[10:])]
        if len(packets) < len(records):
            device.drops["packet-source"] += len(records) - len(packets)
        if packets:
            self.packets.write(packets)
        return True

    def _row(self, peer: Peer, row: Any) -> bytes | None:
        plain = row.tobytes()
        packet = whole_packet(plain)
        if packet is not None and self._device.may_send(peer, packet):
            return packet
        if any(plain):
            self._device.drops["packet-source" if packet is not None else "packet-malformed"] += 1
        return None

    def _give(self, packets: list[bytes]) -> None:
        if packets:
            records = join_packets(packets) if len(packets) > 1 else [bytes(10) + packets[0]]
            self.packets.write([Packet(record) for record in records])

    def _after(self) -> None:
        self._flush()
        if not self._answered.is_set() and any(peer.handshakes for peer in self._links.dialled):
            self._answered.set()
        if self.reasserting:
            self._reassert(self.tunnel.boot_time())

    # Time.

    def _wake_within(self, seconds: float) -> None:
        now = self.tunnel.boot_time()
        if now + seconds < self._due:
            if self._timer is not None:
                self._timer.cancel()
            self._due = now + seconds
            self._timer = asyncio.get_running_loop().call_later(seconds, self._tick)

    def _tick(self) -> None:
        now = self.tunnel.boot_time()
        self._due = float("inf")
        self._timer = None
        self._device.tick(now)
        self._flush()
        self._reassert(now)
        due = self._device.next_deadline()
        if due is not None:
            self._wake_within(max(0.05, due - now))

    def _reassert(self, now: float) -> None:
        """Whether a handshake is tried for long without an answer."""
        if self._answered.is_set() and self._links.dialled:
            self.reasserting = all(_tries_for(peer, now) > _REASSERTED_AFTER for peer in self._links.dialled)

    def wake(self) -> None:
        if self._kernel is None:
            self._tick()

    def network_changed(self) -> None:
        """Tells the peers where we are now: they answer to where the last message came from."""
        if self._kernel is not None:
            return  # whoever found out has told it already
        now = self.tunnel.boot_time()
        for peer in self._links.dialled:
            self._device.keepalive(peer, now)
        self._flush()

    def describe_config(self) -> Mapping[str, Any]:
        config = read_config(self.config.text, self.config.name)
        return {
            "public_key": _text(config.private_key.public),
            "addresses": [str(one) for one in config.addresses],
            "dns": list(config.dns),
            "search_domains": list(config.search),
            "match_domains": list(config.match),
            "mtu": config.mtu or _MTU,
            "peers": [
                f"{_text(peer.public_key)} at {_place(peer)} for {', '.join(map(str, peer.allowed)) or 'nothing'}"
                for peer in config.peers
            ],
            "ignored": list(config.ignored),
        }

    def status(self) -> Mapping[str, Any]:
        device = getattr(self, "_device", None)
        if device is None:
            return {"protocol": "WireGuard"} if self._kernel is not None else {}
        return {
            "protocol": "WireGuard",
            "public_key": _text(device.key.public),
            "peers": [
                {
                    "public_key": _text(peer.public),
                    "endpoint": peer.endpoint and place(*peer.endpoint),
                    "allowed": [str(one) for one in peer.allowed],
                    "last_handshake": peer.last_handshake or None,
                    "handshakes": peer.handshakes,
                    "received": peer.received,
                    "sent": peer.sent,
                }
                for peer in device.peers.values()
            ],
            "drops": dict(device.drops),
        }


def _settings(config: WireGuardConfig, remote: tuple[str, int] | None) -> TunnelSettings:
    return TunnelSettings(
        remote=remote[0] if remote else "",
        addresses=tuple(str(one) for one in config.addresses),
        included=tuple(dict.fromkeys(str(one) for peer in config.peers for one in peer.allowed)),
        dns=_dns(config),
        mtu=config.mtu or _MTU,
    )


def _dns(config: WireGuardConfig) -> DnsSettings | None:
    if not config.dns and not config.search:
        return None
    match = config.match or None
    return DnsSettings(servers=config.dns, search=config.search, match_domains=match, match_domains_no_search=True)


def _peer(entry: PeerConfig) -> Peer:
    return Peer(
        entry.public_key,
        preshared=entry.preshared_key or bytes(32),
        allowed=entry.allowed,
        keepalive=entry.keepalive,
    )


def _place(entry: PeerConfig) -> str:
    return place(*entry.endpoint) if entry.endpoint else "an unknown place"


def _tries_for(peer: Peer, now: float) -> float:
    give_up = peer.timers.give_up
    return now - (give_up - REKEY_ATTEMPT_TIME) if give_up is not None else 0.0


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()
