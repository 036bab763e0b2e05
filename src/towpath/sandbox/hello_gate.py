"""The second ClientHello of a connection, judged as the first was (RFC 8446 section 4.1.4).

A server may answer a ClientHello with a HelloRetryRequest, and the client then speaks again, in the clear. Whether it
will is known from the server's first message: until then nothing that could be a hello is passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.sandbox.stream import Refused
from towpath.wire.tls_hello import parse_stream

if TYPE_CHECKING:
    from towpath.policy.policy import Decision

__all__ = ["HelloGate"]

_HANDSHAKE, _SERVER_HELLO = 22, 2
_RECORD_HEAD = 5
_RANDOM = slice(6, 38)
_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The random value of a HelloRetryRequest: SHA-256 of its name."""
_MOST = 1 << 16


class HelloGate:
    """A `towpath.sandbox.stream.Gate`. `first` is how many bytes of the stream the first hello takes.

    `ask(name)` decides about the second; `refused(decision, violation)` is told of a refusal.
    """

    def __init__(
        self,
        first: int,
        ask: Callable[[str | None], Decision],
        refused: Callable[[Decision | None, PeerViolation | None], None],
    ) -> None:
        self._ask = ask
        self._refused = refused
        self._passing = first
        self._held = b""
        self._answer = b""
        self._retried = False
        self.hears = True
        self.waiting = False
        self.open = False

    def admit(self, data: bytes) -> bytes:
        """The bytes that may pass: whatever is no handshake record, and a second hello once it was judged."""
        held = self._held + data
        passed = []
        while held:
            if self._passing:
                passed.append(held[: self._passing])
                held, self._passing = held[self._passing :], max(0, self._passing - len(held))
            elif len(held) < _RECORD_HEAD:
                break
            elif held[0] != _HANDSHAKE:
                self._passing = _RECORD_HEAD + int.from_bytes(held[3:5], "big")
            elif not self._retried:
                self.waiting = True
                break
            elif self._judged(held):
                passed.append(held)
                held = b""
                self.open = True
            else:
                break
        self._held = held
        return b"".join(passed)

    def _judged(self, held: bytes) -> bool:
        """Whether the second hello is whole; it may pass then."""
        try:
            hello = parse_stream(held)
            if hello is None and len(held) >= _MOST:
                raise PeerViolation("tls-hello-length", "a ClientHello longer than 64 KiB")
        except PeerViolation as violation:
            self._refused(None, violation)
            raise Refused(b"") from violation
        if hello is None:
            return False
        decision = self._ask(hello.server_name)
        if decision.verdict != "allow":
            self._refused(decision, None)
            raise Refused(b"")
        return True

    def end(self) -> None:
        """The client may end whenever it likes: what is held then has no one to go to."""

    def answered(self, data: bytes) -> None:
        """The server's first message opens the gate, unless it asks for another hello."""
        if self._retried:
            return
        self._answer = (self._answer + data)[:_MOST]
        message = _first_message(self._answer)
        if message is None and data:
            return
        self._retried = message is not None and message[:1] == bytes([_SERVER_HELLO]) and message[_RANDOM] == _RETRY
        self.open = not self._retried
        self.waiting = False

    def release(self) -> bytes:
        """What was held, to be looked at again or passed on."""
        held, self._held = self._held, b""
        return held


def _first_message(data: bytes) -> bytes | None:
    """The beginning of the first handshake message, however it is cut into records; b"" for anything else."""
    message = b""
    offset = 0
    while offset + _RECORD_HEAD <= len(data):
        if data[offset] != _HANDSHAKE:
            return message
        end = offset + _RECORD_HEAD + int.from_bytes(data[offset + 3 : offset + 5], "big")
        message += data[offset + _RECORD_HEAD : end]
        if len(message) >= _RANDOM.stop or len(data) == _MOST:
            return message
        if end > len(data):
            return None
        offset = end
    return None
