"""What is said to the kernel's WireGuard, attribute by attribute as linux/wireguard.h has it, and what it answers."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as some

from towpath.errors import PeerViolation
from towpath.linux import wireguard_messages as said
from towpath.linux.netlink import attr, attrs, nested, u8, u16
from towpath.providers import KernelPeer, KernelPeerFigures, KernelWireGuard

_KEY, _OTHER, _SHARED = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))
_PEER = KernelPeer(_OTHER, _SHARED, ("10.0.0.0/8", "fd00::/8"), ("192.0.2.9", 51820), 25)


class Said(NamedTuple):
    """A peer of a message."""

    key: bytes
    flags: int
    facts: dict[int, bytes]

    @property
    def allowed(self) -> list[str]:
        found = [attrs(one) for one in _entries(self.facts[9])]
        families = {2: socket.AF_INET, 10: socket.AF_INET6}
        return [f"{socket.inet_ntop(families[int.from_bytes(one[1], 'little')], one[2])}/{one[3][0]}" for one in found]


def peers_in(body: bytes) -> list[Said]:
    assert body[:2] == b"\1\1", "SET_DEVICE, version 1"
    found = [attrs(one) for one in _entries(attrs(body, 4)[8])]
    return [Said(one[1], struct.unpack("=I", one[3])[0], one) for one in found]


def _entries(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        length = struct.unpack_from("=H", data, at)[0]
        found.append(data[at + 4 : at + length])
        at += (length + 3) & ~3
    return found


def test_a_device_is_said_and_then_its_peers() -> None:
    first, second = said.set_device("wg", KernelWireGuard(_KEY, (_PEER,), 4500))
    facts = attrs(first, 4)
    assert (facts[2], facts[3], facts[6]) == (b"wg\0", _KEY, struct.pack("=H", 4500))
    assert facts[5] == struct.pack("=I", 1), "the peers before are gone"
    (peer,) = peers_in(second)
    assert (peer.key, peer.facts[2]) == (_OTHER, _SHARED)
    assert peer.flags == 2, "and their prefixes"
    assert peer.facts[4] == bytes.fromhex("0200ca6cc0000209") + bytes(8)
    assert peer.facts[5] == struct.pack("=H", 25)
    assert peer.allowed == ["10.0.0.0/8", "fd00::/8"]


def test_a_peer_with_thousands_of_prefixes_is_said_in_parts_that_fit() -> None:
    allowed = tuple(f"10.{number >> 8}.{number & 255}.0/24" for number in range(2345))
    _device, *parts = said.set_device("wg", KernelWireGuard(_KEY, (KernelPeer(_OTHER, allowed=allowed),)))
    assert len(parts) == 5
    assert all(len(part) < 60_000 for part in parts)
    peers = [peers_in(part)[0] for part in parts]
    assert [peer.flags for peer in peers] == [2, 4, 4, 4, 4], "replaced once, then added to"
    assert tuple(one for peer in peers for one in peer.allowed) == allowed


@pytest.mark.parametrize(("keepalive", "said_"), [(0, [0, 1, 0]), (25, [0, 25])])
def test_a_peer_is_made_to_be_spoken_to_by_a_keepalive_that_is_switched_on(keepalive: int, said_: list[int]) -> None:
    bodies = said.poke_peer("wg", KernelPeer(_OTHER, keepalive=keepalive))
    peers = [peers_in(body)[0] for body in bodies]
    assert [struct.unpack("=H", peer.facts[5])[0] for peer in peers] == said_
    assert {peer.flags for peer in peers} == {4}, "a peer that is gone is not made again"


def test_an_endpoint_of_the_other_family_and_its_zone() -> None:
    body = said.set_endpoint("wg", KernelPeer(_OTHER, endpoint=("fe80::1%1", 7)))
    assert peers_in(body)[0].facts[4] == bytes.fromhex("0a000007" + "00" * 4 + "fe80" + "00" * 13 + "01") + struct.pack(
        "=I", 1
    )


def test_a_hushed_device_has_no_key_and_no_peer() -> None:
    facts = attrs(said.hush_device("wg"), 4)
    assert (facts[3], facts[5]) == (bytes(32), b"\1\0\0\0")


def _answer(*peers: bytes) -> bytes:
    return b"\0\1\0\0" + attr(2, b"wg\0") + nested(8, *(nested(0, peer) for peer in peers))


def _peer(key: bytes, *more: bytes) -> bytes:
    return attr(1, key) + b"".join(more)


def _prefix(family: int, raw: bytes, length: int) -> bytes:
    return nested(0, attr(1, u16(family)), attr(2, raw), attr(3, u8(length)))


def test_what_the_kernel_says_of_its_peers_is_read_also_where_a_peer_goes_on_in_the_next_answer() -> None:
    place = attr(4, bytes.fromhex("0200ca6cc0000209") + bytes(8))
    figures = (attr(6, struct.pack("=qq", 1_700_000_000, 500_000_000)), attr(7, struct.pack("=Q", 10)))
    first = _peer(_OTHER, place, *figures, attr(8, struct.pack("=Q", 1 << 40)), nested(9, _prefix(2, b"\n\0\0\0", 8)))
    rest = _peer(_OTHER, nested(9, _prefix(10, b"\xfd" + bytes(15), 8)))
    assert said.read_peers([_answer(first), _answer(rest, _peer(_SHARED))]) == [
        KernelPeerFigures(_OTHER, ("192.0.2.9", 51820), 10, 1 << 40, 1_700_000_000.5, ("10.0.0.0/8", "fd00::/8")),
        KernelPeerFigures(_SHARED),
    ]


@given(some.binary(max_size=300), some.binary(max_size=40))
def test_any_answer_is_peers_or_a_violation(peer: bytes, prefix: bytes) -> None:
    for body in (peer, _answer(peer), _answer(_peer(_KEY, peer)), _answer(_peer(_KEY, nested(9, nested(0, prefix))))):
        try:
            assert all(len(one.public_key) == 32 for one in said.read_peers([body]))
        except PeerViolation:
            pass


@pytest.mark.parametrize(
    "peer",
    [
        attr(7, bytes(8)),
        _peer(_KEY[:31]),
        _peer(_KEY, attr(4, b"\x02\0\0\0")),
        _peer(_KEY, attr(4, b"\x11\0" + bytes(26))),
        _peer(_KEY, attr(6, bytes(8))),
        _peer(_KEY, attr(7, bytes(4))),
        _peer(_KEY, nested(9, _prefix(7, b"\n\0\0\0", 8))),
        _peer(_KEY, nested(9, _prefix(2, b"\n\0\0", 8))),
        _peer(_KEY, nested(9, _prefix(10, b"\n\0\0\0", 8))),
    ],
)
def test_a_peer_that_is_none_is_a_violation(peer: bytes) -> None:
    with pytest.raises(PeerViolation):
        said.read_peers([_answer(peer)])


def test_no_key_is_shown() -> None:
    setup = KernelWireGuard(_KEY, (_PEER,))
    assert not any(repr(key) in f"{setup!r}{setup}" for key in (_KEY, _OTHER, _SHARED))
