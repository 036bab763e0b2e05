"""A connection: says where to and how, waits while there is no path, and carries bytes or messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from towpath.connection.arrival import Arrival
from towpath.connection.channel import Channel
from towpath.connection.context import DEFAULT_CONTEXT, MessageContext
from towpath.connection.endpoint import AddressEndpoint, Endpoint, UnixEndpoint
from towpath.connection.establishment import Establishment
from towpath.connection.events import BetterPath, ConnectionEvent, PathChanged, StateChanged, ViabilityChanged
from towpath.connection.lifetime import Lifetime
from towpath.connection.measurement import Measurement
from towpath.connection.parameters import Parameters
from towpath.connection.report import EstablishmentReport
from towpath.connection.states import Lifecycle, State
from towpath.connection.supervision import LivenessWatch, watch_path
from towpath.connection.turns import Turns
from towpath.errors import Cancelled, EndOfStream, Misuse
from towpath.kernel.network import Network
from towpath.path.monitor import PathMonitor
from towpath.path.path import Path
from towpath.protocols.layer import Layer
from towpath.protocols.message import Message

if TYPE_CHECKING:
    from towpath.connection.quic_link import QuicLink

__all__ = ["Connection"]

_Metadata = TypeVar("_Metadata")
_MAX_WHOLE = 1 << 24
"""Bytes of a message that `receive_message` puts together by itself."""


class Connection(Lifetime):
    """A byte stream or a sequence of messages with one peer. ::

        async with Connection("news.example:443", Parameters.tls(framers=[Lines()])) as connection:
            await connection.send(b"hello")
            async for message in connection:
                print(message.content)

    It is made once: after it failed or was cancelled, another one is needed. It must be cancelled in the end, which
    `async with` does.
    """

    def __init__(self, endpoint: Endpoint | str, parameters: Parameters, *, network: Network | None = None) -> None:
        """Connects to nothing yet. `network` replaces the system's view of paths, for tests."""
        self.endpoint = Endpoint.parse(endpoint) if isinstance(endpoint, str) else endpoint
        self.parameters = parameters = parameters.toward(self.endpoint)
        self._network = network
        self._life = Lifecycle()
        self._establishment = Establishment(self.endpoint, parameters, network)
        self._channel: Channel | None = None
        self._turns: Turns | None = None
        self._whole: Measurement | None = None
        self._liveness: LivenessWatch | None = None
        self._task: asyncio.Task[None] | None = None
        self._path_task: asyncio.Task[None] | None = None
        self._observers: list[Callable[[ConnectionEvent], None]] = []
        self._waiting: list[Arrival] = []
        self._teardown: asyncio.TimerHandle | None = None
        self._ending = False

    @classmethod
    def accepted(cls, channel: Channel, remote: Endpoint, parameters: Parameters) -> Connection:
        """A connection that a listener took, not started: its channel is connected, its layers are not up."""
        made = cls(remote, parameters)
        made._establishment.accepted = channel
        return made

    @classmethod
    def of_group(
        cls, endpoint: Endpoint | str, parameters: Parameters, *, network: Network | None = None
    ) -> Connection:
        """A connection that carries the datagrams of a `ConnectionGroup`, and lives as long as that."""
        made = cls(endpoint, parameters, network=network)
        made._establishment.as_group = True
        return made

    @property
    def quic_link(self) -> QuicLink | None:
        """What it shares with the others of its group; `None` before ready, and where it is not QUIC."""
        from towpath.connection.quic_channel import QuicChannel

        return self._channel.link if isinstance(self._channel, QuicChannel) else None

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def error(self) -> Exception | None:
        """Why it is waiting or has failed; also of one that failed before it was cancelled."""
        return self._life.error

    @property
    def report(self) -> EstablishmentReport:
        """How it came to be, as far as is known now."""
        return self._establishment.report

    @property
    def local(self) -> AddressEndpoint | UnixEndpoint | None:
        """This side's address once it is connected."""
        return self._establishment.local

    @property
    def remote(self) -> AddressEndpoint | UnixEndpoint | None:
        """The peer's address that was chosen."""
        return self._establishment.remote

    @property
    def path(self) -> Path:
        """What it uses, or would use now; to a peer on a Unix socket, the default path. Raises `HostFault`."""
        remote = self.remote
        destination = remote.address if isinstance(remote, AddressEndpoint) else None
        return PathMonitor(self.parameters.path, destination=destination, network=self._network).current()

    @property
    def maximum_datagram_size(self) -> int | None:
        """The largest content of a datagram that leaves in one packet; `None` for streams, and where unknown."""
        return self._establishment.datagram_size

    def about(self, protocol: type[Layer[_Metadata]]) -> _Metadata | None:
        """What a layer says about the connection, such as `TlsDetails`; `None` before ready."""
        stack = self._channel.stack if self._channel is not None else None
        return stack.about(protocol) if stack is not None else None

    def observe(self, observer: Callable[[ConnectionEvent], None]) -> None:
        """Has `observer` called with every event from now on; events of the path come once it is ready."""
        self._observers.append(observer)
        self._begin_to_watch()

    def start(self) -> None:
        """Begins to connect. Misuse when it was started before; needs a running event loop."""
        loop = asyncio.get_running_loop()
        self._move(State.PREPARING)
        self._task = loop.create_task(self._establish())

    def restart(self) -> None:
        """Tries again at once if it is waiting; nothing in any other state."""
        if self.state is State.WAITING:
            self._establishment.try_again()

    async def ready(self) -> None:
        """Returns when it is ready, and starts it before that if nobody has.

        Waits as long as there is no path: put `asyncio.timeout` around it for a limit. Raises `ConnectionFailed`,
        `TrustRefused`, `PeerViolation` and what else a protocol fails with; `Cancelled`.
        """
        if self.state is State.SETUP:
            self.start()
        while self.state in (State.PREPARING, State.WAITING):
            await self._change()
        if self.state is not State.READY:
            raise self._why_not()

    async def closed(self) -> None:
        """Returns when it is cancelled, and nothing of it is left."""
        while self.state is not State.CANCELLED:
            await self._change()

    def cancel(self) -> None:
        """Ends it in order: what was sent goes out, protocols say goodbye; `Parameters.teardown` limits how long.

        Whoever waits for this connection gets `Cancelled`.
        """
        if not self._end():
            return
        channel = self._channel
        if channel is None or self.state is State.FAILED:
            self._cut()
            return
        channel.on_closed = self._finish
        self._teardown = channel.loop.call_later(self.parameters.teardown, channel.abort)
        channel.stop()

    def force_cancel(self) -> None:
        """Ends it at once, with a reset where the transport has one."""
        self._end()
        if self.state is not State.CANCELLED:
            self._cut()

    async def send(
        self, content: bytes | Message = b"", *, context: MessageContext = DEFAULT_CONTEXT, complete: bool = True
    ) -> None:
        """Returns when the stack took the message, or its part: that says nothing about the peer.

        Waits until it is ready, and while too much waits to be sent; of those that wait, the highest priority goes
        first. An idempotent message returns at once, and goes as soon as it can. A final message without content only
        ends this side. Raises what ended the connection, `TimedOut` when the message expired, `Misuse` when it cannot
        be sent.
        """
        turns, channel = self._turns, self._channel
        if (
            context is DEFAULT_CONTEXT
            and turns is not None
            and turns.idle
            and channel is not None
            and not channel.congested
        ):
            # Most sends are as plain as this, and need no turn.
            message = content if isinstance(content, Message) else Message(content, complete)
            channel.top(message)
            channel.messages_sent += 1
            if not message.complete:
                turns.note(context, complete=False)
            return
        if turns is None and context.idempotent and self.state in (State.SETUP, State.PREPARING, State.WAITING):
            self._send_early(content if isinstance(content, Message) else Message(content, complete))
            return
        if turns is None or not turns.free(context):
            await self.ready()
            turns = self._turns
            if turns is None:
                raise self._why_not()
            if not turns.free(context):
                await turns.wait(context)
        channel = self._channel
        if channel is None:
            raise self._why_not()
        message = content if isinstance(content, Message) else Message(content, complete)
        complete = message.complete
        try:
            if message.content or message.metadata or not context.final:
                channel.send(message)
        except BaseException:
            turns.note_failed(context)
            raise
        turns.note(context, complete=complete)
        if complete and context.final:
            channel.send_end()

    def receive(self, minimum: int = 1, maximum: int = 1 << 16) -> Coroutine[Any, Any, bytes]:
        """From `minimum` to `maximum` bytes of the stream, or of what is left of one message.

        Raises `EndOfStream` (with `partial`) when the peer ends before, and what ended the connection.
        """
        channel = self._channel
        return channel.inbox.receive(minimum, maximum) if channel is not None else self._receive(minimum, maximum)

    def receive_message(self) -> Coroutine[Any, Any, Message]:
        """The next whole message; of a byte stream all of it, up to its end. Raises as `receive` does."""
        channel = self._channel
        return channel.inbox.receive_message(_MAX_WHOLE) if channel is not None else self._receive_message()

    async def __aiter__(self) -> AsyncGenerator[Message, None]:
        """Messages until the peer ends; of a byte stream, its pieces (``complete=False``)."""
        channel = self._channel or await self._ready_channel()
        try:
            while True:
                if channel.receive_is_stream:
                    yield Message(await channel.inbox.receive(), False)
                else:
                    yield await channel.inbox.receive_message(_MAX_WHOLE)
        except EndOfStream:
            return

    @contextmanager
    def batch(self) -> Iterator[None]:
        """What is sent inside goes out together at the end, in as few system calls as can be."""
        channel = self._channel
        if channel is None:
            raise Misuse("a batch needs a connection that is ready")
        channel.cork()
        try:
            yield
        finally:
            channel.uncork()

    def measure(self) -> Measurement:
        """Begins to measure what goes through; `collect` gives the report, also once it has ended."""
        if self._channel is None:
            raise Misuse("there is nothing to be measured before the connection is ready")
        return Measurement(self._channel)

    @property
    def transferred(self) -> Measurement | None:
        """The measurement of everything since ready, `None` before."""
        return self._whole

    def __repr__(self) -> str:
        return f"<Connection {self.endpoint} {self.state}>"

    async def _establish(self) -> None:
        def waits(error: Exception) -> None:
            self._move(State.WAITING, error)

        def tries() -> None:
            if self.state is State.WAITING:
                self._move(State.PREPARING)

        try:
            channel = await self._establishment.run(waits, tries)
        except Exception as error:
            self._fail(error)
            return
        self._channel = channel
        if not channel.messages_sent:
            for message in self._establishment.early:
                channel.send(message)
        self._turns = Turns(channel.loop, lambda: not channel.congested)
        channel.on_room = self._turns.admit
        channel.on_lost = self._fail
        self._whole = Measurement(channel)
        if self.parameters.liveness is not None:
            self._liveness = LivenessWatch(channel, self.parameters.liveness, str(self.endpoint))
            self._liveness.start()
        self._move(State.READY)
        self._begin_to_watch()
        if channel.error is not None:
            self._fail(channel.error)

    def _send_early(self, message: Message) -> None:
        if not message.complete:
            raise Misuse("an idempotent message is sent whole: it may be sent again")
        self._establishment.early.append(message)
        if self.state is State.SETUP:
            self.start()

    def _begin_to_watch(self) -> None:
        remote = self.remote
        if not self._observers or self._path_task or self.state is not State.READY:
            return
        if isinstance(remote, AddressEndpoint) and not remote.address.is_loopback:
            watch = watch_path(remote, self.parameters.path, self._network, self._tell)
            self._path_task = asyncio.get_running_loop().create_task(watch)

    def _fail(self, error: Exception) -> None:
        if self._ending and self._channel is not None:
            # A layer waits for a goodbye that cannot come any more.
            self._channel.loop.call_soon(self._channel.close)
        if self._ending or self.state in (State.FAILED, State.CANCELLED):
            return
        if self._turns is not None:
            self._turns.end(error)
        self._stop_watching()
        if self._channel is not None:
            # The socket goes at once, what has come can still be received.
            self._channel.loop.call_soon(self._channel.close)
        self._move(State.FAILED, error)

    def _end(self) -> bool:
        """What every cancel begins with; False when it was done before, or there is nothing to end."""
        if self._ending:
            return False
        self._ending = True
        if self.state is State.SETUP:
            if self._establishment.accepted is not None:
                self._establishment.accepted.close()
            self._move(State.CANCELLED)
            return False
        cancelled = Cancelled(f"{self.endpoint}: this side cancelled the connection")
        if self._turns is not None:
            self._turns.end(cancelled)
        if self._channel is not None:
            self._channel.inbox.end(cancelled)
            self._channel.inbox.wake_soon()
        self._stop_watching()
        return True

    def _cut(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._task.add_done_callback(lambda task: self._finish())
            return
        if self._channel is not None:
            self._channel.on_closed = None
            self._channel.abort()
        self._finish()

    def _finish(self) -> None:
        if self._teardown is not None:
            self._teardown.cancel()
        if self.state is not State.CANCELLED:
            self._move(State.CANCELLED)

    def _stop_watching(self) -> None:
        if self._whole is not None:
            self._whole.freeze()
        if self._liveness is not None:
            self._liveness.stop()
        if self._path_task is not None:
            self._path_task.cancel()

    def _move(self, state: State, error: Exception | None = None) -> None:
        self._life.move(state, error)
        for arrival in self._waiting:
            arrival.fire_soon()
        self._waiting.clear()
        if self._observers:
            self._tell(StateChanged(state, error))

    def _tell(self, event: StateChanged | PathChanged | ViabilityChanged | BetterPath) -> None:
        for observer in self._observers:
            observer(event)

    async def _change(self) -> None:
        arrival = Arrival(asyncio.get_running_loop())
        self._waiting.append(arrival)
        try:
            await arrival
        finally:
            if arrival in self._waiting:
                self._waiting.remove(arrival)

    async def _receive(self, minimum: int, maximum: int) -> bytes:
        return await (await self._ready_channel()).inbox.receive(minimum, maximum)

    async def _receive_message(self) -> Message:
        return await (await self._ready_channel()).inbox.receive_message(_MAX_WHOLE)

    async def _ready_channel(self) -> Channel:
        await self.ready()
        if self._channel is None:
            raise self._why_not()
        return self._channel

    def _why_not(self) -> Exception:
        if self._ending or self._life.error is None:
            return Cancelled(f"{self.endpoint}: this side cancelled the connection")
        return self._life.error
