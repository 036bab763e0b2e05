"""The packet queue of netfilter (nfnetlink_queue): reads packets, sends verdicts.

Both messages are fixed shapes, so they are unpacked and packed by offset: this is the path of every new flow.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

from towpath.errors import HostFault
from towpath.linux.netlink import NETLINK_NETFILTER, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, attr, error_of, message

_SUBSYSTEM = 3
_PACKET, _VERDICT, _CONFIG = _SUBSYSTEM << 8, _SUBSYSTEM << 8 | 1, _SUBSYSTEM << 8 | 2
_CFG_CMD, _CFG_PARAMS, _CFG_QUEUE_MAXLEN, _CFG_MASK, _CFG_FLAGS = 1, 2, 3, 4, 5
_COPY_PACKET = 2
_FLAG_FAIL_OPEN, _FLAG_GSO = 1, 4
_ATTR_PACKET_HDR, _ATTR_MARK, _ATTR_PAYLOAD = 1, 3, 10
_LONGEST = 0xFFFF
_WAITING_AT_MOST = 8192
_RECEIVE_BUFFER = 8 << 20

_HEAD = struct.Struct("=IHHII4x")
_TLV = struct.Struct("=HH")
_ID = struct.Struct(">I")
_VERDICT_MESSAGE = struct.Struct("=IHHIIBBHHHIIHHI")


class Queued(NamedTuple):
    """A packet in the queue: `data` from its IP head on; `hook` is netfilter's: 1 input, 2 forward, 3 output."""

    id: int
    data: bytes
    hook: int
    mark: int


class PacketQueue:
    """One queue on one socket, of the network namespace in which it was opened.

    `overruns` counts the times the kernel had more packets than the socket could hold: those packets were dropped, or
    passed with `fail_open`.
    """

    def __init__(self, number: int, descriptor: int | None = None, *, fail_open: bool = False) -> None:
        self.number = number
        self.overruns = 0
        self._early: list[bytes] = []
        self._big_endian_number = socket.htons(number)
        if descriptor is None:
            self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER)
            self.socket.bind((0, 0))
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            self._configure(_FLAG_GSO | (_FLAG_FAIL_OPEN if fail_open else 0))
        else:
            self.socket = socket.socket(fileno=descriptor)

    def _configure(self, chosen: int) -> None:
        head = struct.pack(">BBH", 0, 0, self.number)
        bind = attr(_CFG_CMD, struct.pack(">BxH", 1, 0))
        params = attr(_CFG_PARAMS, struct.pack(">IB", _LONGEST, _COPY_PACKET))
        limit = attr(_CFG_QUEUE_MAXLEN, struct.pack(">I", _WAITING_AT_MOST))
        flags = attr(_CFG_FLAGS, struct.pack(">I", chosen)) + attr(_CFG_MASK, struct.pack(">I", chosen))
        for sequence, body in enumerate((bind, params + limit + flags), 1):
            self.socket.send(message(_CONFIG, NLM_F_REQUEST | NLM_F_ACK, sequence, head + body))
        acknowledged = 0
        while acknowledged < 2:
            data = self.socket.recv(1 << 17)
            kind, flags_, _sequence = struct.unpack_from("=HHI", data, 4)
            if kind != NLMSG_ERROR:
                self._early.append(data)  # a packet may come before the acknowledgement
                continue
            code, words = error_of(flags_, data[16:])
            if code:
                raise HostFault("bind the packet queue", code, words or errno.errorcode.get(code, str(code)))
            acknowledged += 1

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()

    def receive(self) -> list[tuple[int, bytes]]:
        """All packets waiting, at most 256: `(id, bytes from the IP header on)`. Does not block."""
        parsed = (parse_packet(data) for data in self._blocks())
        return [(packet.id, packet.data) for packet in parsed if packet is not None]

    def receive_hooked(self) -> list[Queued]:
        """The same, with where each packet was found."""
        parsed = (parse_packet(data) for data in self._blocks())
        return [packet for packet in parsed if packet is not None]

    def _blocks(self) -> list[bytes]:
        blocks = self._early
        self._early = []
        while len(blocks) < 256:
            try:
                blocks.append(self.socket.recv(1 << 17, socket.MSG_DONTWAIT))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overruns += 1
        return blocks

    def verdict(self, packet: int, verdict: int, mark: int = 0) -> None:
        """Decides about one packet; `mark` is set on it, where REPEAT lets the rules see it."""
        data = _VERDICT_MESSAGE.pack(
            40, _VERDICT, NLM_F_REQUEST, 0, 0, 0, 0, self._big_endian_number, 12, 2,
            socket.htonl(verdict), socket.htonl(packet), 8, 3, socket.htonl(mark),
        )  # fmt: skip
        try:
            self.socket.send(data)
        except OSError as error:
            # ENOENT: the packet left the queue meanwhile, with its socket or its table.
            if error.errno not in (errno.ENOENT, errno.ENOBUFS):
                raise


def parse_packet(data: bytes) -> Queued | None:
    """The packet of one queue message; `None` for anything else, lying lengths included."""
    end = len(data)
    if end < 20:
        return None
    length, kind, _flags, _sequence, _port = _HEAD.unpack_from(data)
    if kind != _PACKET or length > end:
        return None
    identity = None
    payload = b""
    hook = mark = 0
    offset = 20
    while offset + 4 <= length:
        size, name = _TLV.unpack_from(data, offset)
        if size < 4 or offset + size > length:
            return None
        if name == _ATTR_PACKET_HDR and size >= 11:
            identity = _ID.unpack_from(data, offset + 4)[0]
            hook = data[offset + 10]
        elif name == _ATTR_PAYLOAD:
            payload = data[offset + 4 : offset + size]
        elif name == _ATTR_MARK and size >= 8:
            mark = _ID.unpack_from(data, offset + 4)[0]
        offset += (size + 3) & ~3
    return None if identity is None else Queued(identity, payload, hook, mark)
