"""The layers of one connection joined: readiness from the bottom up, closing from the top down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from towpath.errors import ConnectionFailed, EndOfStream, Misuse, TowpathError
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message

__all__ = ["Handshake", "Outlet", "Stack"]

_Metadata = TypeVar("_Metadata")


class Outlet(Protocol):
    """Both ends of a stack: the transport at its foot, the program on its top."""

    @property
    def congested(self) -> bool:
        """So much waits for the transport that more should wait, too."""

    def transmit(self, message: Message) -> None:
        """The lowest layer sends."""

    def transmit_end(self) -> None:
        """The lowest layer sends no more."""

    def received(self, message: Message) -> None:
        """The top layer has a message for the program."""

    def received_end(self) -> None:
        """The program gets no more."""

    def became_ready(self) -> None:
        """Every layer is ready."""

    def stopped(self) -> None:
        """Every layer has said its last word."""

    def failed(self, error: Exception) -> None:
        """The connection has ended with an error; nothing is called after this."""

    def wakeup_changed(self) -> None:
        """`Stack.next_wakeup` may be another."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """How long one protocol took to be ready, in seconds, and what it says of itself."""

    protocol: str
    seconds: float
    about: object | None = None


class Stack:
    """Drives layers, the lowest first. Nothing happens by itself: its owner feeds it bytes, messages and time.

    A hook that raises ends the connection with that error.
    """

    def __init__(self, layers: Sequence[Layer[Any]], link: Link, outlet: Outlet) -> None:
        self.layers = tuple(layer.fresh() for layer in layers)
        self.link = link
        self.handshakes: list[Handshake] = []
        self._outlet = outlet
        self._ready = 0
        self._begun = 0.0
        self._running = -1
        self._over = False
        self._stopping: int | None = None
        self._wakeups: dict[int, float] = {}
        below = outlet.transmit
        for place, layer in enumerate(self.layers):
            layer.attach(self, place, link)
            layer.write = below
            layer.deliver = layer.refuse_early
            below = layer.output
        self.send_unguarded = below

    @property
    def is_ready(self) -> bool:
        return self._ready == len(self.layers) and not self._over

    @property
    def is_congested(self) -> bool:
        """The transport takes no more for now: what a layer sends by itself should wait."""
        return self._outlet.congested

    @property
    def next_wakeup(self) -> float | None:
        """When `wake` is to be called, on the link's clock."""
        return min(self._wakeups.values()) if self._wakeups and not self._over else None

    def start(self) -> None:
        """The transport is connected."""
        try:
            self._go_on()
        except Exception as error:
            self.fail(error)

    def receive(self, message: Message) -> None:
        """The transport has bytes, or a datagram. Needs a layer."""
        if self._over:
            return
        try:
            self.layers[0].input(message)
        except Exception as error:
            self.fail(error)

    def receive_end(self) -> None:
        """The transport's peer sends no more."""
        if not self._over:
            self.end_input_above(-1)

    def send(self, message: Message) -> None:
        """The program sends. Raises what the layers say against it; the connection lives on."""
        if not self.is_ready:
            raise Misuse("the stack is not ready")
        self.send_unguarded(message)

    def send_end(self) -> None:
        """The program sends no more."""
        if not self._over:
            self.end_output_below(len(self.layers))

    def stop(self) -> None:
        """Closes from the top down; `Outlet.stopped` is called at the end, perhaps before this returns."""
        if self._over or self._stopping is not None:
            return
        self._stopping = len(self.layers)
        self._stop_next()

    def wake(self) -> None:
        """Calls the layers whose time has come."""
        now = self.link.clock()
        for place in sorted(place for place, due in self._wakeups.items() if due <= now):
            if self._over or self._wakeups.pop(place, None) is None:
                continue
            try:
                self.layers[place].wakeup()
            except Exception as error:
                self.fail(error)
        self._outlet.wakeup_changed()

    def ping(self) -> None:
        """Lets the highest layer that can, make the peer answer. Misuse when there is none."""
        for layer in reversed(self.layers):
            if layer.can_ping:
                try:
                    layer.ping()
                except Exception as error:
                    self.fail(error)
                return
        raise Misuse("no layer of this stack can ping")

    def about(self, protocol: type[Layer[_Metadata]]) -> _Metadata | None:
        """What a layer says about the connection; `None` when it is not here, or not ready."""
        for layer in self.layers[: self._ready]:
            if isinstance(layer, protocol):
                return layer.describe()
        return None

    def fail(self, error: Exception) -> None:
        """Ends the connection; an error that is not of Towpath or the system is wrapped, with its cause kept."""
        if self._over:
            return
        self._over = True
        self._wakeups.clear()
        for layer in self.layers:
            layer.deliver = _drop
        if not isinstance(error, (TowpathError, OSError)):
            wrapped = ConnectionFailed(self.link.host or "connection", f"a protocol broke: {error!r}")
            wrapped.__cause__ = error
            error = wrapped
        self._outlet.failed(error)

    def layer_ready(self, place: int) -> None:
        if place != self._running:
            raise Misuse(f"{type(self.layers[place]).__name__} is not starting")
        self._note_ready()
        self._go_on()

    def layer_stopped(self, place: int) -> None:
        if self._stopping == place:
            self._stop_next()

    def end_input_above(self, place: int) -> None:
        if place + 1 >= len(self.layers):
            self._outlet.received_end()
            return
        if place + 1 > self._ready:
            return
        try:
            if place + 1 == self._ready:
                # The layer was told to start and is not ready: the peer has left in the middle of its handshake.
                raise EndOfStream
            self.layers[place + 1].input_ended()
        except Exception as error:
            self.fail(error)

    def end_output_below(self, place: int) -> None:
        if place <= 0:
            self._outlet.transmit_end()
            return
        try:
            self.layers[place - 1].output_ended()
        except Exception as error:
            self.fail(error)

    def schedule(self, place: int, seconds: float | None) -> None:
        if seconds is None:
            self._wakeups.pop(place, None)
        elif not self._over:
            self._wakeups[place] = self.link.clock() + max(0.0, seconds)
        self._outlet.wakeup_changed()

    def _go_on(self) -> None:
        while self._ready < len(self.layers):
            layer = self.layers[self._ready]
            self._running = self._ready
            self._begun = self.link.clock()
            if not layer.start():
                return
            if self._running != layer._place:
                return  # it marked itself ready inside start, and all above has been started from there
            self._note_ready(instant=True)
        self._running = -1
        if not self._over:
            self._outlet.became_ready()

    def _note_ready(self, *, instant: bool = False) -> None:
        layer = self.layers[self._ready]
        if not instant:
            took = self.link.clock() - self._begun
            self.handshakes.append(Handshake(type(layer).__name__, took, layer.describe()))
        self._ready += 1
        above = self._ready
        layer.deliver = self.layers[above].input if above < len(self.layers) else self._outlet.received

    def _stop_next(self) -> None:
        while self._stopping is not None and self._stopping > 0:
            self._stopping -= 1
            place = self._stopping
            # What it still hands up belongs to nobody; what comes to it may be the word that it waits for.
            self.layers[place].deliver = _drop
            if place > self._ready or (place == self._ready and self._running != place):
                continue
            try:
                if not self.layers[place].stop():
                    return
            except Exception as error:
                self.fail(error)
                return
        if not self._over:
            self._over = True
            self._wakeups.clear()
            self._outlet.stopped()


def _drop(message: Message) -> None:
    """Where messages for a layer that has stopped or failed go."""
