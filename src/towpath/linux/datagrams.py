"""Questions of a datagram socket in batches: recvmmsg(2), sendmmsg(2), on buffers that are made once.

The socket tells with each datagram which address it was sent to (`IP_PKTINFO`, see `towpath.linux.sockets.dns_intake`),
and the very same control message makes the answer leave from there.
"""

from __future__ import annotations

import ctypes
import errno
import socket

__all__ = ["LARGEST_ANSWER", "QuestionBatch", "Vectors", "address_of", "receive_batch"]

LARGEST_ANSWER = 1232
"""Bytes of a datagram that leaves in a batch."""

_AT_ONCE = 64
_IN = 2048
_NAME, _CONTROL = 32, 64
_HEADER = 64
"""sizeof(struct mmsghdr) where pointers have 8 bytes."""
_MSG_DONTWAIT, _MSG_TRUNC = 0x40, 0x20
_NAME_LENGTHS = {socket.AF_INET: 16, socket.AF_INET6: 28}
_CONTROL_LENGTHS = {socket.AF_INET: 32, socket.AF_INET6: 40}

_libc = ctypes.PyDLL(None, use_errno=True)
receive_batch = _libc.recvmmsg
receive_batch.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)
_send = _libc.sendmmsg
_send.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


class Vectors:
    """An array of `struct mmsghdr` with one buffer, one name and one control message each."""

    def __init__(self, count: int, size: int, family: socket.AddressFamily) -> None:
        self.data = bytearray(count * size)
        self._vectors = bytearray(count * 16)
        self._headers = bytearray(count * _HEADER)
        base, vectors = address_of(self.data), address_of(self._vectors)
        self.lengths = memoryview(self._vectors).cast("Q")
        self.words = memoryview(self._headers).cast("Q")
        self.halves = memoryview(self._headers).cast("I")
        self.address = address_of(self._headers)
        for at in range(count):
            self.lengths[2 * at] = base + at * size
            self.lengths[2 * at + 1] = size
            self.words[8 * at + 1] = _NAME_LENGTHS.get(family, 28)
            self.words[8 * at + 2] = vectors + 16 * at
            self.words[8 * at + 3] = 1
            self.words[8 * at + 5] = _CONTROL_LENGTHS.get(family, 40)
        self._fresh = b""

    def remember(self) -> None:
        self._fresh = bytes(self._headers)

    def refresh(self) -> None:
        """The kernel writes into the headers what it received."""
        self._headers[:] = self._fresh


def address_of(buffer: bytearray) -> int:
    """Where it lies, as long as it has this size."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))


class QuestionBatch:
    """The datagrams that wait in `endpoint`, and the answers to some of them, sent together.

    `receive` begins a batch, `send` answers some of it; both and `source` name a datagram by its place. What is to be
    answered later needs `source`, and a `sendmsg` of its own.
    """

    def __init__(self, endpoint: socket.socket) -> None:
        self._endpoint = endpoint
        self._family = socket.AddressFamily(endpoint.family)
        self._in = Vectors(_AT_ONCE, _IN, self._family)
        self._out = Vectors(_AT_ONCE, LARGEST_ANSWER, self._family)
        self._names = bytearray(_AT_ONCE * _NAME)
        self._controls = bytearray(_AT_ONCE * _CONTROL)
        self._name_at, self._control_at = address_of(self._names), address_of(self._controls)
        view = memoryview(self._in.data)
        self._slots = [view[at * _IN : (at + 1) * _IN] for at in range(_AT_ONCE)]
        self._sent_from = list(range(_AT_ONCE))
        for vectors in (self._in, self._out):
            for at in range(_AT_ONCE):
                vectors.words[8 * at] = self._name_at + at * _NAME
                vectors.words[8 * at + 4] = self._control_at + at * _CONTROL
        self._in.remember()

    def receive(self) -> list[bytes]:
        """The datagrams that are there, at most 64; one that is longer than 2,048 bytes is empty here."""
        vectors = self._in
        vectors.refresh()
        count = receive_batch(self._endpoint.fileno(), vectors.address, _AT_ONCE, _MSG_DONTWAIT, None)
        if count <= 0:
            return []
        end = 16 * count
        lengths = vectors.halves[14:end:16].tolist()
        found = [slot[:length].tobytes() for slot, length in zip(self._slots, lengths, strict=False)]
        for at, flags in enumerate(vectors.halves[12:end:16].tolist()):
            if flags & _MSG_TRUNC:
                found[at] = b""
        return found

    @property
    def full(self) -> int:
        """How many datagrams a full batch has: then more may wait."""
        return _AT_ONCE

    def source(self, at: int) -> tuple[bytes, int, bytes]:
        """Who sent the datagram, packed, from which port, and to which address."""
        name, control = at * _NAME, at * _CONTROL
        port = self._names[name + 2] << 8 | self._names[name + 3]
        if self._family == socket.AF_INET:
            return bytes(self._names[name + 4 : name + 8]), port, bytes(self._controls[control + 24 : control + 28])
        return bytes(self._names[name + 8 : name + 24]), port, bytes(self._controls[control + 16 : control + 32])

    def send(self, answers: list[tuple[int, bytes]]) -> None:
        """Answers datagrams, each with at most `LARGEST_ANSWER` bytes. What cannot be sent is lost, as any may be."""
        out, sent_from = self._out, self._sent_from
        data, lengths, words = out.data, out.lengths, out.words
        start = place = 0
        for at, packet in answers:
            size = len(packet)
            data[start : start + size] = packet
            lengths[2 * place + 1] = size
            if sent_from[place] != at:
                sent_from[place] = at
                words[8 * place] = self._name_at + at * _NAME
                words[8 * place + 4] = self._control_at + at * _CONTROL
            start += LARGEST_ANSWER
            place += 1
        done = 0
        descriptor = self._endpoint.fileno()
        while done < place:
            sent = _send(descriptor, out.address + done * _HEADER, place - done, _MSG_DONTWAIT)
            if sent > 0:
                done += sent
            elif ctypes.get_errno() in (errno.EAGAIN, errno.EBADF):
                return
            else:
                done += 1
