"""Connection tracking from outside (ctnetlink): how flows ended, and marks set on flows that the kernel carries."""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from towpath.errors import HostFault, PeerViolation
from towpath.linux.netlink import (
    NETLINK_NETFILTER,
    NLM_F_ACK,
    NetlinkSocket,
    attr,
    attrs,
    be16,
    be32,
    messages,
    nested,
    u8,
)

__all__ = ["Conntrack", "Ended", "FlowKey", "count_bytes", "parse_ended"]

_SUBSYSTEM = 1
_NEW, _DELETE = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 2
_GROUP_DESTROY = 1 << 2
_RECEIVE_BUFFER = 8 << 20
_AT_ONCE = 512
_TUPLE_ORIGINAL, _TUPLE_REPLY, _MARK, _COUNTERS_ORIGINAL, _COUNTERS_REPLY, _MARK_MASK = 1, 2, 8, 9, 10, 21
_IP, _PROTOCOL = 1, 2
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_PACKETS, _BYTES = 1, 2
_ACCOUNTING = "/proc/sys/net/netfilter/nf_conntrack_acct"


class FlowKey(NamedTuple):
    """One direction of a flow: protocol number, packed addresses, ports."""

    protocol: int
    source: bytes
    source_port: int
    destination: bytes
    destination_port: int

    def reversed(self) -> FlowKey:
        """The direction of the answers."""
        return FlowKey(
            self.protocol, self.destination, self.destination_port, self.source, self.source_port
        )  # fmt: skip


class Ended(NamedTuple):
    """A flow that the kernel has forgotten: as it was opened, and as it was answered.

    Packets and bytes (of whole IP packets) are 0 where nothing counted them.
    """

    opened: FlowKey
    answered: FlowKey
    packets_sent: int
    bytes_sent: int
    packets_received: int
    bytes_received: int


class Conntrack:
    """The ends of flows in this process's network namespace, by events, and their marks, by request.

    `overruns` counts the times events were lost because they were read too slowly.
    """

    def __init__(self) -> None:
        self.overruns = 0
        self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
        try:
            self._events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._events.bind((0, _GROUP_DESTROY))
            self._requests = NetlinkSocket(NETLINK_NETFILTER)
        except OSError as error:
            self._events.close()
            raise HostFault("follow the ends of flows", error.errno or 0, str(error.strerror)) from None

    def fileno(self) -> int:
        return self._events.fileno()

    def close(self) -> None:
        self._events.close()
        self._requests.close()

    def receive(self) -> list[Ended]:
        """The flows that have ended, at most 512. Does not block."""
        found = []
        for _ in range(_AT_ONCE):
            try:
                data = self._events.recv(1 << 14, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
                continue
            found += parse_ended(data)
        return found

    def set_mark(self, key: FlowKey, mark: int, mask: int) -> bool:
        """Sets the bits of `mask` in the mark of the flow with this opening direction; `False` when there is none.

        Where the destination was translated before `key` was seen, the answering direction finds the flow.
        """
        wanted = attr(_MARK, be32(mark)) + attr(_MARK_MASK, be32(~mask & 0xFFFFFFFF))
        head = struct.pack(">BBH", socket.AF_INET if len(key.source) == 4 else socket.AF_INET6, 0, 0)
        for kind, direction in ((_TUPLE_ORIGINAL, key), (_TUPLE_REPLY, key.reversed())):
            try:
                self._requests.request("mark a flow", _NEW, NLM_F_ACK, head + _tuple(kind, direction) + wanted)
            except HostFault as fault:
                if fault.errno != errno.ENOENT:
                    raise
            else:
                return True
        return False


def _tuple(kind: int, key: FlowKey) -> bytes:
    first = 1 if len(key.source) == 4 else 3
    addresses = nested(_IP, attr(first, key.source), attr(first + 1, key.destination))
    ports = attr(_SOURCE_PORT, be16(key.source_port)) + attr(_DESTINATION_PORT, be16(key.destination_port))
    return nested(kind, addresses, nested(_PROTOCOL, attr(_NUMBER, u8(key.protocol)), ports))


def parse_ended(data: bytes) -> list[Ended]:
    """The TCP and UDP flows of one datagram of events; what is none, or lies about a length, is left out."""
    found = []
    try:
        for kind, _flags, _sequence, payload in messages(data):
            if kind == _DELETE:
                ended = _ended(attrs(payload, 4))
                if ended is not None:
                    found.append(ended)
    except (PeerViolation, struct.error):
        pass  # whoever follows flows forgets the oldest at last
    return found


def _ended(facts: dict[int, bytes]) -> Ended | None:
    opened, answered = _key(facts.get(_TUPLE_ORIGINAL, b"")), _key(facts.get(_TUPLE_REPLY, b""))
    if opened is None or answered is None:
        return None
    return Ended(
        opened, answered, *_counters(facts.get(_COUNTERS_ORIGINAL, b"")), *_counters(facts.get(_COUNTERS_REPLY, b""))
    )


def _key(data: bytes) -> FlowKey | None:
    parts = attrs(data)
    addresses, ports = attrs(parts.get(_IP, b"")), attrs(parts.get(_PROTOCOL, b""))
    source = addresses.get(1) or addresses.get(3)
    destination = addresses.get(2) or addresses.get(4)
    protocol = ports.get(_NUMBER, b"")[:1]
    if source is None or destination is None or protocol not in (b"\x06", b"\x11"):
        return None
    return FlowKey(
        protocol[0], source, _port(ports.get(_SOURCE_PORT, b"")), destination, _port(ports.get(_DESTINATION_PORT, b""))
    )


def _port(data: bytes) -> int:
    return int.from_bytes(data[:2], "big")


def _counters(data: bytes) -> tuple[int, int]:
    parts = attrs(data)
    return int.from_bytes(parts.get(_PACKETS, b"")[:8], "big"), int.from_bytes(parts.get(_BYTES, b"")[:8], "big")


def count_bytes(wanted: bool) -> bool:
    """Lets the kernel count the packets and bytes of flows that begin from now on, or not; gives what it did before.

    Raises `HostFault` where the setting cannot be changed.
    """
    try:
        with open(_ACCOUNTING, "r+", encoding="ascii") as file:
            before = file.read().strip() != "0"
            if before != wanted:
                file.seek(0)
                file.write(str(int(wanted)))
    except OSError as error:
        raise HostFault("count the bytes of flows", error.errno or 0, f"{_ACCOUNTING}: {error.strerror}") from None
    return before
