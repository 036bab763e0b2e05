"""What is said to the kernel's WireGuard, and what it answers: linux/wireguard.h, over generic netlink.

The kernel is the only peer, yet every length is checked.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.linux.netlink import attr, attrs, nested, text, u8, u16, u32

if TYPE_CHECKING:
    from towpath.providers.kernel_wireguard import KernelPeer, KernelPeerFigures, KernelWireGuard

__all__ = ["FAMILY", "ask_device", "hush_device", "poke_peer", "read_peers", "set_device", "set_endpoint"]

FAMILY = "wireguard"
_HEAD = struct.Struct("=BBxx")
_VERSION = 1
_GET_DEVICE, _SET_DEVICE = 0, 1
_IFNAME, _PRIVATE_KEY, _DEVICE_FLAGS, _LISTEN_PORT, _PEERS = 2, 3, 5, 6, 8
_REPLACE_PEERS = 1
_PUBLIC_KEY, _PRESHARED_KEY, _PEER_FLAGS, _ENDPOINT, _KEEPALIVE = 1, 2, 3, 4, 5
_LAST_HANDSHAKE, _RECEIVED, _SENT, _ALLOWED = 6, 7, 8, 9
_REPLACE_ALLOWED, _UPDATE_ONLY = 2, 4
_FAMILY_OF, _ADDRESS, _PREFIX = 1, 2, 3
_KEY_BYTES = 32
_AT_ONCE = 500
"""Prefixes in one message: an attribute holds 64 KB."""


def _device(name: str, *more: bytes) -> bytes:
    return _HEAD.pack(_SET_DEVICE, _VERSION) + attr(_IFNAME, text(name)) + b"".join(more)


def _peers(*peers: bytes) -> bytes:
    return nested(_PEERS, *(nested(0, peer) for peer in peers))


def set_device(name: str, setup: KernelWireGuard) -> Iterator[bytes]:
    """Bodies of the messages that make a device be `setup`, in order; endpoints are literal addresses by now."""
    yield _device(
        name,
        attr(_PRIVATE_KEY, setup.private_key),
        attr(_LISTEN_PORT, u16(setup.listen_port)),
        attr(_DEVICE_FLAGS, u32(_REPLACE_PEERS)),
    )
    for peer in setup.peers:
        for number in range(0, max(1, len(peer.allowed)), _AT_ONCE):
            prefixes = _prefixes(peer.allowed[number : number + _AT_ONCE])
            whole = _whole(peer) if not number else attr(_PEER_FLAGS, u32(_UPDATE_ONLY))
            yield _device(name, _peers(attr(_PUBLIC_KEY, peer.public_key) + whole + prefixes))


def _whole(peer: KernelPeer) -> bytes:
    body = attr(_PRESHARED_KEY, peer.preshared_key or bytes(_KEY_BYTES)) + attr(_PEER_FLAGS, u32(_REPLACE_ALLOWED))
    if peer.endpoint is not None:
        body += attr(_ENDPOINT, _place(peer.endpoint))
    return body + attr(_KEEPALIVE, u16(peer.keepalive))


def _prefixes(allowed: Iterable[str]) -> bytes:
    found = []
    for prefix in map(ip_network, allowed):
        family = socket.AF_INET6 if prefix.version == 6 else socket.AF_INET
        address = attr(_ADDRESS, prefix.network_address.packed)
        found.append(nested(0, attr(_FAMILY_OF, u16(family)), address, attr(_PREFIX, u8(prefix.prefixlen))))
    return nested(_ALLOWED, *found)


def hush_device(name: str) -> bytes:
    """Forgets the key and all peers: nothing is sent any more."""
    return _device(name, attr(_PRIVATE_KEY, bytes(_KEY_BYTES)), attr(_DEVICE_FLAGS, u32(_REPLACE_PEERS)))


def poke_peer(name: str, peer: KernelPeer) -> Iterator[bytes]:
    """Makes a peer be spoken to now: the kernel sends a keepalive, or shakes hands, when that is switched on."""
    for keepalive in (0, peer.keepalive or 1, *([] if peer.keepalive else [0])):
        known = attr(_PUBLIC_KEY, peer.public_key) + attr(_PEER_FLAGS, u32(_UPDATE_ONLY))
        yield _device(name, _peers(known + attr(_KEEPALIVE, u16(keepalive))))


def set_endpoint(name: str, peer: KernelPeer) -> bytes:
    """Says anew where a peer is; the kernel chooses its own address for it anew. `peer` has an endpoint."""
    assert peer.endpoint is not None
    known = attr(_PUBLIC_KEY, peer.public_key) + attr(_PEER_FLAGS, u32(_UPDATE_ONLY))
    return _device(name, _peers(known + attr(_ENDPOINT, _place(peer.endpoint))))


def _place(endpoint: tuple[str, int]) -> bytes:
    """A sockaddr; a zone ("fe80::1%eth0") is the number of an interface here."""
    host, port = endpoint
    if ":" not in host:
        return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))
    address, _, zone = host.partition("%")
    scope = socket.if_nametoindex(zone) if zone and not zone.isdigit() else int(zone or 0)
    packed = socket.inet_pton(socket.AF_INET6, address)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", port, 0, packed) + struct.pack("=I", scope)


def ask_device(name: str) -> bytes:
    """The body that asks for a device and its peers, as a dump."""
    return _HEAD.pack(_GET_DEVICE, _VERSION) + attr(_IFNAME, text(name))


def read_peers(bodies: Iterable[bytes]) -> list[KernelPeerFigures]:
    """The peers in the answers to `ask_device`; one whose prefixes do not fit goes on in the next answer.

    Raises `PeerViolation` for what is none.
    """
    from towpath.providers.kernel_wireguard import KernelPeerFigures

    found: dict[bytes, KernelPeerFigures] = {}
    for body in bodies:
        for raw in _list(attrs(body, _HEAD.size).get(_PEERS, b"")):
            facts = attrs(raw)
            key = _exactly(facts, _PUBLIC_KEY, _KEY_BYTES)
            allowed = tuple(map(_read_prefix, _list(facts.get(_ALLOWED, b""))))
            known = found.get(key)
            if known is not None:
                found[key] = KernelPeerFigures(
                    key, known.endpoint, known.received, known.sent, known.last_handshake, known.allowed + allowed
                )
                continue
            seconds, nanoseconds = struct.unpack("=qq", _exactly(facts, _LAST_HANDSHAKE, 16, bytes(16)))
            found[key] = KernelPeerFigures(
                key,
                _read_place(facts[_ENDPOINT]) if _ENDPOINT in facts else None,
                int.from_bytes(_exactly(facts, _RECEIVED, 8, bytes(8)), sys.byteorder),
                int.from_bytes(_exactly(facts, _SENT, 8, bytes(8)), sys.byteorder),
                seconds + nanoseconds / 1e9,
                allowed,
            )
    return list(found.values())


def _list(data: bytes) -> Iterator[bytes]:
    """The bodies of attributes of which only the order counts."""
    at = 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at : at + 2], sys.byteorder)
        if length < 4 or at + length > len(data):
            raise PeerViolation("netlink-attribute", f"attribute of {length} bytes at {at} of {len(data)}")
        yield data[at + 4 : at + length]
        at += (length + 3) & ~3


def _exactly(facts: dict[int, bytes], kind: int, length: int, default: bytes | None = None) -> bytes:
    value = facts.get(kind, default)
    if value is None or len(value) != length:
        raise PeerViolation("wireguard-answer", f"attribute {kind} of a peer is missing or has another length")
    return value


def _read_place(raw: bytes) -> tuple[str, int]:
    family = int.from_bytes(raw[:2], sys.byteorder)
    if family == socket.AF_INET and len(raw) >= 8:
        return socket.inet_ntoa(raw[4:8]), int.from_bytes(raw[2:4], "big")
    if family == socket.AF_INET6 and len(raw) >= 28:
        return socket.inet_ntop(socket.AF_INET6, raw[8:24]), int.from_bytes(raw[2:4], "big")
    raise PeerViolation("wireguard-answer", f"an endpoint of family {family} in {len(raw)} bytes")


def _read_prefix(raw: bytes) -> str:
    facts = attrs(raw)
    family = int.from_bytes(_exactly(facts, _FAMILY_OF, 2), sys.byteorder)
    if family not in (socket.AF_INET, socket.AF_INET6):
        raise PeerViolation("wireguard-answer", f"a prefix of family {family}")
    packed = _exactly(facts, _ADDRESS, 16 if family == socket.AF_INET6 else 4)
    return f"{socket.inet_ntop(family, packed)}/{_exactly(facts, _PREFIX, 1)[0]}"
