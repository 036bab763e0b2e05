"""Sockets of a scope: made inside its network namespace, used by the manager from outside.

ip(7), ipv6(7), raw(7), udp(7). A socket belongs to the namespace in which it was made for as long as it lives.
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct
import termios

_IP_TRANSPARENT = 19
_IP_RECVORIGDSTADDR = 20
_IPV6_RECVORIGDSTADDR = 74
_IPV6_TRANSPARENT = 75
_IP_PKTINFO = 8
_IPV6_RECVPKTINFO, _IPV6_PKTINFO = 49, 50
_IPV6_CHECKSUM = 7
_SOL_RAW = 255
_SO_ATTACH_FILTER = 26
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_IGNORE_OUTGOING = 263, 6, 23
_ETH_P_ALL = 3
_TCP_CLOSE = 7
_TAP_BUFFER = 64 << 20
_BACKLOG = 4096
_RECEIVE_BUFFER = 4 << 20


def _family(version: int) -> socket.AddressFamily:
    return socket.AF_INET if version == 4 else socket.AF_INET6


def _set_transparent(made: socket.socket, version: int) -> None:
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def tcp_listener(version: int, address: str, port: int, *, transparent: bool) -> socket.socket:
    """A non-blocking listener; a transparent one accepts connections to any address that TPROXY hands it."""
    made = socket.socket(_family(version), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if transparent:
        _set_transparent(made, version)
    elif version == 6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((address, port))
    made.listen(_BACKLOG)
    return made


def udp_intake(version: int, address: str, port: int) -> socket.socket:
    """A transparent UDP socket whose datagrams come with their original destination; see `original_destination`."""
    made = socket.socket(_family(version), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    _set_transparent(made, version)
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, _IP_RECVORIGDSTADDR, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVORIGDSTADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    made.bind((address, port))
    return made


def original_destination(ancillary: list[tuple[int, int, bytes]]) -> tuple[bytes, int] | None:
    """`(packed address, port)` that a datagram of `udp_intake` was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_RECVORIGDSTADDR and len(data) >= 8:
            return data[4:8], int.from_bytes(data[2:4], "big")
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_RECVORIGDSTADDR and len(data) >= 24:
            return data[8:24], int.from_bytes(data[2:4], "big")
    return None


def dns_intake(version: int, address: str = "", port: int = 53) -> socket.socket:
    """A UDP socket on port 53 of every address (all of them are local in a scope); answers leave from the one asked.

    With an `address`, it is that one's `port` alone.
    """
    made = socket.socket(_family(version), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
    if not address:
        _set_transparent(made, version)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    try:
        made.bind((address, port))
    except OSError:
        made.close()
        raise
    return made


def packet_info(ancillary: list[tuple[int, int, bytes]]) -> bytes | None:
    """The packed address that a datagram of `dns_intake` was sent to."""
    for level, kind, data in ancillary:
        if level == socket.IPPROTO_IP and kind == _IP_PKTINFO and len(data) >= 12:
            return data[8:12]
        if level == socket.IPPROTO_IPV6 and kind == _IPV6_PKTINFO and len(data) >= 20:
            return data[:16]
    return None


def from_address(source: bytes) -> list[tuple[int, int, bytes]]:
    """The control message that makes a datagram leave from `source` (a packed address)."""
    if len(source) == 4:
        return [(socket.IPPROTO_IP, _IP_PKTINFO, struct.pack("=I4s4x", 0, source))]
    return [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, struct.pack("=16sI", source, 0))]


def raw_sender(version: int, protocol: int) -> socket.socket:
    """A raw socket that only sends: answers from addresses that are not this host's.

    A filter that takes nothing keeps the kernel from handing it copies of the traffic. For IPv6 the kernel computes
    the checksum of UDP at its place in the head (RFC 3542 section 3.1).
    """
    made = socket.socket(_family(version), socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    if version == 4:
        made.setsockopt(socket.IPPROTO_IP, _IP_TRANSPARENT, 1)
    else:
        made.setsockopt(socket.IPPROTO_IPV6, _IPV6_TRANSPARENT, 1)
        if protocol == socket.IPPROTO_UDP:
            made.setsockopt(_SOL_RAW, _IPV6_CHECKSUM, 6)
    take_nothing = ctypes.create_string_buffer(struct.pack("=HBBI", 6, 0, 0, 0), 8)
    program = struct.pack("=H6xQ", 1, ctypes.addressof(take_nothing))
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _RECEIVE_BUFFER)
    return made


