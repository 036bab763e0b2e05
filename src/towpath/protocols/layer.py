"""One protocol in a stack. It does no I/O: it is told what came, and says what goes up, down, or wrong.

A layer stands on a byte stream (pieces with ``complete=False``) or on another message protocol, of whose messages it
sees and sets the metadata. The hooks are called by the stack; the verbs are called by the layer, at any time.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from towpath.errors import Misuse, PeerViolation
from towpath.protocols.message import Message

if TYPE_CHECKING:
    from towpath.protocols.stack import Stack

__all__ = ["Layer", "Link"]

_Metadata = TypeVar("_Metadata")
_Other = TypeVar("_Other")
_MUTABLE = (bytearray, dict, list, set)


@dataclass(frozen=True, slots=True)
class Link:
    """What every layer of one connection may know: its side, whom it was meant for, and the clock in seconds."""

    clock: Callable[[], float]
    is_server: bool = False
    host: str | None = None
    """The host name or address that the peer should be."""
    url: str | None = None


class Layer(Generic[_Metadata]):
    """Base of every protocol; as it stands, all passes through.

    An instance in `Parameters` is a pattern: each connection, and each attempt of a race, works with a copy of it.
    `__init__` therefore takes settings only, and `start` makes what belongs to one connection. ::

        class Shout(Layer[None]):
            def output(self, message: Message) -> None:
                self.write(message.with_content(message.content.upper()))
    """

    link: Link
    deliver: Callable[[Message], None]
    """Upwards: what `input` made of what came. Only after the layer is ready."""
    write: Callable[[Message], None]
    """Downwards: what `output` made of what is sent, or a message of the layer's own."""
    _stack: Stack
    _place: int

    can_ping = False
    """Whether `ping` makes a living peer answer."""
    makes_messages: bool | None = None
    """Whether those above get messages (True) or a byte stream (False); `None`: what the layer below gives."""

    def start(self) -> bool:
        """The protocol below is ready. False withholds `ready` from those above until `mark_ready` is called."""
        return True

    def input(self, message: Message) -> None:
        """Something came from below."""
        self.deliver(message)

    def input_ended(self) -> None:
        """The peer sends no more. Before the layer is ready, that is a failure."""
        self.end_input()

    def output(self, message: Message) -> None:
        """The layer above, or the program, sends this."""
        self.write(message)

    def output_ended(self) -> None:
        """The layer above, or the program, sends no more."""
        self.end_output()

    def wakeup(self) -> None:
        """The time of `schedule_wakeup` has come."""

    def stop(self) -> bool:
        """The connection is being closed. False delays it until `mark_stopped` is called, or patience is over."""
        return True

    def ping(self) -> None:
        """Sends what a living peer answers, where `can_ping`."""

    def describe(self) -> _Metadata | None:
        """What the layer says about the connection as a whole, once it is ready."""
        return None

    def mark_ready(self) -> None:
        """Lets the layers above start. Misuse when the layer was ready before."""
        self._stack.layer_ready(self._place)

    def mark_stopped(self) -> None:
        """Ends the delay that `stop` asked for."""
        self._stack.layer_stopped(self._place)

    def fail(self, error: Exception) -> None:
        """Ends the connection with this error."""
        self._stack.fail(error)

    def end_input(self) -> None:
        """Upwards: nothing more will come."""
        self._stack.end_input_above(self._place)

    def end_output(self) -> None:
        """Downwards: nothing more will be sent."""
        self._stack.end_output_below(self._place)

    def schedule_wakeup(self, seconds: float | None) -> None:
        """Asks for `wakeup` in so many seconds; replaces an earlier wish, `None` withdraws it."""
        self._stack.schedule(self._place, seconds)

    def about(self, protocol: type[Layer[_Other]]) -> _Other | None:
        """What a lower protocol says about the connection as a whole (`describe`), or `None`."""
        return self._stack.about(protocol)

    def fresh(self) -> Layer[_Metadata]:
        """A copy for one connection. Raises `Misuse` for a pattern that would share state between two of them."""
        for name, value in vars(self).items():
            if isinstance(value, _MUTABLE):
                error = Misuse(f"{type(self).__name__}.{name} would be shared between connections")
                error.hint = "make it in start(), or use a tuple, frozenset or bytes for a setting"
                raise error
        return copy.copy(self)

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        """Called by the stack that takes the layer in."""
        self._stack, self._place, self.link = stack, place, link

    def refuse_early(self, message: Message) -> None:
        """What `deliver` is until the layer is ready."""
        raise PeerViolation("early-message", f"{type(self).__name__} got {len(message.content)} bytes before its time")


AnyLayer = Layer[Any]
