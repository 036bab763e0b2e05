"""Netlink messages: bytes and one blocking request socket (netlink(7), RFC 3549).

Messages are `(type, flags, sequence, payload)`; attributes are plain `bytes` built by `attr` and read by `attrs`. The
kernel is the only peer, yet every length is checked: a parser that trusts its peer hides its own mistakes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from towpath.errors import HostFault, PeerViolation

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4
NETLINK_NETFILTER = 12

SOL_NETLINK = 270
NETLINK_EXT_ACK = 11
NETLINK_CAP_ACK = 10

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_DUMP = 0x300
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_APPEND = 0x800

NLMSG_NOOP = 1
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLMSG_OVERRUN = 4

NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
_ACK_TLVS = 0x200
_ERRMSG_ATTR_MSG = 1

_HEADER = struct.Struct("=IHHII")
_ATTR = struct.Struct("=HH")


def attr(kind: int, value: bytes) -> bytes:
    """One attribute: header, value, padding to four bytes."""
    length = 4 + len(value)
    return _ATTR.pack(length, kind) + value + b"\0" * (-length & 3)


def nested(kind: int, *children: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attr(kind | NLA_F_NESTED, b"".join(children))


def u8(value: int) -> bytes:
    return struct.pack("=B", value)


def u16(value: int) -> bytes:
    return struct.pack("=H", value)


def u32(value: int) -> bytes:
    return struct.pack("=I", value)


def be16(value: int) -> bytes:
    return struct.pack(">H", value)


def be32(value: int) -> bytes:
    return struct.pack(">I", value)


def text(value: str) -> bytes:
    """A string as the kernel wants it: with its end marked."""
    return os.fsencode(value) + b"\0"


def message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """One message, padded, with port id 0 (the kernel fills in ours)."""
    length = 16 + len(payload)
    return _HEADER.pack(length, kind, flags, sequence, 0) + payload + b"\0" * (-length & 3)


def messages(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Splits one datagram into `(type, flags, sequence, payload)`.

    Raises `PeerViolation` ("netlink-length") where a length lies.
    """
    found = []
    offset, end = 0, len(data)
    while offset + 16 <= end:
        length, kind, flags, sequence, _port = _HEADER.unpack_from(data, offset)
        if length < 16 or offset + length > end:
            raise PeerViolation("netlink-length", f"message of {length} bytes at {offset} of {end}")
        found.append((kind, flags, sequence, data[offset + 16 : offset + length]))
        offset += (length + 3) & ~3
    return found


def attrs(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` on by type; of a repeated one the last.

    Raises `PeerViolation` ("netlink-attribute") where a length lies.
    """
    found = {}
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTR.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise PeerViolation("netlink-attribute", f"attribute of {length} bytes at {offset} of {end}")
        found[kind & _NLA_TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def error_of(flags: int, payload: bytes) -> tuple[int, str]:
    """What an NLMSG_ERROR says: the error number (0 is an acknowledgement) and the kernel's own words, if any."""
    if len(payload) < 4:
        raise PeerViolation("netlink-error", "an error message without its number")
    code = -struct.unpack_from("=i", payload)[0]
    words = ""
    if flags & _ACK_TLVS and len(payload) >= 20:
        words = attrs(payload, 20).get(_ERRMSG_ATTR_MSG, b"").rstrip(b"\0").decode("utf-8", "replace")
    return code, words


class NetlinkSocket:
    """A blocking request socket of one netlink family.

    The socket belongs to the network namespace in which it was made, wherever its descriptor goes.

    Raises `HostFault` when the kernel refuses a request.
    """

    def __init__(self, family: int, fileno: int | None = None) -> None:
        if fileno is None:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
            self.socket.bind((0, 0))
            self.socket.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
            self.socket.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        else:
            self.socket = socket.socket(fileno=fileno)
        self._sequence = 0

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> NetlinkSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def next_sequence(self) -> int:
        self._sequence += 1
        return self._sequence

    def request(self, operation: str, kind: int, flags: int, payload: bytes) -> None:
        """Asks for one thing and waits for the acknowledgement. `operation` names it in the error."""
        sequence = self.next_sequence()
        self.socket.send(message(kind, flags | NLM_F_REQUEST | NLM_F_ACK, sequence, payload))
        self.await_acks(operation, {sequence})

    def await_acks(self, operation: str, awaited: set[int]) -> None:
        """Reads until every sequence number in `awaited` is acknowledged; the first refusal is raised."""
        while awaited:
            for kind, flags, sequence, payload in messages(self.socket.recv(1 << 17)):
                if kind == NLMSG_ERROR:
                    code, words = error_of(flags, payload)
                    if code:
                        raise HostFault(operation, code, words or os.strerror(code))
                    awaited.discard(sequence)

    def fetch(self, operation: str, kind: int, payload: bytes) -> bytes:
        """Asks for one thing and gives the body of the answer."""
        sequence = self.next_sequence()
        self.socket.send(message(kind, NLM_F_REQUEST, sequence, payload))
        while True:
            for reply, flags, number, body in messages(self.socket.recv(1 << 17)):
                if number != sequence:
                    continue
                if reply == NLMSG_ERROR:
                    code, words = error_of(flags, body)
                    raise HostFault(operation, code or errno.EPROTO, words or os.strerror(code or errno.EPROTO))
                return body

    def dump(self, operation: str, kind: int, payload: bytes) -> list[tuple[int, bytes]]:
        """Asks for a table; gives `(type, payload)` of every entry. An interrupted dump is asked for again."""
        while True:
            sequence = self.next_sequence()
            self.socket.send(message(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, payload))
            found: list[tuple[int, bytes]] = []
            interrupted = done = False
            while not done:
                for reply, flags, number, body in messages(self.socket.recv(1 << 17)):
                    if number != sequence:
                        continue
                    interrupted = interrupted or bool(flags & 0x10)
                    if reply == NLMSG_DONE:
                        done = True
                    elif reply == NLMSG_ERROR:
                        code, words = error_of(flags, body)
                        raise HostFault(operation, code or errno.EPROTO, words or os.strerror(code))
                    else:
                        found.append((reply, body))
            if not interrupted:
                return found
