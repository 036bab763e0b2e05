"""Two devices and the time: sessions, rekeying, keepalives, roaming, cookies, and what is refused."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from towpath.extensions.wireguard.device import Device
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.extensions.wireguard.peer import Endpoint, Peer

A, B = ("192.0.2.1", 1000), ("192.0.2.2", 51820)
PSK = b"\7" * 32


def packet(source: str, destination: str, payload: bytes = b"") -> bytes:
    """An IPv4 packet without a checksum, which nobody here looks at."""
    from ipaddress import ip_address

    length = (20 + len(payload)).to_bytes(2, "big")
    return b"\x45\0" + length + bytes(8) + ip_address(source).packed + ip_address(destination).packed + payload


OUT, BACK = packet("10.0.0.1", "10.0.0.2", b"out"), packet("10.0.0.2", "10.0.0.1", b"back")


@dataclass
class Wire:
    """Two devices with a wire between them; `lose` says which messages do not arrive."""

    preshared: bytes = PSK
    keepalive: int = 0
    now: float = 1000.0
    from_a: Endpoint = A
    lose: object = None
    log: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        def make(secret: int) -> Device:
            chance = random.Random(secret)
            return Device(PrivateKey(bytes([secret]) * 32), random=chance.randbytes, wall=lambda: self.now)

        self.a, self.b = make(1), make(2)
        self.to_b = self.a.add(
            Peer(
                self.b.key.public,
                preshared=self.preshared,
                allowed=[ip_network("10.0.0.2/32")],
                endpoint=B,
                keepalive=self.keepalive,
            )
        )
        self.to_a = self.b.add(Peer(self.a.key.public, preshared=PSK, allowed=[ip_network("10.0.0.1/32")]))

    def exchange(self) -> list[bytes]:
        """Carries messages until none is left; the packets that came out."""
        found = []
        while self.a.outgoing or self.b.outgoing or self.b.to_endpoint:
            for _peer, message in self.a.take_outgoing():
                self.log.append(("a", message[0]))
                if not (callable(self.lose) and self.lose("a", message)):
                    found.append(self.b.receive(message, self.from_a, self.now))
            cookies = [message for _endpoint, message in self.b.to_endpoint]
            self.b.to_endpoint.clear()
            for message in [*(message for _, message in self.b.take_outgoing()), *cookies]:
                self.log.append(("b", message[0]))
                if not (callable(self.lose) and self.lose("b", message)):
                    found.append(self.a.receive(message, B, self.now))
        return [one for one in found if one is not None]

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = [at for at in (self.a.next_deadline(), self.b.next_deadline()) if at is not None and at <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            self.a.tick(self.now)
            self.b.tick(self.now)
            self.exchange()
        self.now = end


def connected(**more: object) -> Wire:
    wire = Wire(**more)  # type: ignore[arg-type]
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT]
    return wire


def test_a_packet_that_has_to_wait_for_a_session_arrives() -> None:
    wire = connected()
    assert (wire.to_b.handshakes, wire.to_a.handshakes) == (1, 1)
    wire.b.transmit(BACK, wire.now)
    assert wire.exchange() == [BACK]
    assert not wire.a.drops
    assert not wire.b.drops


def test_padding_hides_lengths_and_goes_again() -> None:
    wire = connected()
    for length in range(33):
        one = packet("10.0.0.1", "10.0.0.2", bytes(length))
        wire.a.transmit(one, wire.now)
        ((_, message),) = wire.a.outgoing
        assert len(message) % 16 == 0
        assert wire.exchange() == [one]


def test_a_session_is_renewed_after_two_minutes_and_lasts_no_longer_than_three() -> None:
    wire = connected()
    wire.pass_time(121)
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT]
    assert wire.to_b.handshakes == 2
    wire.pass_time(181)
    wire.lose = lambda _who, message: message[0] in (1, 2)
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [], "the old session is too old, and there is no new one"


def test_the_responder_never_renews_by_time_and_the_initiator_does_when_it_only_receives() -> None:
    wire = connected()
    for _ in range(17):
        wire.pass_time(10)
        wire.b.transmit(BACK, wire.now)
        wire.exchange()
    assert wire.to_b.handshakes == 2
    assert ("b", 1) not in wire.log


def test_what_is_late_by_the_session_before_begins_no_other_one() -> None:
    wire = connected()
    wire.b.transmit(BACK, wire.now)
    ((_peer, late),) = wire.b.take_outgoing()
    wire.now += 121
    wire.a.transmit(OUT, wire.now)
    wire.exchange()
    wire.a.transmit(OUT, wire.now)
    wire.exchange()
    assert wire.to_b.handshakes == 2
    wire.now += 45
    assert wire.a.receive(late, B, wire.now) == BACK
    assert [message[0] for _peer, message in wire.a.take_outgoing()] == []
    assert wire.to_b.handshakes == 2


def test_what_came_is_answered_within_ten_seconds_if_by_nothing_else_then_by_a_keepalive() -> None:
    wire = connected()
    wire.log.clear()
    wire.pass_time(9)
    assert wire.log == []
    wire.pass_time(2)
    assert wire.log == [("b", 4)]
    wire.pass_time(60)
    assert wire.log == [("b", 4)], "keepalives are not answered"


def test_silence_after_sending_begins_a_new_session() -> None:
    wire = connected()
    wire.pass_time(30)
    wire.lose = lambda who, _message: who == "b"
    wire.a.transmit(OUT, wire.now)
    wire.exchange()
    wire.log.clear()
    wire.pass_time(16)
    assert ("a", 1) in wire.log


def test_initiations_are_repeated_every_five_seconds_for_ninety() -> None:
    wire = Wire(lose=lambda _who, _message: True)
    wire.a.transmit(OUT, wire.now)
    wire.exchange()
    wire.pass_time(300)
    assert 16 <= wire.log.count(("a", 1)) <= 19
    assert wire.a.drops["no session yet"] == 1
    wire.lose = None
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT], "and begin anew with the next packet"


def test_persistent_keepalives_hold_a_path_open() -> None:
    wire = Wire(keepalive=25)
    wire.pass_time(0.1)
    wire.log.clear()
    wire.pass_time(100)
    assert wire.log.count(("a", 4)) == 4


def test_old_keys_go() -> None:
    wire = connected()
    assert wire.to_b.current is not None
    wire.pass_time(600)
    assert wire.to_b.keypairs() == wire.to_a.keypairs() == []


def test_a_peer_that_moves_is_answered_where_it_is_now() -> None:
    wire = connected()
    wire.from_a = ("198.51.100.7", 4000)
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT]
    assert wire.to_a.endpoint == ("198.51.100.7", 4000)


def test_a_forged_message_moves_nobody() -> None:
    wire = connected()
    wire.a.transmit(OUT, wire.now)
    ((_, message),) = wire.a.take_outgoing()
    forged = message[:-1] + bytes([message[-1] ^ 1])
    assert wire.b.receive(forged, ("203.0.113.1", 1), wire.now) is None
    assert wire.to_a.endpoint == A
    assert wire.b.drops == {"data-authentication": 1}


def test_nothing_is_taken_twice_and_order_does_not_matter() -> None:
    wire = connected()
    for number in range(50):
        wire.a.transmit(packet("10.0.0.1", "10.0.0.2", bytes([number])), wire.now)
    messages = [message for _, message in wire.a.take_outgoing()]
    chance = random.Random(5)
    twice = messages * 2
    chance.shuffle(twice)
    taken = [one for message in twice if (one := wire.b.receive(message, A, wire.now)) is not None]
    assert sorted(one[20] for one in taken) == list(range(50))
    assert wire.b.drops == {"data-replayed": 50}


def test_a_peer_may_only_send_from_its_own_addresses() -> None:
    wire = connected()
    forged = packet("10.0.0.9", "10.0.0.2")
    keypair = wire.to_b.current
    assert keypair is not None
    assert wire.b.receive(keypair.seal(forged), A, wire.now) is None
    assert wire.b.receive(keypair.seal(b"\x45no packet at all"), A, wire.now) is None
    assert wire.b.drops == {"packet-source": 1, "packet-malformed": 1}


def test_a_destination_that_is_nobodys_is_dropped_and_counted() -> None:
    wire = connected()
    wire.a.transmit(packet("10.0.0.1", "10.0.0.77"), wire.now)
    assert wire.exchange() == []
    assert wire.a.drops == {"no peer for the destination": 1}


@pytest.mark.parametrize("which", ["unknown", "preshared"])
def test_wrong_keys_give_no_session(which: str) -> None:
    wire = Wire(preshared=bytes(32) if which == "preshared" else PSK)
    if which == "unknown":
        wire.b.remove(wire.to_a)
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == []
    drops = wire.b.drops if which == "unknown" else wire.a.drops
    assert drops == {"initiation-unknown" if which == "unknown" else "noise-authentication": 1}


def test_an_initiation_is_taken_once() -> None:
    wire = Wire()
    wire.a.initiate(wire.to_b, wire.now)
    ((_, message),) = wire.a.take_outgoing()
    wire.b.receive(message, A, wire.now)
    wire.b.take_outgoing()
    wire.b.receive(message, ("203.0.113.1", 1), wire.now + 5)
    assert wire.b.outgoing == []
    assert wire.b.drops == {"initiation-replayed": 1}


def test_a_flood_of_initiations_is_answered_by_cookies_and_the_real_peer_gets_through() -> None:
    wire = Wire()
    stranger = Device(PrivateKey(b"\x09" * 32), wall=lambda: wire.now)
    flood = stranger.add(Peer(wire.b.key.public, endpoint=B))
    computed = 0
    for number in range(500):
        stranger.initiate(flood, wire.now + number * 10)
        ((_, message),) = stranger.take_outgoing()
        wire.b.receive(message, ("203.0.113.1", number), wire.now)
    computed = wire.b.drops["initiation-unknown"]
    assert computed <= 64
    assert wire.b.drops["handshake-load"] >= 436
    assert len(wire.b.to_endpoint) == wire.b.drops["handshake-load"]
    wire.b.to_endpoint.clear()
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [], "it gets a cookie first"
    wire.now += 5.5
    for number in range(100):  # the load goes on
        wire.b.receive(message, ("203.0.113.1", number), wire.now)
    wire.b.to_endpoint.clear()
    wire.a.tick(wire.now)
    assert wire.exchange() == [OUT]


def test_a_clock_that_jumps_makes_things_due_and_breaks_nothing() -> None:
    """A machine that slept for a night."""
    wire = connected()
    wire.now += 8 * 3600
    wire.a.tick(wire.now)
    wire.b.tick(wire.now)
    wire.exchange()
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT]


def test_a_wall_clock_that_was_set_back_keeps_sessions_and_refuses_only_new_ones() -> None:
    wire = connected()
    wire.a._wall = lambda: 5.0
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT]
    wire.pass_time(121)
    wire.a.transmit(OUT, wire.now)
    assert wire.exchange() == [OUT], "the session is good for another minute"
    assert wire.b.drops["initiation-replayed"] >= 1


def test_no_repr_shows_a_secret() -> None:
    wire = connected()
    for secret in (PSK, bytes([1]) * 32):
        shown = f"{wire.a!r} {wire.to_b!r} {wire.a.key!r} {vars(wire.to_b.jar)!r}"
        assert repr(secret)[2:20] not in shown
        assert secret.hex() not in shown