def echo_socket(version: int) -> socket.socket:
    """A datagram ICMP socket (icmp(7)), which `net.ipv4.ping_group_range` may refuse with `PermissionError`."""
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    return socket.socket(_family(version), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)


def dial_datagram(
    version: int,
    address: str,
    port: int,
    made: socket.socket | None = None,
    mark: int = 0,
    interface: str | None = None,
) -> socket.socket:
    """A UDP socket connected to one peer, which is told of every ICMP error (ip(7), IP_RECVERR).

    `made` is a socket of another network, to be used in place of a new one; what is sent has the `mark` (socket(7),
    SO_MARK), if there is one, and leaves by the `interface` alone (SO_BINDTODEVICE), if one is named. Raises `OSError`
    where there is no way to the peer.
    """
    flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    made = made or socket.socket(_family(version), flags)
    try:
        if version == 4:
            made.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        _guide(made, mark, interface)
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made


def drain_errors(made: socket.socket) -> None:
    """Empties the error queue of `dial_datagram`'s socket, whose memory counts against its buffer."""
    try:
        while True:
            made.recvmsg(1, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return


def _guide(made: socket.socket, mark: int, interface: str | None) -> None:
    if mark:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
    if interface is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())


def dial_stream(
    version: int, address: str, port: int, mark: int = 0, interface: str | None = None
) -> tuple[socket.socket, int]:
    """Begins a TCP connection: the socket, and 0 (connected), EINPROGRESS, or the error number.

    `mark` and `interface` as of `dial_datagram`. Raises `OSError` where they cannot be.
    """
    made = socket.socket(_family(version), socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        _guide(made, mark, interface)
    except OSError:
        made.close()
        raise
    return made, made.connect_ex((address, port))


def unsent(made: socket.socket) -> int:
    """Bytes of a TCP socket that the peer has not acknowledged and still may (tcp(7), SIOCOUTQ).

    What a peer has reset is acknowledged by nobody any more, though the kernel goes on counting it.
    """
    if made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE:
        return 0
    return int(struct.unpack("=i", fcntl.ioctl(made.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))[0])


def packets(made: socket.socket) -> tuple[int, int] | None:
    """Segments that a TCP socket has sent and received (tcp(7), TCP_INFO: `tcpi_segs_out`, `tcpi_segs_in`)."""
    try:
        info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return None
    return struct.unpack_from("=II", info, 136) if len(info) >= 144 else None


def round_trip(made: socket.socket) -> int | None:
    """The smoothed round trip of a TCP socket in microseconds (tcp(7), TCP_INFO: `tcpi_rtt`)."""
    try:
        info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 72)
    except OSError:
        return None
    return int(struct.unpack_from("=I", info, 68)[0]) if len(info) >= 72 else None


def reset(made: socket.socket) -> None:
    """Closes a TCP socket with a reset."""
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
    except OSError:
        pass  # not connected: a plain close says the same
    made.close()


def tap(device: str) -> socket.socket:
    """A packet socket (packet(7)) that gets a copy of every packet that arrives at a device, from its IP head on."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _TAP_BUFFER)
    except PermissionError:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _TAP_BUFFER)
    made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    # A loopback device shows each packet twice, as it leaves and as it arrives.
    made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
    made.bind((device, _ETH_P_ALL))
    return made


def take_packet(made: socket.socket, buffer: bytearray) -> tuple[int, memoryview] | None:
    """When a `tap` got its next packet (Unix time in nanoseconds), and the packet, in `buffer`; `None` for none."""
    try:
        length, ancillary, _flags, _address = made.recvmsg_into([buffer], 64)
    except BlockingIOError:
        return None
    when = next((data for level, kind, data in ancillary if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS)), b"")
    seconds, nanoseconds = struct.unpack("=qq", when) if len(when) == 16 else (0, 0)
    return seconds * 1_000_000_000 + nanoseconds, memoryview(buffer)[:length]


def lost_packets(made: socket.socket) -> int:
    """How many packets a `tap` had no room for, since this was asked last."""
    return int(struct.unpack("=II", made.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))[1])


def most_descriptors() -> int:
    """How many descriptors this process may have at once: the hard limit, to which a run raises its own."""
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]
