"""All peers of one private key: which message is whose, what has to be sent, and when. It does no I/O.

A device is told the time, is given messages and packets, and leaves what is to be sent in `outgoing`. A clock that
jumps (a machine that slept) only makes things due. Nothing that is refused raises: it is counted, by cause, in `drops`.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import ip_address

from towpath.errors import PeerViolation
from towpath.extensions.wireguard import noise
from towpath.extensions.wireguard.allowed_ips import AllowedIps
from towpath.extensions.wireguard.cookies import COOKIE_REPLY, COOKIE_REPLY_SIZE, CookieMaker
from towpath.extensions.wireguard.keypair import (
    DATA,
    DATA_HEAD,
    REJECT_AFTER_TIME,
    REKEY_AFTER_MESSAGES,
    REKEY_AFTER_TIME,
    TAG_SIZE,
    Keypair,
)
from towpath.extensions.wireguard.peer import KEEPALIVE_TIMEOUT, REKEY_ATTEMPT_TIME, REKEY_TIMEOUT, Endpoint, Peer

__all__ = ["Device", "destination_of", "whole_packet"]

_LOAD_PER_SECOND = 64
"""Handshake messages in a second from which on a cookie is demanded."""
_LEAST_GAP = 0.02
"""Seconds between two initiations of one peer that are both worth an answer."""
_JITTER = 0.333


class Device:
    """The protocol of one interface.

    >>> from ipaddress import IPv4Network
    >>> here, there = Device(noise.PrivateKey(b"a" * 32)), Device(noise.PrivateKey(b"b" * 32))
    >>> to = here.add(Peer(there.key.public, allowed=[IPv4Network("10.0.0.2")], endpoint=("192.0.2.2", 51820)))
    >>> _ = there.add(Peer(here.key.public, allowed=[IPv4Network("10.0.0.1")]))
    >>> here.initiate(to, 0.0)
    >>> for _peer, message in here.take_outgoing(): _ = there.receive(message, ("192.0.2.1", 51820), 0.0)
    >>> for _peer, message in there.take_outgoing(): _ = here.receive(message, ("192.0.2.2", 51820), 0.0)
    >>> to.handshakes
    1
    """

    def __init__(
        self,
        key: noise.PrivateKey,
        *,
        random: Callable[[int], bytes] = os.urandom,
        wall: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.key = key
        self.peers: dict[bytes, Peer] = {}
        self.allowed: AllowedIps[Peer] = AllowedIps()
        self.drops: Counter[str] = Counter()
        self.outgoing: list[tuple[Peer, bytes]] = []
        self.to_endpoint: list[tuple[Endpoint, bytes]] = []
        """Cookies: what is sent to whoever is there, peer or not."""
        self._random = random
        self._wall = wall
        self._cookies = CookieMaker(key.public, random)
        self._indices: dict[int, tuple[Peer, Keypair | None]] = {}
        self._load = 0
        self._load_since = float("-inf")
        self._loaded_until = float("-inf")

    def add(self, peer: Peer) -> Peer:
        """Adds a peer; one with the same key is replaced."""
        old = self.peers.get(peer.public)
        if old is not None:
            self.remove(old)
        self.peers[peer.public] = peer
        for network in peer.allowed:
            self.allowed.add(network, peer)
        if peer.keepalive:
            peer.timers.persistent = float("-inf")
        return peer

    def remove(self, peer: Peer) -> None:
        del self.peers[peer.public]
        self.allowed.remove(peer)
        self._indices = {index: entry for index, entry in self._indices.items() if entry[0] is not peer}

    def take_outgoing(self) -> list[tuple[Peer, bytes]]:
        outgoing, self.outgoing = self.outgoing, []
        return outgoing

    # Sending.

    def transmit(self, packet: bytes, now: float) -> None:
        """Seals a packet for the peer whose addresses cover its destination, or keeps it until there is a session."""
        peer = self.peer_of(packet)
        if peer is None:
            self.drops["no peer for the destination"] += 1
            return
        keypair = peer.sending_keypair(now)
        if keypair is None:
            self.stage(peer, packet, now)
            return
        self._seal(peer, keypair, packet, now)
        self.keep_fresh(peer, keypair, now)

    def peer_of(self, packet: bytes | memoryview) -> Peer | None:
        destination = destination_of(packet)
        return self.allowed.find(destination) if destination is not None else None

    def stage(self, peer: Peer, packet: bytes, now: float) -> None:
        """Keeps a packet for the session to come; of too many the oldest is lost."""
        if len(peer.staged) == peer.staged.maxlen:
            self.drops["no session yet"] += 1
        peer.staged.append(packet)
        self.initiate(peer, now, wanted=True)

    def _seal(self, peer: Peer, keypair: Keypair, packet: bytes, now: float) -> None:
        message = keypair.seal(packet)
        peer.note_sent(len(message), now, data=bool(packet))
        self.outgoing.append((peer, message))

    def keep_fresh(self, peer: Peer, keypair: Keypair, now: float) -> None:
        """After sending: begins a new session in time."""
        if keypair.counter >= REKEY_AFTER_MESSAGES or (keypair.initiator and now - keypair.made >= REKEY_AFTER_TIME):
            self.initiate(peer, now, wanted=True)

    def initiate(self, peer: Peer, now: float, *, wanted: bool = False) -> None:
        """Begins a handshake, unless one began less than `REKEY_TIMEOUT` ago.

        `wanted`: something waits for it, so the time in which to try begins anew if it has not begun yet.
        """
        if wanted and peer.timers.give_up is None:
            peer.timers.give_up = now + REKEY_ATTEMPT_TIME
        if now - peer.initiated < REKEY_TIMEOUT and peer.initiator is not None:
            return
        if peer.endpoint is None:
            self.drops["no endpoint of the peer is known"] += 1
            return
        if peer.initiator is not None:
            self._indices.pop(peer.initiator.index, None)
        try:
            made = noise.Initiator(self.key, peer.public, peer.preshared, self._index(), noise.tai64n(self._wall()))
        except PeerViolation as violation:
            self.drops[violation.fault] += 1
            return
        peer.initiator, peer.initiated = made, now
        self._indices[made.index] = peer, None
        peer.timers.silence = None
        peer.timers.resend = now + REKEY_TIMEOUT + self._random(1)[0] / 255 * _JITTER
        if peer.timers.give_up is None:
            peer.timers.give_up = now + REKEY_ATTEMPT_TIME
        self._send_handshake(peer, made.message, now)

    def _send_handshake(self, peer: Peer, message: bytes, now: float) -> None:
        closed = peer.jar.close(message, now)
        peer.note_sent(len(closed), now, data=False)
        self.outgoing.append((peer, closed))

    def _index(self) -> int:
        while True:
            index = int.from_bytes(self._random(4), "little")
            if index not in self._indices and index != 0xFFFFFFFF:
                return index

    def keepalive(self, peer: Peer, now: float) -> None:
        """Sends an empty data message, or begins the session that it needs."""
        keypair = peer.sending_keypair(now)
        if keypair is None:
            self.initiate(peer, now)
        else:
            self._seal(peer, keypair, b"", now)

    # Receiving.

    def receive(self, message: bytes, source: Endpoint, now: float) -> bytes | None:
        """Takes a message; gives the packet of a data message, if there is one and its sender may send it."""
        kind = struct.unpack_from("<I", message)[0] if len(message) >= 4 else 0
        try:
            if kind == DATA:
                return self._data(message, source, now)
            if kind == noise.INITIATION:
                self._initiation(message, source, now)
            elif kind == noise.RESPONSE:
                self._response(message, source, now)
            elif kind == COOKIE_REPLY and len(message) == COOKIE_REPLY_SIZE:
                self._cookie_reply(message, now)
            else:
                self.drops["not a message"] += 1
        except PeerViolation as violation:
            self.drops[violation.fault] += 1
        return None

    def session(self, index: int) -> tuple[Peer, Keypair] | None:
        """Whose data messages carry this index."""
        found = self._indices.get(index)
        return (found[0], found[1]) if found is not None and found[1] is not None else None

    def _data(self, message: bytes, source: Endpoint, now: float) -> bytes | None:
        if len(message) < DATA_HEAD.size + TAG_SIZE:
            raise PeerViolation("data-length", f"{len(message)} bytes")
        _kind, index, counter = DATA_HEAD.unpack_from(message)
        session = self.session(index)
        if session is None:
            raise PeerViolation("data-index", "no session has this index")
        peer, keypair = session
        if now - keypair.made >= REJECT_AFTER_TIME:
            raise PeerViolation("data-expired", "a session that is too old")
        plain = keypair.open(message, counter)
        self.authentic(peer, keypair, source, len(message), now, data=bool(plain))
        if not plain:
            return None
        packet = whole_packet(plain)
        if packet is None:
            raise PeerViolation("packet-malformed", "what was sealed is no IP packet")
        if not self.may_send(peer, packet):
            raise PeerViolation("packet-source", "an address that is not the peer's")
        return packet

    def may_send(self, peer: Peer, packet: bytes | memoryview) -> bool:
        """Whether the source of a packet belongs to the peer that it came from (cryptokey routing)."""
        source = bytes(packet[12:16]) if packet[0] >> 4 == 4 else bytes(packet[8:24])
        return self.allowed.find(source) is peer

    def authentic(self, peer: Peer, keypair: Keypair, source: Endpoint, length: int, now: float, *, data: bool) -> None:
        """A data message was what its sender sealed: the peer is where it came from, and the session is good."""
        peer.endpoint = source
        if keypair is peer.next:
            self._rotate(peer, keypair)
            peer.note_session(now, self._wall())
        if not keypair.confirmed:
            keypair.confirmed = True
        peer.note_received(length, now, data=data)
        if peer.staged:
            self._send_staged(peer, now)
        age = now - keypair.made
        # What still comes by the session before is no reason: there is a newer one already.
        if (
            keypair is peer.current
            and keypair.initiator
            and age >= REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
        ):
            self.initiate(peer, now, wanted=True)

    def _rotate(self, peer: Peer, keypair: Keypair) -> None:
        if peer.previous is not None:
            self._indices.pop(peer.previous.index, None)
        peer.previous, peer.current, peer.next = peer.current, keypair, None

    def _send_staged(self, peer: Peer, now: float) -> None:
        keypair = peer.sending_keypair(now)
        while keypair is not None and peer.staged:
            self._seal(peer, keypair, peer.staged.popleft(), now)

    def _initiation(self, message: bytes, source: Endpoint, now: float) -> None:
        if len(message) != noise.INITIATION_SIZE or not self._admits(message, source, now):
            return
        read = noise.read_initiation(self.key, message)
        peer = self.peers.get(read.peer)
        if peer is None:
            raise PeerViolation("initiation-unknown", "a key that is no peer's")
        if read.timestamp <= peer.greatest_timestamp:
            raise PeerViolation("initiation-replayed", "its time is not later than the last one's")
        if now - peer.last_taken < _LEAST_GAP:
            raise PeerViolation("initiation-flood", "too soon after the last one")
        peer.greatest_timestamp, peer.last_taken = read.timestamp, now
        index = self._index()
        response, send, receive = read.respond(index, peer.preshared)
        if peer.next is not None:
            self._indices.pop(peer.next.index, None)
        peer.next = Keypair(index, read.peer_index, send, receive, now, initiator=False)
        self._indices[index] = peer, peer.next
        peer.endpoint = source
        peer.note_received(len(message), now, data=False)
        self._send_handshake(peer, response, now)

    def _response(self, message: bytes, source: Endpoint, now: float) -> None:
        if len(message) != noise.RESPONSE_SIZE or not self._admits(message, source, now):
            return
        index = int.from_bytes(message[8:12], "little")
        entry = self._indices.get(index)
        if entry is None or entry[0].initiator is None or entry[0].initiator.index != index:
            raise PeerViolation("response-unasked", "it answers no initiation")
        peer = entry[0]
        assert peer.initiator is not None
        peer_index, send, receive = peer.initiator.finish(message)
        keypair = Keypair(index, peer_index, send, receive, now, initiator=True)
        self._indices[index] = peer, keypair
        if peer.next is not None:
            # Both began at once: what the peer made of its own is still good for what it sends.
            self._forget(one for one in (peer.previous, peer.current) if one is not None)
            peer.previous, peer.current, peer.next = peer.next, keypair, None
        else:
            self._rotate(peer, keypair)
        peer.endpoint = source
        peer.note_session(now, self._wall())
        peer.note_received(len(message), now, data=False)
        if peer.staged:
            self._send_staged(peer, now)
        else:
            self.keepalive(peer, now)  # the responder may send only after this

    def _admits(self, message: bytes, source: Endpoint, now: float) -> bool:
        """Whether a handshake message is worth the work; under load only from whom a cookie has reached."""
        if not self._cookies.knows_us(message):
            self.drops["handshake-mac"] += 1
            return False
        if now - self._load_since >= 1:
            self._load, self._load_since = 0, now
        self._load += 1
        if self._load > _LOAD_PER_SECOND:
            self._loaded_until = now + 1
        if now >= self._loaded_until:
            return True
        place = ip_address(source[0]).packed + struct.pack(">H", source[1])
        if self._cookies.is_reachable(message, place, now):
            return True
        self.drops["handshake-load"] += 1
        self.to_endpoint.append((source, self._cookies.reply(message, place, now)))
        return False

    def _cookie_reply(self, message: bytes, now: float) -> None:
        entry = self._indices.get(int.from_bytes(message[4:8], "little"))
        if entry is None:
            raise PeerViolation("cookie-unasked", "a cookie that answers nothing")
        entry[0].jar.take(message, now)

    # Time.

    def next_deadline(self) -> float | None:
        """When `tick` has something to do."""
        due = [at for at in (peer.timers.next() for peer in self.peers.values()) if at is not None]
        return min(due, default=None)

    def tick(self, now: float) -> None:
        """Does what is due."""
        for peer in self.peers.values():
            self._tick(peer, now)

    def _tick(self, peer: Peer, now: float) -> None:
        timers = peer.timers
        if _due(timers.resend, now):
            timers.resend = None
            if timers.give_up is not None and now >= timers.give_up:
                self._give_up(peer)
            else:
                self.initiate(peer, now)
        if _due(timers.silence, now):
            timers.silence = None
            self.initiate(peer, now, wanted=True)
        if _due(timers.keepalive, now):
            timers.keepalive = None
            self.keepalive(peer, now)
        if _due(timers.persistent, now):
            timers.persistent = now + peer.keepalive if peer.keepalive else None
            if peer.endpoint is not None:
                self.keepalive(peer, now)
        if _due(timers.wipe, now):
            timers.wipe = None
            self._forget(peer.keypairs())
            peer.current = peer.previous = peer.next = None

    def _give_up(self, peer: Peer) -> None:
        if peer.initiator is not None:
            self._indices.pop(peer.initiator.index, None)
            peer.initiator = None
        peer.timers.give_up = None
        self.drops["no session yet"] += len(peer.staged)
        peer.staged.clear()
        peer.timers.wipe = peer.timers.wipe or peer.initiated + REJECT_AFTER_TIME * 3

    def _forget(self, keypairs: Iterable[Keypair]) -> None:
        for keypair in keypairs:
            self._indices.pop(keypair.index, None)


def _due(at: float | None, now: float) -> bool:
    return at is not None and at <= now


def destination_of(packet: bytes | memoryview) -> bytes | None:
    """The packed destination of an IP packet, or `None` for what is none."""
    length = len(packet)
    version = packet[0] >> 4 if length else 0
    if version == 4 and length >= 20:
        return bytes(packet[16:20])
    if version == 6 and length >= 40:
        return bytes(packet[24:40])
    return None


def whole_packet(plain: bytes) -> bytes | None:
    """The packet without its padding, by the length that it states; `None` for what is none."""
    length = len(plain)
    version = plain[0] >> 4 if length else 0
    if version == 4 and length >= 20:
        stated = int.from_bytes(plain[2:4], "big")
        return plain[:stated] if 20 <= stated <= length else None
    if version == 6 and length >= 40:
        stated = 40 + int.from_bytes(plain[4:6], "big")
        return plain[:stated] if stated <= length else None
    return None
