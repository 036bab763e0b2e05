"""One socket and the layers on it, driven by the event loop: the only place where connections read and write."""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable

from towpath.connection.arrival import Arrival
from towpath.connection.inbox import Inbox
from towpath.connection.parameters import Parameters
from towpath.errors import Misuse
from towpath.kernel import system
from towpath.protocols.layer import Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Handshake, Stack

__all__ = ["Channel"]


class Channel(ABC):
    """Carries bytes between a connected socket, the layers and an `Inbox`; the outlet of its stack.

    It owns the socket. `on_lost` is called once if it ends with an error, `on_room` when there is room again for those
    that send.
    """

    received: Callable[[Message], None]

    def __init__(
        self, made: socket.socket, parameters: Parameters, link: Link, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.socket = made
        self.loop = loop
        self.parameters = parameters
        self.inbox = Inbox(loop, parameters.receive_limit, self._resume_reading)
        self.stack = Stack(parameters.layers, link, self) if parameters.layers else None
        self.receive_is_stream = self._is_stream()
        self.received = self.inbox.put_content if self.receive_is_stream else self.inbox.put_message
        self.is_ready = False
        self.congested = False
        """Whether so much waits for the socket that the program should wait, too."""
        self.top: Callable[[Message], None] = self.transmit if self.stack is None else self.stack.send_unguarded
        """Where messages go that the program sends."""
        self.error: Exception | None = None
        self.bytes_sent = 0
        self.bytes_received = 0
        self.messages_sent = 0
        self.last_heard = loop.time()
        self.on_lost: Callable[[Exception], None] | None = None
        self.on_room: Callable[[], None] | None = None
        self.on_closed: Callable[[], None] | None = None
        self._descriptor = made.fileno()
        self._corks = 0
        self._note_time = parameters.liveness is not None and parameters.liveness.ping
        self._reading = False
        self._input_over = False
        self._closing = False
        self._closed = False
        self._waiter: Arrival | None = None
        self._timer: asyncio.TimerHandle | None = None

    @abstractmethod
    def transmit(self, message: Message) -> None:
        """Sends bytes of a stream, or a datagram."""

    @abstractmethod
    def _read(self) -> None:
        """Takes what the socket has."""

    @abstractmethod
    def _flush(self) -> None:
        """Sends what was held back."""

    @property
    @abstractmethod
    def _has_pending(self) -> bool: ...

    def start(self) -> None:
        """Begins to read and starts the layers, the lowest first."""
        self._resume_reading()
        if self.stack is None:
            self.became_ready()
        else:
            self.stack.start()

    async def wait_ready(self) -> None:
        """Returns when every layer is ready; raises what it failed with."""
        if not self.is_ready and self.error is None:
            self._waiter = Arrival(self.loop)
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.error is not None:
            raise self.error

    def send(self, message: Message) -> None:
        """Gives one message, or a part of one, to the top of the stack, which must be ready."""
        self.top(message)
        self.messages_sent += message.complete

    def send_end(self) -> None:
        """This side sends no more."""
        if self.stack is None:
            self.transmit_end()
        else:
            self.stack.send_end()

    def cork(self) -> None:
        """Holds back what is sent, until `uncork` is called as often."""
        self._corks += 1

    def uncork(self) -> None:
        self._corks = max(0, self._corks - 1)  # a closing channel has let go of all of them
        if not self._corks and not self._closed and self._has_pending:
            self._flush()

    def stop(self) -> None:
        """Closes as the protocols want it, the highest first; ends in `close`."""
        if self.stack is None or not self.is_ready:
            self.stopped()
        else:
            self.stack.stop()

    def close(self) -> None:
        """Closes the socket at once."""
        if self._closed:
            return
        self._closed = True
        self.pause_reading()
        if self._timer is not None:
            self._timer.cancel()
        self._release()
        self.inbox.wake_soon()
        if self._waiter is not None:
            self._waiter.fire_soon()
        if self.on_closed is not None:
            self.on_closed()

    def abort(self) -> None:
        """Closes the socket with a reset, without a word of any protocol."""
        if not self._closed:
            if self.socket.type == socket.SOCK_STREAM:
                system.transports.reset_on_close(self.socket)
            self.close()

    def _release(self) -> None:
        """Lets go of the transport."""
        self.loop.remove_writer(self._descriptor)
        self.socket.close()

    @property
    def names(self) -> tuple[object, object]:
        """This side's and the peer's socket address. Raises `OSError` once the peer has left."""
        return self.socket.getsockname(), self.socket.getpeername()

    @property
    def handshakes(self) -> tuple[Handshake, ...]:
        """Those that are over, of the transport and of the layers."""
        return tuple(self.stack.handshakes) if self.stack is not None else ()

    @property
    def datagram_size(self) -> int | None:
        """The largest datagram that leaves in one packet; `None` for streams, and where unknown."""
        if self.socket.type != socket.SOCK_DGRAM or self.socket.fileno() < 0:
            return None
        return system.transports.datagram_size(self.socket)

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_reading(self) -> bool:
        """False while the program does not take what has come, and after the peer's end."""
        return self._reading

    def pause_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self._descriptor)

    def lose(self, error: Exception) -> None:
        """The connection is over, for this reason."""
        if self.error is not None or self._closed:
            return
        self.error = error
        self.inbox.end(error)
        self.pause_reading()
        self.inbox.wake_soon()
        if self._waiter is not None:
            self._waiter.fire_soon()
        if self.on_lost is not None:
            self.on_lost(error)
        else:
            self.loop.call_soon(self.close)

    @abstractmethod
    def transmit_end(self) -> None:
        """Tells the peer that no more is sent, where the transport can."""

    def received_end(self) -> None:
        self.inbox.end()

    def became_ready(self) -> None:
        self.is_ready = True

    def stopped(self) -> None:
        self._closing = True
        self._corks = 0
        self._flush()
        if not self._has_pending:
            self.close()

    def failed(self, error: Exception) -> None:
        self._corks = 0
        self._flush()  # the protocol's last word, such as an alert, is still sent
        self.lose(error)

    def wakeup_changed(self) -> None:
        due = self.stack.next_wakeup if self.stack is not None else None
        if self._timer is not None:
            if due is not None and self._timer.when() <= due:
                return  # it asks again when it fires: most wake-ups are put off over and over
            self._timer.cancel()
        self._timer = None if due is None or self._closed else self.loop.call_at(due, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self.stack is not None and not self._closed:
            self.stack.wake()
            self._settle()

    def _settle(self) -> None:
        """Resumes who waits for what has just happened. Only from a callback of the loop."""
        if self._waiter is not None and (self.is_ready or self.error is not None):
            self._waiter.fire()
        self.inbox.wake()

    def _readable(self) -> None:
        self._read()
        if self.inbox.full:
            self.pause_reading()
        if self._note_time:
            self.last_heard = self.loop.time()
        if self._waiter is not None and (self.is_ready or self.error is not None):
            self._waiter.fire()
        # The task that is resumed here may answer many messages that came together: its answers go together as well.
        self._corks += 1
        self.inbox.wake()
        self.uncork()

    def _writable(self) -> None:
        self._flush()
        if not self._has_pending:
            self.loop.remove_writer(self._descriptor)
            if self._closing:
                self.close()
        if self.on_room is not None and not self.congested:
            self.on_room()

    def _resume_reading(self) -> None:
        if not (self._reading or self._input_over or self._closed or self.error or self.inbox.full):
            self._reading = True
            self.loop.add_reader(self._descriptor, self._readable)

    def _is_stream(self) -> bool:
        if self.socket.type == socket.SOCK_STREAM:
            stream = True
        elif self.socket.type == socket.SOCK_DGRAM:
            stream = False
        else:
            raise Misuse(f"no channel for sockets of {self.socket.type!r}")
        for layer in self.parameters.layers:
            if layer.makes_messages is not None:
                stream = not layer.makes_messages
        return stream
