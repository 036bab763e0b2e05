"""Channels that share one QUIC connection: a stream each, or its datagrams."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from towpath.connection.channel import Channel
from towpath.connection.parameters import Parameters
from towpath.errors import Misuse
from towpath.protocols.layer import Link
from towpath.protocols.message import Message
from towpath.protocols.quic import QuicClosed
from towpath.protocols.stack import Handshake

if TYPE_CHECKING:
    from towpath.connection.quic_link import QuicLink

__all__ = ["QuicChannel", "QuicDatagramChannel", "QuicStreamChannel"]

_HIGH_WATER = 1 << 18
"""Bytes without acknowledgement before those that send have to wait."""
_MAX_DATAGRAMS = 256


class QuicChannel(Channel):
    """What streams and datagrams have in common: the socket and the handshake belong to the `QuicLink`."""

    def __init__(self, carrier: QuicLink, parameters: Parameters, link: Link) -> None:
        super().__init__(carrier.socket, parameters, link, carrier.loop)
        self.link = carrier
        self._started = False

    def start(self) -> None:
        if not self._started:
            self._started = True
            super().start()

    async def wait_ready(self) -> None:
        await self.link.ready()
        await super().wait_ready()

    @property
    def names(self) -> tuple[object, object]:
        return self.link.names

    @property
    def handshakes(self) -> tuple[Handshake, ...]:
        details = self.link.engine.details
        below = (Handshake("Quic", self.link.seconds, details),) if details is not None else ()
        return below + super().handshakes

    @property
    def datagram_size(self) -> int | None:
        return None

    @abstractmethod
    def progress(self) -> None:
        """The peer has acknowledged something, or the connection has ended: go on with what waited for it."""

    def settle(self) -> None:
        """Resumes who waits for what has come. Only from a callback of the loop."""
        if self.inbox.full:
            self.pause_reading()
        if self._note_time:
            self.last_heard = self.loop.time()
        self._settle()

    def _read(self) -> None:
        """The link reads for all of its channels."""

    def _flush(self) -> None:
        self.link.flush()


class QuicStreamChannel(QuicChannel):
    """One stream of a QUIC connection; what does not fit one direction of it is `Misuse`."""

    def __init__(
        self, carrier: QuicLink, parameters: Parameters, link: Link, stream: int, *, sends: bool, receives: bool
    ) -> None:
        self.stream = stream
        self._sends = sends
        self._receives = receives
        self._ended = not sends
        self._refusal: Exception | None = None
        self._early: list[tuple[bytes, bool]] = []
        super().__init__(carrier, parameters, link)

    def start(self) -> None:
        super().start()
        early, self._early = self._early, []
        for data, ended in early:
            self.came(data, ended)
        if not self._receives:
            self.received_end()
        self.inbox.wake_soon()

    def came(self, data: bytes, ended: bool) -> None:
        """Bytes of the peer, perhaps the last ones; kept if they come before the start."""
        if not self._started:
            self._early.append((data, ended))
            return
        self.bytes_received += len(data)
        if data and self.stack is not None:
            self.stack.receive(Message(data, False))
        elif data:
            self.inbox.put(data)
        if ended:
            self._input_over = True
            if self.stack is None:
                self.received_end()
            else:
                self.stack.receive_end()

    def refused(self, code: int) -> None:
        """The peer takes no more on this stream (RFC 9000 section 19.5)."""
        words = f"QUIC: the peer takes no more on this stream, code {code}"
        self._refusal = QuicClosed(str(self.link.peer_name), words, code, by_application=True, by_peer=True)

    def reset(self, code: int) -> None:
        """The peer gave up sending on this stream (RFC 9000 section 19.4)."""
        words = f"QUIC: the peer reset the stream with code {code}"
        self.lose(QuicClosed(str(self.link.peer_name), words, code, by_application=True, by_peer=True))

    @property
    def _has_pending(self) -> bool:
        return self.link.error is None and self._sends and not self.link.engine.is_delivered(self.stream)

    def transmit(self, message: Message) -> None:
        if self._ended:
            if not message.content:
                return
            raise Misuse("this stream leads the other way" if not self._sends else "this side has ended the stream")
        if self.link.error is not None:
            raise self.link.error
        if self._refusal is not None:
            raise self._refusal
        engine = self.link.engine
        engine.send(self.stream, message.content)
        self.bytes_sent += len(message.content)
        self.congested = engine.unsent(self.stream) >= _HIGH_WATER
        self.link.flush_soon()

    def transmit_end(self) -> None:
        if not self._ended and self.link.error is None and self._refusal is None:
            self._ended = True
            self.link.engine.send(self.stream, b"", ends=True)
            self.link.flush_soon()

    def stopped(self) -> None:
        self.transmit_end()
        super().stopped()

    def progress(self) -> None:
        if self._closing and not self._has_pending:
            self.close()
        elif self.congested and self.link.engine.unsent(self.stream) < _HIGH_WATER // 2:
            self.congested = False
            if self.on_room is not None:
                self.on_room()

    def abort(self) -> None:
        if not self.is_closed and self.link.error is None and self._sends:
            self.link.engine.reset(self.stream, self.link.code)
        self.close()

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.link.engine.hold(self.stream)

    def _resume_reading(self) -> None:
        if not (self._reading or self._input_over or self._closed or self.error or self.inbox.full):
            self._reading = True
            self.link.engine.release(self.stream)
            self.link.flush_soon()

    def _release(self) -> None:
        if self.link.error is None and self._receives and not self._input_over:
            self.link.engine.refuse(self.stream, self.link.code)
        self.link.leave(self)

    def end_with(self, error: Exception) -> None:
        """The whole connection has ended. One that was closed in order is no failure for who has read to the end."""
        orderly = isinstance(error, QuicClosed) and error.by_peer and error.by_application and error.code == 0
        if not (orderly and self.inbox.ended):
            self.lose(error)
        self.progress()

    def _is_stream(self) -> bool:
        return _gives_stream(self.parameters, stream=True)


class QuicDatagramChannel(QuicChannel):
    """The datagrams of a QUIC connection (RFC 9221), each a message; its end is the connection's."""

    def came(self, data: bytes) -> None:
        if self.inbox.full or not self._started:
            return  # nobody takes them, and a datagram may be lost
        self.bytes_received += len(data)
        if self.stack is None:
            self.inbox.put_message(Message(data))
        else:
            self.stack.receive(Message(data))

    @property
    def datagram_size(self) -> int | None:
        details = self.link.engine.details
        return details.datagram_size if details is not None else None

    @property
    def _has_pending(self) -> bool:
        return self.link.error is None and self.link.has_streams

    def transmit(self, message: Message) -> None:
        if not message.complete:
            raise Misuse("a datagram is sent whole, not in parts")
        if self.link.error is not None:
            raise self.link.error
        self.link.engine.send_datagram(message.content)
        self.bytes_sent += len(message.content)
        self.congested = self.link.engine.waiting_datagrams >= _MAX_DATAGRAMS
        self.link.flush_soon()

    def transmit_end(self) -> None:
        """Datagrams have no end."""

    def progress(self) -> None:
        if self._closing and not self._has_pending:
            self.close()
        elif self.congested and self.link.engine.waiting_datagrams < _MAX_DATAGRAMS:
            self.congested = False
            if self.on_room is not None:
                self.on_room()

    def abort(self) -> None:
        self.close()

    def pause_reading(self) -> None:
        self._reading = False

    def _resume_reading(self) -> None:
        self._reading = True

    def _release(self) -> None:
        self.link.close(self.link.code)

    def end_with(self, error: Exception) -> None:
        self.lose(error)
        self.progress()

    def _is_stream(self) -> bool:
        return _gives_stream(self.parameters, stream=False)


def _gives_stream(parameters: Parameters, *, stream: bool) -> bool:
    for layer in parameters.layers:
        if layer.makes_messages is not None:
            stream = not layer.makes_messages
    return stream
