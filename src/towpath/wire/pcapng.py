"""Capture files: the blocks of pcapng, written (draft-ietf-opsawg-pcapng). Little-endian, times in nanoseconds.

A file is a section header, interfaces, then packets; names and secrets may stand anywhere behind the header, but
secrets before the packets they open, for readers that read once. Every function gives one whole block.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping

from towpath.wire.address import pack

__all__ = ["ETHERNET", "RAW_IP", "around", "interface", "names", "packet", "section", "tls_secrets"]

ETHERNET, RAW_IP = 1, 101
"""Link types: frames, or packets that begin with their IP header."""

_SECTION, _INTERFACE, _NAMES, _PACKET, _SECRETS = 0x0A0D0D0A, 1, 4, 6, 10
_END, _COMMENT = 0, 1
_APPLICATION = 4
_NAME, _DESCRIPTION, _RESOLUTION = 2, 3, 9
_FLAGS = 2
_TLS_KEY_LOG = 0x544C534B
_IPV4, _IPV6 = 1, 2
_LONGEST = 0xFFFF
_PACKET_HEAD = struct.Struct("<IIIIIII")
_DIRECTIONS = {"in": 1, "out": 2}


def section(application: str, comment: str = "") -> bytes:
    """The header with which a file begins; `application` wrote it."""
    head = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    return _block(_SECTION, head + _options((_COMMENT, _text(comment)), (_APPLICATION, _text(application))))


def interface(link_type: int, name: str, description: str = "", snapshot: int = 0) -> bytes:
    """One interface; packets give its number, the first is 0. `snapshot` is the most bytes of a packet, 0 for all."""
    options = (_NAME, _text(name)), (_DESCRIPTION, _text(description)), (_RESOLUTION, b"\x09")
    return _block(_INTERFACE, struct.pack("<HHI", link_type, 0, snapshot) + _options(*options))


def packet(
    time_ns: int,
    data: bytes,
    *,
    length: int | None = None,
    comments: Iterable[str] = (),
    direction: str = "",
    interface: int = 0,
) -> bytes:
    """A packet as it was seen at `time_ns` (Unix time in nanoseconds).

    `length` is what it had on the wire if `data` is less. `direction` is "in", "out" or "".
    """
    head, tail = around(time_ns, len(data), length=length, comments=comments, direction=direction, interface=interface)
    return head + data + tail


def around(
    time_ns: int,
    captured: int,
    *,
    length: int | None = None,
    comments: Iterable[str] = (),
    direction: str = "",
    interface: int = 0,
) -> tuple[bytes, bytes]:
    """What stands before and behind the `captured` bytes of a packet, for who would rather not copy them."""
    options = [(_COMMENT, _text(comment)) for comment in comments]
    if direction:
        options.append((_FLAGS, struct.pack("<I", _DIRECTIONS[direction])))
    behind = bytes(-captured % 4) + _options(*options)
    whole = _PACKET_HEAD.size + captured + len(behind) + 4
    times = time_ns >> 32, time_ns & 0xFFFFFFFF
    head = _PACKET_HEAD.pack(_PACKET, whole, interface, *times, captured, captured if length is None else length)
    return head, behind + struct.pack("<I", whole)


def names(known: Mapping[str, Iterable[str]]) -> bytes:
    """What addresses are called: readers show the first name of each in its place.

    They are written from behind: of several, Wireshark shows the one that it has read last.
    """
    body = bytearray()
    for address, called in known.items():
        packed = pack(address)
        words = b"".join(name.encode("utf-8", "replace") + b"\0" for name in reversed([*called]))
        if packed is None or not words or len(packed) + len(words) > _LONGEST:
            continue
        record = packed + words
        body += struct.pack("<HH", _IPV4 if len(packed) == 4 else _IPV6, len(record)) + _padded(record)
    return _block(_NAMES, bytes(body) + struct.pack("<HH", 0, 0))


def tls_secrets(key_log: bytes) -> bytes:
    """The lines of an SSLKEYLOGFILE, by which readers open TLS and QUIC."""
    return _block(_SECRETS, struct.pack("<II", _TLS_KEY_LOG, len(key_log)) + _padded(key_log))


def _block(kind: int, body: bytes) -> bytes:
    length = len(body) + 12
    return struct.pack("<II", kind, length) + body + struct.pack("<I", length)


def _options(*found: tuple[int, bytes]) -> bytes:
    kept = [(code, value) for code, value in found if value]
    if not kept:
        return b""
    out = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in kept)
    return out + struct.pack("<HH", _END, 0)


def _text(text: str) -> bytes:
    return text.encode("utf-8", "replace")[:_LONGEST]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
