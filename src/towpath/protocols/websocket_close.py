"""How WebSocket connections end: codes, what stands in a close frame, and what the program is told of it."""

from __future__ import annotations

from enum import IntEnum

from towpath.errors import ConnectionFailed, Misuse, PeerViolation

__all__ = ["CloseCode", "WebSocketClosed", "close_payload", "code_for", "parse_close"]


class CloseCode(IntEnum):
    """The codes of RFC 6455 section 7.4.1; 3000 to 3999 are registered, 4000 to 4999 are the program's own."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """Never sent: the peer's close frame has no code."""
    ABNORMAL = 1006
    """Never sent: the peer went without a close frame."""
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_LARGE = 1009
    EXTENSION_MISSING = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


_NEVER_SENT = (CloseCode.NO_STATUS, CloseCode.ABNORMAL)
_SENT = frozenset(CloseCode) - frozenset(_NEVER_SENT)
_MAX_REASON = 123
_BY_FAULT = {
    "message-too-large": CloseCode.TOO_LARGE,
    "websocket-utf8": CloseCode.INVALID_DATA,
    "websocket-deflate": CloseCode.INVALID_DATA,
}


class WebSocketClosed(ConnectionFailed):
    """The peer has ended the connection. `code` and `reason` are its words.

    After a normal end (1000, 1001, or no code) a program that receives gets `EndOfStream` instead, and only one that
    sends gets this. `code` is 1006 where the peer went without a word.
    """

    def __init__(self, endpoint: str, code: int, reason: str = "") -> None:
        words = f"the peer closed the WebSocket with {code}"
        if code == CloseCode.ABNORMAL:
            words = "the peer went without a close frame (1006)"
        super().__init__(endpoint, words + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


def code_for(violation: PeerViolation) -> CloseCode:
    """What a peer is told that broke the protocol."""
    return _BY_FAULT.get(violation.fault, CloseCode.PROTOCOL_ERROR)


def parse_close(payload: bytes) -> tuple[int, str]:
    """Code and reason in a close frame; 1005 for an empty one. Raises `PeerViolation`."""
    if not payload:
        return CloseCode.NO_STATUS, ""
    if len(payload) == 1:
        raise PeerViolation("websocket-close", "half a code")
    code = int.from_bytes(payload[:2], "big")
    if code not in _SENT and not 3000 <= code < 5000:
        raise PeerViolation("websocket-close", f"{code} is no code that is sent")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise PeerViolation("websocket-utf8", "the reason of a close frame is not UTF-8") from None


def close_payload(code: int, reason: str) -> bytes:
    """What stands in a close frame; nothing for 1005. Raises `Misuse` for what must not be sent."""
    if code == CloseCode.NO_STATUS and not reason:
        return b""
    if code not in _SENT and not 3000 <= code < 5000:
        error = Misuse(f"{code} is no code that may be sent")
        error.hint = "a program's own codes are 4000 to 4999 (RFC 6455 section 7.4.2)"
        raise error
    words = reason.encode()
    if len(words) > _MAX_REASON:
        raise Misuse(f"a reason of {len(words)} bytes, where {_MAX_REASON} fit")
    return code.to_bytes(2, "big") + words
