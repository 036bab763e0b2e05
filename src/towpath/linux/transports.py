"""Sockets of connections: made with their options, and asked how they are. tcp(7), socket(7), ip(7), ipv6(7)."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import sys
import termios
from typing import Literal

from towpath.errors import FeatureMissing, HostFault, PermissionMissing
from towpath.kernel.transport import StreamFigures

__all__ = [
    "allow_fast_open",
    "bind_to_interface",
    "coalesce_datagrams",
    "datagram_size",
    "is_multipath",
    "open_socket",
    "outstanding",
    "receive_datagrams",
    "reset_on_close",
    "send_datagrams",
    "set_keepalive",
    "set_no_delay",
    "set_traffic_class",
    "set_user_timeout",
    "stream_figures",
    "take_error",
    "take_fast_open",
]

_IPPROTO_MPTCP = 262
_SOL_MPTCP, _MPTCP_INFO = 284, 1
_TCP_FASTOPEN_CONNECT = 30
_IP_MTU, _IPV6_MTU = 14, 24
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104
_LARGEST_READ = 1 << 16
_ORDER: Literal["little", "big"] = sys.byteorder


def open_socket(family: socket.AddressFamily, kind: socket.SocketKind, *, multipath: bool = False) -> socket.socket:
    """A non-blocking socket; a stream over IP is multipath TCP (RFC 8684) where that is asked for.

    Raises `FeatureMissing` for multipath where the kernel has none, `HostFault`.
    """
    protocol = _IPPROTO_MPTCP if multipath and kind is socket.SOCK_STREAM and family != socket.AF_UNIX else 0
    try:
        return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        if protocol and error.errno in (errno.EPROTONOSUPPORT, errno.ENOPROTOOPT, errno.EINVAL):
            raise FeatureMissing(
                "make a multipath socket",
                error.errno,
                "this kernel has no multipath TCP",
                feature="CONFIG_MPTCP",
                hint="set the sysctl net.mptcp.enabled=1, or connect without multipath",
            ) from None
        raise HostFault("make a socket", error.errno or 0, os.strerror(error.errno or 0)) from None


def coalesce_datagrams(made: socket.socket) -> bool:
    """Lets the kernel hand over a row of datagrams as one (udp(7), UDP_GRO); False where it cannot."""
    try:
        made.setsockopt(_SOL_UDP, _UDP_GRO, 1)
    except OSError:
        return False
    return True


def receive_datagrams(made: socket.socket) -> list[bytes]:
    """What one read of a socket of `coalesce_datagrams` brings: a datagram, or a row of them in their own sizes.

    Raises `OSError` as recvmsg(2) does.
    """
    data, ancillary, _flags, _address = made.recvmsg(_LARGEST_READ, 64)
    for level, kind, value in ancillary:
        if level == _SOL_UDP and kind == _UDP_GRO and len(value) >= 2:
            size = int.from_bytes(value[:2], sys.byteorder)
            if 0 < size < len(data):
                return [data[start : start + size] for start in range(0, len(data), size)]
    return [data]


def send_datagrams(made: socket.socket, datagrams: list[bytes]) -> int:
    """Sends a row of datagrams in one call (udp(7), UDP_SEGMENT): all of one size, the last perhaps shorter.

    Raises `OSError`: EINVAL and EMSGSIZE where they do not fit the path, EIO or ENOPROTOOPT where the kernel cannot.
    """
    size = struct.pack("=H", len(datagrams[0]))
    return made.sendmsg(datagrams, [(_SOL_UDP, _UDP_SEGMENT, size)])


def is_multipath(made: socket.socket) -> bool:
    """Whether the connection is multipath TCP now: a peer that has none makes it plain TCP."""
    try:
        made.getsockopt(_SOL_MPTCP, _MPTCP_INFO, 64)
    except OSError:
        return False
    return True


def set_no_delay(made: socket.socket, *, on: bool) -> None:
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, on)


def set_keepalive(made: socket.socket, idle: int, interval: int, count: int) -> None:
    """Probes an idle connection after `idle` seconds, then each `interval`, `count` times."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, count)


