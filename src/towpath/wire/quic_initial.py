"""Which servers one UDP flow asks for: QUIC's Initial packets, opened and put together (RFC 9000, 9001).

An Initial is protected only by keys that anyone on the way can derive, so the ClientHello inside is as readable as over
TCP. It may be cut over frames and datagrams in any order. Once a hello is admitted, the server it names has the flow;
what a client sends later on the same flow is still opened, for it may begin a second connection.
"""

from __future__ import annotations

from collections.abc import Callable

from towpath.errors import PeerViolation
from towpath.wire.quic_keys import ClientKeys, LongHeader, header_at, variable
from towpath.wire.tls_hello import MAX_HELLO, ClientHello, parse_handshake

__all__ = ["QuicFlow"]

MAX_HELD_BYTES = 65536
MAX_HELD_DATAGRAMS = 16
MAX_CONNECTIONS = 8
"""How many connections of one flow are remembered; the admitted one that was quiet longest is forgotten first."""

_PADDING, _PING, _ACK, _ACK_ECN, _CRYPTO, _CLOSE = 0, 1, 2, 3, 6, 0x1C


class QuicFlow:
    """What one UDP flow's client datagrams say of the names they ask for. No I/O.

    `receive` says what to do with each datagram:

    - ``"pass"``: send it on, after those held before it;
    - ``"hold"``: keep it, its hello is not whole (at most 16 datagrams and 64 KiB);
    - ``"refuse"``: drop it and those held before it. `fault` says why; it is `None` when `admits` said no.

    `admits` is asked once for each hello. A refused datagram does not end the flow: connections that were admitted
    go on, and another one may begin. `hello` is the last hello that `admits` was asked about.

        flow = QuicFlow(lambda hello: hello.server_name == "good.test")
        verdict = flow.receive(datagram)
    """

    __slots__ = ("_admits", "_connections", "_held_bytes", "_held_datagrams", "fault", "hello")

    def __init__(self, admits: Callable[[ClientHello], bool]) -> None:
        self._admits = admits
        self._connections: list[_Connection] = []
        self._held_bytes = 0
        self._held_datagrams = 0
        self.fault: str | None = None
        self.hello: ClientHello | None = None

    def receive(self, datagram: bytes) -> str:
        self.fault = None
        try:
            admitted = self._read(datagram)
        except PeerViolation as violation:
            self.fault = str(violation)
            admitted = False
        if not admitted:
            self._forget_undecided()
            return "refuse"
        if any(connection.undecided for connection in self._connections):
            self._held_bytes += len(datagram)
            self._held_datagrams += 1
            if self._held_bytes > MAX_HELD_BYTES or self._held_datagrams > MAX_HELD_DATAGRAMS:
                self.fault = "quic-hold: the hello is not whole after all that may be held"
                self._forget_undecided()
                return "refuse"
            return "hold"
        self._held_bytes = self._held_datagrams = 0
        return "pass"

    def _forget_undecided(self) -> None:
        """What was held is gone, so its client begins again; what was admitted stays."""
        self._connections = [connection for connection in self._connections if connection.admitted]
        for connection in self._connections:
            connection.forget_undecided()
        self._held_bytes = self._held_datagrams = 0

    def _read(self, datagram: bytes) -> bool:
        """Takes every packet in; false when a hello was refused by `admits`."""
        if not datagram:
            raise PeerViolation("quic-empty", "no bytes")
        protected = False
        at = 0
        while at < len(datagram):
            if not datagram[at] & 0x80:
                # A short header has no length: it takes the rest. Zeros after a packet are padding of the datagram.
                protected = protected or at == 0 or any(datagram[at:])
                break
            header = header_at(datagram, at)
            at = header.end
            if not header.initial:
                protected = True
            elif not self._initial(datagram, header):
                return False
        if protected and not self._connections:
            raise PeerViolation("quic-no-hello", "packets of a connection that no ClientHello began")
        return True

    def _initial(self, datagram: bytes, header: LongHeader) -> bool:
        connection, frames = self._open(datagram, header)
        connection.take(frames)
        while (hello := connection.next_hello()) is not None:
            self.hello = hello
            if not self._admits(hello):
                return False
            connection.admit(hello)
        return True

    def _open(self, datagram: bytes, header: LongHeader) -> tuple[_Connection, bytes]:
        for connection in self._connections:
            frames = connection.open(datagram, header)
            if frames is not None:
                self._connections.remove(connection)
                self._connections.append(connection)
                return connection, frames
        connection = _Connection(header.destination)
        frames = connection.open(datagram, header)
        if frames is None:
            raise PeerViolation("quic-undecryptable", "an Initial that no key opens")
        if len(self._connections) >= MAX_CONNECTIONS:
            # Never one that is being held: forgetting it would let its bytes out unjudged.
            settled = next((known for known in self._connections if not known.undecided), None)
            if settled is None:
                raise PeerViolation("quic-connections", f"over {MAX_CONNECTIONS} unfinished hellos on one flow")
            self._connections.remove(settled)
        self._connections.append(connection)
        return connection, frames


