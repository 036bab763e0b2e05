"""WebSocket (RFC 6455) as a message protocol: text, binary, ping, pong and close, each message with its metadata.

It stands on `WebSocketOpening`, which agrees with the peer over HTTP; `Parameters.websocket` makes the stack of both.
Alone on a byte stream it speaks frames at once, without an opening handshake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from towpath.errors import Misuse, PeerViolation
from towpath.protocols.framer import MAX_MESSAGE
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack
from towpath.protocols.websocket_close import CloseCode, WebSocketClosed, close_payload, code_for, parse_close
from towpath.protocols.websocket_deflate import Deflater, Inflater
from towpath.protocols.websocket_fragments import Cutter, Joiner, check_sent_text, check_text
from towpath.protocols.websocket_frames import FIN, OPCODE, RSV1, FrameReader, Opcode, frame
from towpath.protocols.websocket_opening import WebSocketOpening

__all__ = ["WebSocket", "WebSocketFramer", "WebSocketMetadata"]

_Metadata = TypeVar("_Metadata")
_MAX_OWED = 16
"""Pings that are answered at once."""
_MAX_HELD = 64
"""Control frames that may come inside one message whose parts are handed up."""
_PONG_LATER = 0.05
"""Seconds until a pong is tried again for which there was no room."""


@dataclass(frozen=True, slots=True)
class WebSocketMetadata:
    """What a message is. `code` and `reason` are those of a close; the code is 1005 where the peer gave none."""

    opcode: Opcode
    code: int | None = None
    reason: str = ""


class WebSocket(Layer[WebSocketMetadata]):
    """Messages of WebSocket. ::

        async with Connection("wss://news.example/feed", Parameters.websocket()) as connection:
            await connection.send(WebSocket.text("hello"))
            async for message in connection:
                print(WebSocket.opcode(message), message.content)

    A message keeps its opcode when it is sent on. A graceful cancel, or a final message, sends close 1000; a peer's
    normal end is an ordinary `EndOfStream`, any other raises `WebSocketClosed`. `connection.about(WebSocket)` is the
    peer's close, once it has come.
    """

    can_ping = True
    makes_messages = True

    def __init__(
        self,
        *,
        opcode: Opcode = Opcode.BINARY,
        maximum: int = MAX_MESSAGE,
        partial: bool = False,
        auto_reply_ping: bool = True,
        control: bool = False,
        close_patience: float = 2.0,
    ) -> None:
        """All have defaults.

        `opcode` is what a message without metadata is sent as. `maximum` is the most bytes of a received message, also
        inflated; more ends the connection with 1009. With `partial`, fragments are handed up as they come
        (``complete=False``). Pings are answered unless `auto_reply_ping` is false. With `control`, the program gets
        ping, pong and close as messages, too, between whole messages. `close_patience` is how many seconds a graceful
        cancel waits for the peer's close.
        """
        if opcode.is_control:
            raise Misuse(f"messages of a program are text or binary: {opcode.name} is neither")
        if maximum < 1:
            raise Misuse(f"a message of at most {maximum} bytes is none")
        self.default_opcode = opcode
        self.maximum = maximum
        self.partial = partial
        self.auto_reply_ping = auto_reply_ping
        self.control = control
        self.close_patience = close_patience

    @staticmethod
    def text(content: str, *, complete: bool = True) -> Message:
        """A text message."""
        return Message(content.encode(), complete, _TEXT)

    @staticmethod
    def binary(content: bytes, *, complete: bool = True) -> Message:
        """A binary message."""
        return Message(content, complete, _BINARY)

    @staticmethod
    def ping_message(content: bytes = b"") -> Message:
        """A ping of up to 125 bytes, for a layer or program that waits for the pong with the same content."""
        return Message(content, True, _METADATA[Opcode.PING])

    @staticmethod
    def close(code: int = CloseCode.NORMAL, reason: str = "") -> Message:
        """A close: the last message of this side, after which the peer closes, too. Raises `Misuse`."""
        close_payload(code, reason)
        return Message(b"", True, {WebSocket: WebSocketMetadata(Opcode.CLOSE, code, reason)})

    @staticmethod
    def opcode(message: Message) -> Opcode:
        """What a received message is. Raises `Misuse` for one that did not come through WebSocket."""
        found = message.get(WebSocket)
        if found is None:
            raise Misuse("this message did not come through WebSocket")
        return found.opcode

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._reader = FrameReader(self._frame, masked=link.is_server, room=self.maximum)
        self._masks = not link.is_server
        above = stack.layers[place + 1 : place + 2]
        self._shows_control = self.control or (bool(above) and isinstance(above[0], WebSocketFramer))
        self._joiner = Joiner(self.maximum, None, partial=self.partial)
        self._cutter = Cutter(None)
        self._compresses = False
        self._held: list[Message] = []
        self._owed: deque[bytes] = deque(maxlen=_MAX_OWED)
        self._closed: WebSocketMetadata | None = None
        self._close_sent = False
        self._stop_by: float | None = None

    def start(self) -> bool:
        agreed = self.about(WebSocketOpening)
        if agreed is not None and agreed.deflate is not None:
            self._joiner = Joiner(self.maximum, Inflater(agreed.deflate), partial=self.partial)
            self._cutter = Cutter(Deflater(agreed.deflate))
            self._compresses = True
            self._reader.allowed_bits = RSV1
        return True

    def describe(self) -> WebSocketMetadata | None:
        return self._closed

    def input(self, message: Message) -> None:
        if self._closed is not None:
            return  # RFC 6455 section 5.5.1: nothing after a close counts
        try:
            self._reader.feed(message.content)
        except PeerViolation as violation:
            if self._closed is not None:
                return
            self._say_close(code_for(violation), violation.fault)
            raise
        except Exception:
            self._say_close(CloseCode.INTERNAL_ERROR)
            raise
        if self._owed:
            self._pay()

    def input_ended(self) -> None:
        if self._stop_by is not None:
            self.mark_stopped()
        elif self._closed is None:
            raise WebSocketClosed(self._endpoint, CloseCode.ABNORMAL)

    def output(self, message: Message) -> None:
        if self._closed is not None:
            raise WebSocketClosed(self._endpoint, self._closed.code or CloseCode.NO_STATUS, self._closed.reason)
        if self._close_sent:
            raise Misuse("nothing is sent after a close")
        metadata = message._metadata
        found = metadata.get(WebSocket) if metadata is not None else None
        opcode = found.opcode if isinstance(found, WebSocketMetadata) else self._cutter.opcode or self.default_opcode
        if opcode >= Opcode.CLOSE:
            self._output_control(opcode, found, message)
            return
        first, content = FIN | opcode, message.content
        if self._compresses or not message.complete or self._cutter.opcode is not None:
            first, content = self._cutter.cut(opcode, content, message.complete)
        elif opcode == Opcode.TEXT:
            check_sent_text(content)
        self.write(Message(frame(first, content, mask=self._masks), False))

    def output_ended(self) -> None:
        # WebSocket has no half of a close: the stream below stays open for the peer's last words.
        self._say_close(CloseCode.NORMAL)

    def wakeup(self) -> None:
        if self._stop_by is not None and self.link.clock() >= self._stop_by:
            self.mark_stopped()
        elif self._owed:
            self._pay()

    def stop(self) -> bool:
        self._say_close(CloseCode.NORMAL)
        if self._closed is not None:
            return True
        self._stop_by = self.link.clock() + self.close_patience
        self.schedule_wakeup(self.close_patience)
        return False

    def ping(self) -> None:
        self._control(Opcode.PING, b"")

    @property
    def _endpoint(self) -> str:
        return self.link.url or self.link.host or "WebSocket"

    def _frame(self, first: int, payload: bytes) -> None:
        """One frame has come."""
        if self._closed is not None:
            return
        opcode = first & OPCODE
        if opcode >= Opcode.CLOSE:
            self._control_came(Opcode(opcode), payload)
        elif first & ~OPCODE == FIN and opcode and self._joiner.opcode is None:
            # A whole message without compression: nearly all are.
            if opcode == Opcode.TEXT:
                check_text(payload)
                self.deliver(Message(payload, True, _TEXT))
            else:
                self.deliver(Message(payload, True, _BINARY))
        else:
            self._part_came(first, payload)

    def _part_came(self, first: int, payload: bytes) -> None:
        found = self._joiner.join(first, payload)
        self._reader.room = self._joiner.room
        if found is None:
            return
        opcode, content, complete = found
        self.deliver(Message(content, complete, _METADATA[opcode]))
        if complete and self._held:
            held, self._held = self._held, []
            for message in held:
                self.deliver(message)

    def _control_came(self, opcode: Opcode, payload: bytes) -> None:
        if opcode is Opcode.CLOSE:
            self._close_came(payload)
            return
        if opcode is Opcode.PING and self.auto_reply_ping:
            self._owed.append(payload)
        if self._shows_control:
            self._show(Message(payload, True, _METADATA[opcode]))

    def _show(self, message: Message) -> None:
        if self.partial and self._joiner.opcode is not None:
            # Whoever joins the parts of a message would take it for one of them.
            if len(self._held) >= _MAX_HELD:
                raise PeerViolation("websocket-control", f"more than {_MAX_HELD} control frames inside one message")
            self._held.append(message)
        else:
            self.deliver(message)

    def _close_came(self, payload: bytes) -> None:
        code, reason = parse_close(payload)
        metadata = WebSocketMetadata(Opcode.CLOSE, code, reason)
        if self._shows_control:
            self.deliver(Message(b"", True, {WebSocket: metadata}))
        is_answer = self._close_sent
        self._say_close(code)
        self._closed = metadata
        if self._stop_by is not None:
            self.mark_stopped()
        elif is_answer or code in (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_STATUS):
            self.end_input()
            if self.link.is_server:
                self.end_output()  # RFC 6455 section 7.1.1: the server closes first
        else:
            raise WebSocketClosed(self._endpoint, code, reason)

    def _output_control(self, opcode: Opcode, found: object, message: Message) -> None:
        if not message.complete:
            raise Misuse(f"a {opcode.name.lower()} is sent as a whole")
        if opcode is not Opcode.CLOSE:
            self._control(opcode, message.content)
        elif isinstance(found, WebSocketMetadata):
            self._say_close(CloseCode.NO_STATUS if found.code is None else found.code, found.reason)

    def _control(self, opcode: Opcode, payload: bytes) -> None:
        if len(payload) > 125:
            raise Misuse(f"a {opcode.name.lower()} of {len(payload)} bytes, where 125 fit")
        self.write(Message(frame(FIN | opcode, payload, mask=self._masks), False))

    def _pay(self) -> None:
        """Answers pings, the last ones of a flood: RFC 6455 section 5.5.3 lets earlier ones go."""
        if self._close_sent:
            self._owed.clear()
        elif not self._stack.is_congested:
            pongs = b"".join(frame(FIN | Opcode.PONG, payload, mask=self._masks) for payload in self._owed)
            self._owed.clear()
            self.write(Message(pongs, False))
        elif self._stop_by is None:
            # The peer sends pings and reads no pongs: no more is kept for it.
            self.schedule_wakeup(_PONG_LATER)

    def _say_close(self, code: int, reason: str = "") -> None:
        if not self._close_sent:
            payload = close_payload(code, reason)
            self._close_sent = True
            self._control(Opcode.CLOSE, payload)


class WebSocketFramer(Layer[_Metadata]):
    """Base of a layer directly above `WebSocket` that also sees pings, pongs and closes.

    It sees the opcode of each message and sets that of what it writes; layers above it get data only. ::

        class Count(WebSocketFramer[None]):
            def input_control(self, message: Message) -> None:
                print(WebSocket.opcode(message), message.content)
    """

    def input(self, message: Message) -> None:
        if WebSocket.opcode(message).is_control:
            self.input_control(message)
        else:
            self.input_data(message)

    def input_data(self, message: Message) -> None:
        """A text or binary message came; as it stands, it goes up."""
        self.deliver(message)

    def input_control(self, message: Message) -> None:
        """A ping (answered already), a pong or a close came; as it stands, nothing is made of it."""


_METADATA: dict[Opcode, Mapping[type, object]] = {one: {WebSocket: WebSocketMetadata(one)} for one in Opcode}
_TEXT, _BINARY = _METADATA[Opcode.TEXT], _METADATA[Opcode.BINARY]