def set_user_timeout(made: socket.socket, seconds: float) -> None:
    """How long sent data may stay unacknowledged (RFC 5482). Raises `FeatureMissing`: multipath has no such option."""
    try:
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(seconds * 1000))
    except OSError as error:
        raise FeatureMissing(
            "set a user timeout",
            error.errno or 0,
            "this kind of socket has none",
            feature="TCP_USER_TIMEOUT",
            hint="use a Liveness policy, which also works with multipath TCP",
        ) from None


def allow_fast_open(made: socket.socket) -> None:
    """Lets connect(2) return at once, and the first data go with the first packet (RFC 7413)."""
    made.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 1)


def take_fast_open(listener: socket.socket, backlog: int) -> None:
    """Takes data that come with the first packet, of so many connections at once that are not yet established.

    The kernel does so only where bit 2 of net.ipv4.tcp_fastopen is set; elsewhere its clients connect as ever.
    """
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, backlog)


def set_traffic_class(made: socket.socket, dscp: int, priority: int) -> None:
    """The DSCP of the packets (RFC 2474) and their priority in this machine's queues (0 to 6)."""
    if made.family == socket.AF_INET:
        made.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, dscp << 2)
    elif made.family == socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, dscp << 2)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, priority)


def bind_to_interface(made: socket.socket, name: str) -> None:
    """Sends and receives by one interface only. Raises `PermissionMissing`, `HostFault`."""
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
    except PermissionError as error:
        raise PermissionMissing(
            f"bind to interface {name}", error.errno or 0, "not allowed", setting="CAP_NET_RAW"
        ) from None
    except OSError as error:
        raise HostFault(f"bind to interface {name}", error.errno or 0, os.strerror(error.errno or 0)) from None


def datagram_size(made: socket.socket) -> int | None:
    """The largest content of a UDP datagram that one packet to the connected peer holds; `None` where unknown."""
    try:
        if made.family == socket.AF_INET:
            return made.getsockopt(socket.IPPROTO_IP, _IP_MTU) - 28
        if made.family == socket.AF_INET6:
            return made.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU) - 48
    except OSError:
        pass
    return None


def take_error(made: socket.socket) -> int:
    """The pending error of a socket, 0 for none."""
    return made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


def reset_on_close(made: socket.socket) -> None:
    """Makes close(2) send a reset at once, and drop what was not sent."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))


def outstanding(made: socket.socket) -> int:
    """Bytes that were given to the kernel and are not acknowledged, or not read by a local peer (SIOCOUTQ)."""
    return int(struct.unpack("=i", fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def stream_figures(made: socket.socket) -> StreamFigures:
    """How a TCP connection is (TCP_INFO). Raises `HostFault` for a socket that is none."""
    try:
        data = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 512)
    except OSError as error:
        raise HostFault("ask for TCP_INFO", error.errno or 0, os.strerror(error.errno or 0)) from None
    data_age, ack_age = _u32(data, 52) / 1e3, _u32(data, 56) / 1e3
    smallest = _u32_or_none(data, 148)
    return StreamFigures(
        silence=min(data_age, ack_age),
        last_data_age=data_age,
        last_ack_age=ack_age,
        round_trip=_u32(data, 68) / 1e6,
        round_trip_variance=_u32(data, 72) / 1e6,
        min_round_trip=smallest / 1e6 if smallest not in (None, 0xFFFFFFFF) else None,
        unacknowledged=_u32(data, 24),
        retransmits=_u32(data, 100),
        bytes_sent=_u64_or_none(data, 200),
        bytes_received=_u64_or_none(data, 128),
        bytes_acknowledged=_u64_or_none(data, 120),
        bytes_retransmitted=_u64_or_none(data, 208),
        packets_sent=_u32_or_none(data, 136),
        packets_received=_u32_or_none(data, 140),
        out_of_order=_u32_or_none(data, 224),
    )


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], _ORDER)


def _u32_or_none(data: bytes, at: int) -> int | None:
    return _u32(data, at) if at + 4 <= len(data) else None


def _u64_or_none(data: bytes, at: int) -> int | None:
    return int.from_bytes(data[at : at + 8], _ORDER) if at + 8 <= len(data) else None
