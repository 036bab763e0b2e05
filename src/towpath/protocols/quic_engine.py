"""One QUIC connection without I/O: the one place that knows the library behind it."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any, Protocol

from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.stream import QuicStream
from aioquic.tls import AlertDescription, SessionTicket

from towpath.errors import Misuse
from towpath.protocols.credentials import Credentials
from towpath.protocols.layer import Link
from towpath.protocols.quic import Quic, QuicClosed, QuicDetails, Ticket
from towpath.protocols.quic_tls import Guard, JudgedTls

__all__ = ["Address", "QuicEngine", "QuicOwner"]

Address = tuple[str, int] | tuple[str, int, int, int]
"""What the sockets give, kept as it is."""

_PAYLOAD = 1232
"""Bytes of a packet that fit into the least MTU of IPv6, 1280 (RFC 8200 section 5), beneath its headers."""
_DATAGRAM_OVERHEAD = 48
"""More than a short header, the tag and the frame around a datagram take."""
_LIMIT_FRAME = 17
_IDLE = "Idle timeout"
"""How the library calls the end by silence."""


class QuicOwner(Protocol):
    """Who is told what happens on a connection."""

    def connected(self, details: QuicDetails) -> None: ...
    def stream_data(self, stream: int, data: bytes, ended: bool) -> None: ...
    def stream_reset(self, stream: int, code: int) -> None: ...
    def stream_refused(self, stream: int, code: int) -> None: ...
    def datagram(self, data: bytes) -> None: ...
    def closed(self, error: Exception) -> None: ...
    def identified(self, identifier: bytes) -> None: ...
    def retired(self, identifier: bytes) -> None: ...


class _Connection(QuicConnection):
    """The library's connection with our judgement, and with windows that wait for the program.

    Its own windows grow with what has come, whether or not anybody has taken it.
    """

    def __init__(self, options: Quic, guard: Guard, window: int, **arguments: Any) -> None:
        self.held: set[int] = set()
        """Streams whose program takes nothing now."""
        self._guard = guard
        self._window = window
        self._early = options.early_data
        super().__init__(**arguments)

    @property
    def ending(self) -> events.ConnectionTerminated | None:
        """How the connection ends, as soon as it is known: the event itself comes after the draining period."""
        return self._close_event

    @property
    def ended_here(self) -> bool:
        return self._close_pending

    def unsent(self, stream: int) -> int:
        """Bytes of a stream that the peer has not acknowledged."""
        found = self._streams.get(stream)
        return found.sender._buffer_stop - found.sender._buffer_start if found is not None else 0

    def is_delivered(self, stream: int) -> bool:
        """Whether all that was sent, with the end, has been acknowledged, or the stream was reset."""
        found = self._streams.get(stream)
        return found is None or found.sender.is_finished

    def can_open(self, stream: int) -> bool:
        return stream // 4 < (self._remote_max_streams_uni if stream & 2 else self._remote_max_streams_bidi)

    @property
    def largest_datagram(self) -> int:
        """0 where the peer takes none (RFC 9221 section 3)."""
        return max(0, min(self._remote_max_datagram_frame_size or 0, _PAYLOAD - _DATAGRAM_OVERHEAD))

    @property
    def agreed_version(self) -> int:
        return 2 if self._version == QuicProtocolVersion.VERSION_2 else 1

    @property
    def cipher(self) -> str:
        schedule = self.tls.key_schedule
        return f"TLS_{schedule.cipher_suite.name}" if schedule is not None else ""

    @property
    def waiting_datagrams(self) -> int:
        return len(self._datagrams_pending)

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        JudgedTls.adopt(self.tls, self._guard)
        if not self._early and not self._is_client:
            self.tls._max_early_data = None

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: object, stream: QuicStream) -> None:
        if not stream.max_stream_data_local:
            return  # it only sends
        wanted = stream.receiver.highest_offset + self._window
        if stream.stream_id not in self.held and wanted - stream.max_stream_data_local >= self._window // 2:
            stream.max_stream_data_local = wanted
        if stream.max_stream_data_local_sent == stream.max_stream_data_local:
            return
        # RFC 9000 section 19.10.
        frame = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=_LIMIT_FRAME,
            handler=self._on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        frame.push_uint_var(stream.stream_id or 0)
        frame.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local


class QuicEngine:
    """Feed it datagrams, time and what is to be sent; take datagrams and events from it. Times are the link's clock."""

    def __init__(
        self,
        options: Quic,
        link: Link,
        owner: QuicOwner,
        *,
        window: int,
        original: bytes | None = None,
        retry_source: bytes | None = None,
    ) -> None:
        """`window` is what a peer may send on a stream ahead of the program, in bytes.

        For a server `original` is the first connection ID that the client chose, `retry_source` the one it was given
        with a Retry. Raises `Misuse`, `ConfigInvalid` and `OSError` for an identity that cannot be used.
        """
        self.options = options
        self.details: QuicDetails | None = None
        self.is_over = False
        self._link = link
        self._owner = owner
        self._name = options.server_name or link.host or ""
        self._ticket: Ticket | None = None
        self._pings = 0
        self._guard = Guard(options, self._name, is_server=link.is_server)
        self._remembers = options.resumption and not self._guard.demands
        self._quic = _Connection(
            options,
            self._guard,
            window,
            configuration=self._configure(window),
            original_destination_connection_id=original,
            retry_source_connection_id=retry_source,
            session_ticket_fetcher=options.memory.redeem if self._remembers else None,
            session_ticket_handler=self._ticket_came if self._remembers else None,
        )

    def _configure(self, window: int) -> QuicConfiguration:
        options, link = self.options, self._link
        configuration = QuicConfiguration(
            is_client=not link.is_server,
            alpn_protocols=list(options.alpn),
            idle_timeout=options.idle_timeout,
            max_stream_data=window,
            max_data=4 * window,
            max_datagram_size=_PAYLOAD,
            max_datagram_frame_size=options.datagrams or None,
            server_name=self._name.partition("%")[0],
            verify_mode=0,
        )
        if link.is_server:
            if options.identity is None:
                error = Misuse("a QUIC server needs a certificate and its key")
                error.hint = "give Parameters.quic an identity: (chain.pem, key.pem)"
                raise error
            own = Credentials.load(*options.identity)
            configuration.certificate, *configuration.certificate_chain = own.certificates
            configuration.private_key = own.key
            return configuration
        if not self._name:
            error = Misuse("QUIC needs to know whom it talks to, and the endpoint has no host")
            error.hint = "give Parameters.quic a server_name"
            raise error
        self._ticket = options.memory.known(self._name) if options.resumption else None
        if self._ticket is not None:
            # Without consent the handshake does not even offer early data.
            early = self._ticket.session.max_early_data_size if options.early_data else None
            configuration.session_ticket = replace(self._ticket.session, max_early_data_size=early)
        return configuration

    @property
    def identifier(self) -> bytes:
        """The connection ID that this side chose first."""
        return self._quic.host_cid

    @property
    def may_send_early(self) -> bool:
        """Whether there is a ticket with which idempotent data can go at once."""
        return (
            self.options.early_data
            and self._ticket is not None
            and self._ticket.session.max_early_data_size is not None
        )

    @property
    def next_wakeup(self) -> float | None:
        return None if self.is_over else self._quic.get_timer()

    @property
    def has_peer(self) -> bool:
        """Whether anything has come of a peer that could be read; true for clients."""
        return self._quic.get_peer_address() is not None

    def connect(self, address: Address) -> None:
        """Begins the handshake, as a client."""
        self._quic.connect(address, self._link.clock())

    def receive(self, data: bytes, address: Address) -> None:
        """A datagram came."""
        self._quic.receive_datagram(data, address, self._link.clock())
        self._tell()

    def wake(self) -> None:
        """The time of `next_wakeup` has come."""
        # The timer of the loop may be a tick early.
        self._quic.handle_timer(max(self._link.clock(), self._quic.get_timer() or 0.0))
        self._tell()

    def outgoing(self) -> list[tuple[bytes, Address]]:
        """Datagrams that have to leave now."""
        # Before a server has seen a packet that can be read, the library has nobody to send to.
        return self._quic.datagrams_to_send(self._link.clock()) if self.has_peer else []

    def open(self, *, unidirectional: bool = False) -> int:
        """The number of a new stream; the peer learns of it with the first data."""
        stream = self._quic.get_next_available_stream_id(is_unidirectional=unidirectional)
        self._quic.send_stream_data(stream, b"")
        return stream

    def send(self, stream: int, data: bytes, *, ends: bool = False) -> None:
        self._quic.send_stream_data(stream, data, ends)

    def unsent(self, stream: int) -> int:
        """Bytes of a stream that the peer has not acknowledged."""
        return self._quic.unsent(stream)

    def is_delivered(self, stream: int) -> bool:
        """Whether the peer has all of what was sent, and its end."""
        return self._quic.is_delivered(stream)

    def hold(self, stream: int) -> None:
        """The program takes nothing: the peer's window on this stream stays as it is."""
        self._quic.held.add(stream)

    def release(self, stream: int) -> None:
        self._quic.held.discard(stream)

    def reset(self, stream: int, code: int) -> None:
        """Gives up sending (RESET_STREAM)."""
        if not self._quic.is_delivered(stream):
            self._quic.reset_stream(stream, code)

    def refuse(self, stream: int, code: int) -> None:
        """Asks the peer to send no more (STOP_SENDING), if it still does."""
        try:
            self._quic.stop_stream(stream, code)
        except ValueError:
            return  # the stream has ended both ways, and is forgotten

    def send_datagram(self, data: bytes) -> None:
        """Raises `Misuse` for one that does not fit into a packet, or that the peer does not take."""
        largest = self._quic.largest_datagram
        if len(data) > largest:
            error = Misuse(f"{len(data)} bytes are too many for a datagram on this connection: {largest} at most")
            error.hint = "send it on a stream" if largest else "the peer takes no datagrams (RFC 9221): use a stream"
            raise error
        self._quic.send_datagram_frame(data)

    @property
    def waiting_datagrams(self) -> int:
        return self._quic.waiting_datagrams

    def ping(self) -> None:
        self._pings += 1
        self._quic.send_ping(self._pings)

    def change_path(self) -> None:
        """Takes another connection ID: the new path is not to be linked with the old one (RFC 9000 section 9.5)."""
        self._quic.change_connection_id()

    def close(self, code: int = 0, reason: str = "") -> None:
        """Ends the connection by the application's will."""
        self.is_over = True
        self._quic.close(code, None, reason)

    def _ticket_came(self, session: SessionTicket) -> None:
        if self._link.is_server:
            self.options.memory.issue(session)
            return
        trust = self._guard.trust or (self._ticket.trust if self._ticket is not None else None)
        if trust is not None:
            self.options.memory.remember(self._name, session, trust)

    def _tell(self) -> None:
        owner = self._owner
        while not self.is_over and (event := self._quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived():
                    owner.stream_data(event.stream_id, event.data, event.end_stream)
                case events.DatagramFrameReceived():
                    owner.datagram(event.data)
                case events.HandshakeCompleted():
                    self.details = self._agreed(event)
                    owner.connected(self.details)
                case events.StreamReset():
                    owner.stream_reset(event.stream_id, event.error_code)
                case events.StopSendingReceived():
                    owner.stream_refused(event.stream_id, event.error_code)
                case events.ConnectionIdIssued():
                    owner.identified(event.connection_id)
                case events.ConnectionIdRetired():
                    owner.retired(event.connection_id)
        ending = self._quic.ending
        if ending is not None and not self.is_over:
            self.is_over = True
            owner.closed(self._guard.refused or self._error(ending))

    def _agreed(self, event: events.HandshakeCompleted) -> QuicDetails:
        resumed = event.session_resumed and self._ticket is not None
        return QuicDetails(
            self._quic.agreed_version,
            self._quic.cipher,
            event.alpn_protocol,
            event.session_resumed,
            event.early_data_accepted,
            self._quic.largest_datagram,
            self._ticket.trust if resumed and self._ticket is not None else self._guard.trust,
        )

    def _error(self, ending: events.ConnectionTerminated) -> QuicClosed:
        name = self._name or "client"
        if ending.reason_phrase == _IDLE and ending.error_code == QuicErrorCode.INTERNAL_ERROR:
            words = f"QUIC: nothing came for {self.options.idle_timeout:g} s"
            return QuicClosed(name, words, 0, by_application=False, by_peer=False, errno=errno.ETIMEDOUT)
        by_peer = not self._quic.ended_here
        who = "the peer" if by_peer else "this side"
        by_application = ending.frame_type is None
        what = f"code {ending.error_code}" if by_application else _words(ending.error_code)
        said = f": {ending.reason_phrase}" if ending.reason_phrase else ""
        return QuicClosed(
            name,
            f"QUIC: {who} closed with {what}{said}",
            ending.error_code,
            by_application=by_application,
            by_peer=by_peer,
        )


def _words(code: int) -> str:
    """A transport error in plain words (RFC 9000 section 20.1)."""
    if QuicErrorCode.CRYPTO_ERROR <= code < 2 * QuicErrorCode.CRYPTO_ERROR:
        alert = code - QuicErrorCode.CRYPTO_ERROR
        known = AlertDescription._value2member_map_.get(alert)
        return f"the TLS alert {known.name.replace('_', ' ') if known is not None else alert}"
    try:
        return QuicErrorCode(code).name.lower().replace("_", " ")
    except ValueError:
        return f"error {code}"
