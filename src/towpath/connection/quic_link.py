"""One QUIC connection on the event loop: its socket, its timer, and the channels on it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Protocol

from towpath.connection.arrival import Arrival
from towpath.connection.parameters import Parameters
from towpath.connection.quic_channel import QuicChannel, QuicDatagramChannel, QuicStreamChannel
from towpath.errors import Cancelled, Misuse
from towpath.protocols.layer import Link
from towpath.protocols.quic import Quic, QuicDetails
from towpath.protocols.quic_engine import Address, QuicEngine

__all__ = ["Carrier", "QuicLink"]


class Carrier(Protocol):
    """What brings a link's datagrams to the network: a socket of its own, or a listener's."""

    @property
    def socket(self) -> socket.socket: ...

    def carry(self, data: bytes, address: Address) -> None:
        """Sends one datagram, or loses it: QUIC repeats what is not acknowledged."""

    def ended(self, link: QuicLink) -> None:
        """The link needs it no more."""

    def identified(self, link: QuicLink, identifier: bytes) -> None:
        """Datagrams with this connection ID are the link's."""

    def retired(self, identifier: bytes) -> None:
        """They are no more."""

    async def move(self) -> None:
        """Looks for another way to the peer. Raises `Misuse` where there is only one."""


class QuicLink:
    """Carries datagrams between the engine and a carrier, and events from the engine to the channels.

    A link that is not `kept` ends with its last stream, and takes none of the peer's.
    """

    def __init__(
        self,
        parameters: Parameters,
        link: Link,
        carrier: Carrier,
        *,
        original: bytes | None = None,
        retry_source: bytes | None = None,
    ) -> None:
        options = parameters.transport
        if not isinstance(options, Quic):
            raise Misuse("a QUIC link needs the parameters of one")
        self.loop = asyncio.get_running_loop()
        self.parameters = parameters
        self.code = 0
        """The application's error code with which it closes."""
        self.kept = False
        self.error: Exception | None = None
        self.on_stream: Callable[[QuicStreamChannel], None] | None = None
        self.on_over: Callable[[], None] | None = None
        self.seconds = 0.0
        self._link = link
        self._carrier = carrier
        self._begun = self.loop.time()
        self._streams: dict[int, QuicStreamChannel] = {}
        self._datagrams: QuicDatagramChannel | None = None
        self._touched: set[QuicChannel] = set()
        self._waiting: list[Arrival] = []
        self._timer: asyncio.TimerHandle | None = None
        self._keep_alive: asyncio.TimerHandle | None = None
        self._soon: asyncio.Handle | None = None
        self._options = options
        self._unborn: list[tuple[int, bytes, bool]] = []
        self.engine = QuicEngine(
            options, link, self, window=parameters.receive_limit, original=original, retry_source=retry_source
        )
        carrier.identified(self, self.engine.identifier)

    @property
    def socket(self) -> socket.socket:
        return self._carrier.socket

    @property
    def names(self) -> tuple[object, object]:
        made = self.socket
        if self._link.is_server:
            return made.getsockname(), self.peer
        return made.getsockname(), made.getpeername()

    peer: Address | None = None
    """Where a client comes from now."""

    @property
    def has_streams(self) -> bool:
        return bool(self._streams)

    @property
    def is_early(self) -> bool:
        """Whether streams are handed out before the handshake is over."""
        return self._options.early_data

    async def ready(self) -> None:
        """Returns when the handshake is over; raises what it failed with."""
        while self.engine.details is None and self.error is None:
            arrival = Arrival(self.loop)
            self._waiting.append(arrival)
            try:
                await arrival
            finally:
                if arrival in self._waiting:
                    self._waiting.remove(arrival)
        if self.error is not None:
            raise self.error

    def connect(self, address: Address) -> None:
        """Begins the handshake; nothing leaves before `flush`."""
        self.engine.connect(address)

    def open(self, *, unidirectional: bool = False) -> QuicStreamChannel:
        """A stream of this side's. Raises what ended the connection."""
        if self.error is not None:
            raise self.error
        stream = self.engine.open(unidirectional=unidirectional)
        return self._add(stream, sends=True, receives=not unidirectional)

    def datagrams(self) -> QuicDatagramChannel:
        """The one channel for datagrams; closing it closes the connection."""
        if self._datagrams is None:
            self._datagrams = QuicDatagramChannel(self, self.parameters.but(layers=()), self._link)
            self.kept = True
        return self._datagrams

    def received(self, data: bytes, address: Address) -> None:
        """A datagram came from the network. Only from a callback of the loop, as `wake`."""
        if self.error is not None:
            return
        self.peer = address
        self.engine.receive(data, address)
        self._settle()

    def give_streams_to(self, taker: Callable[[QuicStreamChannel], None], over: Callable[[], None]) -> None:
        """From now on `taker` gets each stream that the peer opens; `over` is called when the connection has ended."""
        self.on_stream, self.on_over = taker, over
        self._hand_out()
        if self.error is not None:
            over()

    async def move(self) -> None:
        """Goes on from another local address or port."""
        await self._carrier.move()

    def flush(self) -> None:
        """Sends what has to leave."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        for data, address in self.engine.outgoing():
            self._carrier.carry(data, address)
        self._set_timer()

    def flush_soon(self) -> None:
        """The same in the next turn of the loop, for all that is sent until then."""
        if self._soon is None and self.error is None:
            self._soon = self.loop.call_soon(self.flush)

    def close(self, code: int = 0, reason: str = "") -> None:
        """Ends the connection at once; what is not acknowledged is lost."""
        if self.error is None:
            self.engine.close(code, reason)
            self.closed(Cancelled("this side closed the QUIC connection"))

    def leave(self, channel: QuicStreamChannel) -> None:
        """A stream's channel is closed."""
        self._streams.pop(channel.stream, None)
        if self.error is not None:
            return
        self.flush_soon()
        if self._streams:
            return
        if not self.kept:
            self.close(self.code)
        elif self._datagrams is not None:
            self.loop.call_soon(self._datagrams.progress)

    def connected(self, details: QuicDetails) -> None:
        self.seconds = self.loop.time() - self._begun
        self._hand_out()
        self._keep_alive_again()

    def stream_data(self, stream: int, data: bytes, ended: bool) -> None:
        channel = self._streams.get(stream)
        if channel is None:
            if bool(stream & 1) == self._link.is_server:
                return  # one of ours, which was closed
            if not self.kept:
                self.engine.refuse(stream, self.code)
                return  # this side wanted one stream of its own, and no others
            if self.on_stream is None or (self.engine.details is None and not self.is_early):
                # Nobody is there to take it yet; or it came early, and anybody can replay that.
                self._unborn.append((stream, data, ended))
                return
            channel = self._add(stream, sends=not stream & 2, receives=True)
            self.on_stream(channel)
        channel.came(data, ended)
        self._touched.add(channel)

    def stream_reset(self, stream: int, code: int) -> None:
        channel = self._streams.get(stream)
        if channel is not None:
            channel.reset(code)
            self._touched.add(channel)

    def stream_refused(self, stream: int, code: int) -> None:
        """The peer takes no more (STOP_SENDING); the library resets our side by itself."""
        channel = self._streams.get(stream)
        if channel is not None:
            channel.refused(code)
            self._touched.add(channel)

    def datagram(self, data: bytes) -> None:
        if self._datagrams is not None:
            self._datagrams.came(data)
            self._touched.add(self._datagrams)

    def identified(self, identifier: bytes) -> None:
        self._carrier.identified(self, identifier)

    def retired(self, identifier: bytes) -> None:
        self._carrier.retired(identifier)

    def closed(self, error: Exception) -> None:
        if self.error is not None:
            return
        self.flush()  # the last word, such as an alert, still leaves
        self.error = error
        for timer in (self._timer, self._keep_alive, self._soon):
            if timer is not None:
                timer.cancel()
        for channel in [*self._streams.values(), *((self._datagrams,) if self._datagrams is not None else ())]:
            channel.end_with(error)
        for arrival in self._waiting:
            arrival.fire_soon()
        self._carrier.ended(self)
        if self.on_over is not None:
            self.on_over()

    @property
    def peer_name(self) -> str:
        return self._link.host or "client"

    def _hand_out(self) -> None:
        unborn, self._unborn = self._unborn, []
        for stream, data, ended in unborn:
            self.stream_data(stream, data, ended)

    def _add(self, stream: int, *, sends: bool, receives: bool) -> QuicStreamChannel:
        made = QuicStreamChannel(self, self.parameters, self._link, stream, sends=sends, receives=receives)
        self._streams[stream] = made
        return made

    def _settle(self) -> None:
        self.flush()
        if self.engine.details is not None or self.error is not None:
            waiting, self._waiting = self._waiting, []
            for arrival in waiting:
                arrival.fire_soon()
        touched, self._touched = self._touched, set()
        for channel in touched:
            channel.settle()
        for other in list(self._streams.values()):
            other.progress()
        if self._datagrams is not None:
            self._datagrams.progress()
        self._keep_alive_again()

    def _set_timer(self) -> None:
        due = self.engine.next_wakeup if self.error is None else None
        if self._timer is not None:
            if due is not None and self._timer.when() == due:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(due, self._wake) if due is not None else None

    def _wake(self) -> None:
        self._timer = None
        if self.error is None:
            self.engine.wake()
            self._settle()

    def _keep_alive_again(self) -> None:
        if self._options.keep_alive is None or self.error is not None or self.engine.details is None:
            return
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._keep_alive = self.loop.call_later(self._options.keep_alive, self._ping)

    def _ping(self) -> None:
        self._keep_alive = None
        if self.error is None:
            self.engine.ping()
            self.flush()
            self._keep_alive_again()
