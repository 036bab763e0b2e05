"""The heads of IP packets as the packet queue shows them, and the packets a run answers with.

RFC 791, RFC 8200, RFC 768, RFC 9293, RFC 792, RFC 4443. Addresses are packed bytes: they are dictionary keys on the
path of every new flow; `text_of` gives the form that people and `connect()` read.
"""

from __future__ import annotations

import struct
from socket import AF_INET, AF_INET6, inet_ntop
from typing import NamedTuple

from towpath.errors import PeerViolation

__all__ = [
    "Packet", "Segment", "checksum", "echo_reply", "parse", "segment", "text_of", "unreachable4", "unreachable6",
    "version_of",
]  # fmt: skip

ICMP, TCP, UDP, ICMP6 = 1, 6, 17, 58
FIN, SYN, RST, ACK = 1, 2, 4, 16
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _DESTINATION = 0, 43, 44, 60
_LONGEST_CHAIN = 8

_PORTS = struct.Struct(">HH")


class Packet(NamedTuple):
    """What a decision needs of a packet. Ports are 0 where the protocol has none.

    For an echo request `source_port` is its identifier and `destination_port` its sequence number.
    """

    version: int
    protocol: int
    source: bytes
    destination: bytes
    source_port: int
    destination_port: int
    payload: bytes


class Segment(NamedTuple):
    """A TCP segment: its sequence number (of a SYN, the number before the first byte's), flags and payload."""

    sequence: int
    flags: int
    payload: bytes


def text_of(address: bytes) -> str:
    """The text form of a packed address."""
    return inet_ntop(AF_INET if len(address) == 4 else AF_INET6, address)


def version_of(address: bytes) -> int:
    """4 or 6, of a packed address."""
    return 4 if len(address) == 4 else 6


def parse(data: bytes) -> Packet:
    """Reads an IPv4 or IPv6 packet as far as its ports; `payload` is what follows the UDP or ICMP head.

    Raises `PeerViolation` for anything cut short, lying or fragmented.
    """
    version, protocol, source, destination, offset = _head(data)
    if protocol == UDP:
        _need(data, offset + 8)
        source_port, destination_port = _PORTS.unpack_from(data, offset)
        payload = data[offset + 8 :]
    elif protocol == TCP:
        _need(data, offset + 20)
        source_port, destination_port = _PORTS.unpack_from(data, offset)
        payload = b""
    elif protocol in (ICMP, ICMP6):
        _need(data, offset + 8)
        source_port, destination_port = _PORTS.unpack_from(data, offset + 4)
        payload = data[offset + 8 :]
    else:
        source_port = destination_port = 0
        payload = b""
    return Packet(version, protocol, source, destination, source_port, destination_port, payload)


def segment(data: bytes) -> Segment:
    """Reads a TCP packet's sequence number, flags and payload. Raises `PeerViolation` as `parse` does."""
    _version, protocol, _source, _destination, offset = _head(data)
    if protocol != TCP:
        raise PeerViolation("tcp-protocol", f"protocol {protocol}")
    _need(data, offset + 20)
    start = offset + (data[offset + 12] >> 4) * 4
    if start < offset + 20:
        raise PeerViolation("tcp-header", "a head shorter than 20 bytes")
    _need(data, start)
    return Segment(int.from_bytes(data[offset + 4 : offset + 8], "big"), data[offset + 13], data[start:])


def _head(data: bytes) -> tuple[int, int, bytes, bytes, int]:
    """Version, protocol, source, destination, and where the transport's head begins."""
    if not data:
        raise PeerViolation("ip-empty")
    version = data[0] >> 4
    if version == 4:
        offset = (data[0] & 15) * 4
        if offset < 20 or len(data) < offset:
            raise PeerViolation("ip-header", "an IPv4 head shorter than it says")
        if data[6] & 0x1F or data[7]:
            raise PeerViolation("ip-fragment", "a later fragment has no ports")
        protocol, source, destination = data[9], data[12:16], data[16:20]
    elif version == 6:
        if len(data) < 40:
            raise PeerViolation("ip-header", "an IPv6 head shorter than 40 bytes")
        source, destination = data[8:24], data[24:40]
        protocol, offset = _skip_extensions(data)
    else:
        raise PeerViolation("ip-version", f"version {version}")
    return version, protocol, source, destination, offset


def _need(data: bytes, length: int) -> None:
    if len(data) < length:
        raise PeerViolation("ip-truncated", f"{len(data)} bytes where {length} are needed")


def _skip_extensions(data: bytes) -> tuple[int, int]:
    protocol, offset = data[6], 40
    for _ in range(_LONGEST_CHAIN):
        if protocol == _FRAGMENT:
            raise PeerViolation("ip-fragment", "an IPv6 fragment")
        if protocol not in (_HOP_BY_HOP, _ROUTING, _DESTINATION):
            return protocol, offset
        _need(data, offset + 8)
        protocol, offset = data[offset], offset + 8 + data[offset + 1] * 8
    raise PeerViolation("ip-extensions", f"more than {_LONGEST_CHAIN} extension heads")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) & 1:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_reply(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """An echo reply; for IPv6 the kernel fills in the checksum, which covers its pseudo head."""
    head = struct.pack(">BBHHH", 0 if version == 4 else 129, 0, 0, identifier, sequence)
    if version == 6:
        return head + payload
    return head[:2] + struct.pack(">H", checksum(head + payload)) + head[4:] + payload


def _udp_head(source_port: int, destination_port: int, length: int) -> bytes:
    return struct.pack(">HHHH", source_port, destination_port, 8 + length, 0)


def unreachable4(code: int, source: bytes, destination: bytes, source_port: int, destination_port: int) -> bytes:
    """ICMP destination unreachable about a UDP datagram that went from `source` to `destination` (RFC 792)."""
    quoted = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, UDP, 0, source, destination)
    quoted = quoted[:10] + struct.pack(">H", checksum(quoted)) + quoted[12:]
    body = struct.pack(">BBHI", 3, code, 0, 0) + quoted + _udp_head(source_port, destination_port, 0)
    return body[:2] + struct.pack(">H", checksum(body)) + body[4:]


def unreachable6(code: int, source: bytes, destination: bytes, source_port: int, destination_port: int) -> bytes:
    """The same by ICMPv6 (RFC 4443); the kernel fills in the checksum."""
    quoted = struct.pack(">IHBB16s16s", 6 << 28, 8, UDP, 64, source, destination)
    return struct.pack(">BBHI", 1, code, 0, 0) + quoted + _udp_head(source_port, destination_port, 0)