class _Connection:
    """One connection attempt: its keys and the handshake bytes its Initials carried so far."""

    __slots__ = ("_bytes", "_destination", "_expected", "_have", "_judged", "_keys", "admitted")

    def __init__(self, destination: bytes) -> None:
        self._destination = destination
        self._keys: dict[int, ClientKeys] = {}
        self._expected = 0
        self._bytes = bytearray()
        self._have = bytearray()
        self._judged = 0
        self.admitted = False

    @property
    def undecided(self) -> bool:
        """Whether handshake bytes came that belong to no admitted hello, or nothing of one came yet."""
        return not self.admitted or len(self._bytes) > self._judged

    def open(self, datagram: bytes, header: LongHeader) -> bytes | None:
        """The frames, when the keys fit. A client may change its version in the middle (RFC 9368): same first ID."""
        keys = self._keys.get(header.version)
        if keys is None:
            keys = self._keys[header.version] = ClientKeys(header.version, self._destination)
        opened = keys.open(datagram, header, self._expected)
        if opened is None:
            return None
        self._expected = max(self._expected, opened[0] + 1)
        return opened[1]

    def take(self, frames: bytes) -> None:
        """Keeps what CRYPTO frames carry; raises `PeerViolation` for frames that no Initial may have."""
        if not frames:
            raise PeerViolation("quic-frame", "a packet without frames")
        at = 0
        while at < len(frames):
            kind = frames[at]
            at += 1
            if kind == _CRYPTO:
                offset, at = variable(frames, at)
                length, at = variable(frames, at)
                if at + length > len(frames):
                    raise PeerViolation("quic-frame", "CRYPTO is cut off")
                self._store(offset, frames[at : at + length])
                at += length
            elif kind in (_ACK, _ACK_ECN):
                at = _skip_ack(frames, at, kind)
            elif kind == _CLOSE:
                for _ in range(2):
                    _, at = variable(frames, at)
                length, at = variable(frames, at)
                at += length
                if at > len(frames):
                    raise PeerViolation("quic-frame", "CONNECTION_CLOSE is cut off")
            elif kind not in (_PADDING, _PING):
                raise PeerViolation("quic-frame", f"type {kind:#x} in an Initial")

    def _store(self, offset: int, data: bytes) -> None:
        """A server takes the bytes that come first, so bytes that come again must be the same, admitted or not."""
        end = offset + len(data)
        if end > MAX_HELLO:
            raise PeerViolation("quic-crypto", f"handshake bytes up to {end}")
        if end > len(self._bytes):
            grown = bytes(end - len(self._bytes))
            self._bytes += grown
            self._have += grown
        if self._have.find(1, offset, end) >= 0:
            for at, byte in enumerate(data, offset):
                if self._have[at] and self._bytes[at] != byte:
                    raise PeerViolation("quic-crypto", f"other handshake bytes than before at {at}")
        self._bytes[offset:end] = data
        self._have[offset:end] = b"\x01" * len(data)

    def next_hello(self) -> ClientHello | None:
        """The next whole hello that nobody judged: the first, or the second after a HelloRetryRequest."""
        gap = self._have.find(0, self._judged)
        return parse_handshake(bytes(self._bytes[self._judged : gap if gap >= 0 else None]))

    def admit(self, hello: ClientHello) -> None:
        self.admitted = True
        self._judged += hello.length

    def forget_undecided(self) -> None:
        del self._bytes[self._judged :]
        del self._have[self._judged :]


def _skip_ack(frames: bytes, at: int, kind: int) -> int:
    for _ in range(2):
        _, at = variable(frames, at)
    ranges, at = variable(frames, at)
    _, at = variable(frames, at)
    for _ in range(2 * ranges + (3 if kind == _ACK_ECN else 0)):
        _, at = variable(frames, at)
    return at
