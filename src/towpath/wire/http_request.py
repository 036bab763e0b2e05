"""HTTP/1 requests as a client sends them: which host each one asks for (RFC 9110, RFC 9112).

Stricter than any server: a byte that two readers could take for two different requests is refused, never repaired.
Lines end in CR LF, a target begins with a slash, there is one Host, and the length of a body is said in one way.
"""

from __future__ import annotations

from typing import NamedTuple

from towpath.errors import PeerViolation
from towpath.wire.address import pack, unpack

__all__ = ["MAX_HEAD", "Head", "RequestReader", "looks_like"]

MAX_HEAD = 65536
"""Bytes of a request line with its fields, or of a trailer section."""
_MAX_CHUNK_LINE = 1024
_MAX_METHOD = 24

_UPPER = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_")
_DIGITS = frozenset(b"0123456789")
_HEX = frozenset(b"0123456789abcdefABCDEF")
_TOKEN = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_TARGET = frozenset(range(0x21, 0x7F)) - frozenset(b"#")
_VALUE = frozenset(range(0x20, 0x7F)) | frozenset(range(0x80, 0x100)) | frozenset(b"\t")
_HOST = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
_OVERRIDES = frozenset(
    (
        b"x-http-method-override",
        b"x-method-override",
        b"x-http-method",
        b"x-original-method",
        b"x-original-url",
        b"x-original-uri",
        b"x-rewrite-url",
    )
)
"""Fields by which frameworks let a client ask for something else than its request line says; no RFC has them."""
_FORBIDDEN_TRAILERS = frozenset((b"content-length", b"transfer-encoding", b"host", b"upgrade"))


class Head(NamedTuple):
    """One request up to its body.

    `host` is lower case (with a trailing dot it is refused), an IPv6 address without its brackets; `port` is `None`
    where Host has none. `upgrade` is ``"websocket"`` or `None`. `raw` is to be passed on: what the client sent without
    its offer of HTTP/2, which some clients make with every first request, and any hop may leave out (RFC 9110 section
    7.8).
    `override` is the first header that asks for another method or target than the request line, or `None`.
    """

    method: str
    target: str
    host: str
    port: int | None
    upgrade: str | None
    raw: bytes
    override: str | None = None

    @property
    def path(self) -> str:
        """The target without its query, as it was sent."""
        return self.target.partition("?")[0]


class RequestReader:
    """The client's side of one HTTP/1 connection, fed in any pieces.

    Each method raises `PeerViolation` for what breaks the protocol, and from then on at every call.

        reader = RequestReader()
        for part in reader.receive(data):
            if isinstance(part, Head): ...      # decide by part.host, then pass part.raw on
            else: ...                           # body bytes, to pass on
    """

    __slots__ = ("_buffer", "_fault", "_fields", "_left", "_line", "_raw", "_state", "_upgrading")

    def __init__(self) -> None:
        self._state = "head"
        self._buffer = bytearray()
        self._line = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._raw = bytearray()
        self._left = 0
        self._upgrading = False
        self._fault: PeerViolation | None = None

    def receive(self, data: bytes) -> list[Head | bytes]:
        """What these bytes complete, in order: heads, and body bytes with their chunk framing."""
        if self._fault is not None:
            raise self._fault
        if self._state == "opaque":
            return [bytes(data)] if data else []
        self._buffer += data
        parts: list[Head | bytes] = []
        try:
            while self._step(parts):
                pass
        except PeerViolation as fault:
            self._fault = fault
            raise
        return parts

    def end(self) -> None:
        """The client will send no more. Raises `PeerViolation` ("http-cut-off") inside a head or a body."""
        if self._fault is not None:
            raise self._fault
        idle = self._state == "head" and not self._raw and not self._buffer
        if not idle and self._state != "opaque":
            raise PeerViolation("http-cut-off", f"the stream ends inside a {self._state}")

    def become_opaque(self) -> list[bytes]:
        """The server agreed to the upgrade: all that follows passes. Gives what was waiting, to be passed on now.

        Raises `PeerViolation` ("http-upgrade") when the last request asked for none.
        """
        if self._fault is not None:
            raise self._fault
        if not self._upgrading:
            raise PeerViolation("http-upgrade", "the server switched protocols, the client had not asked for it")
        waiting = bytes(self._raw + self._buffer)
        self._raw.clear()
        self._buffer.clear()
        self._state = "opaque"
        return [waiting] if waiting else []

    def _step(self, parts: list[Head | bytes]) -> bool:
        """Takes one thing off the buffer; false when more bytes are needed."""
        if self._state in ("body", "chunk"):
            return self._take_body(parts)
        limit = _MAX_CHUNK_LINE if self._state == "chunk size" else MAX_HEAD - len(self._raw)
        line = _take_line(self._buffer, limit, first=self._state == "head" and not self._raw)
        if line is None:
            return False
        if self._state == "head":
            self._head_line(line, parts)
        elif self._state == "trailer":
            self._trailer_line(line, parts)
        elif self._state == "chunk end":
            if line != b"\r\n":
                raise PeerViolation("http-chunk", "data longer than its size")
            _append(parts, line)
            self._state = "chunk size"
        else:
            self._left = _chunk_size(line[:-2])
            self._state = "chunk" if self._left else "trailer"
            _append(parts, line)
        return True

    def _take_body(self, parts: list[Head | bytes]) -> bool:
        piece = bytes(self._buffer[: self._left])
        if piece:
            del self._buffer[: len(piece)]
            self._left -= len(piece)
            _append(parts, piece)
        if self._left:
            return False
        self._state = "head" if self._state == "body" else "chunk end"
        return True

    def _head_line(self, line: bytes, parts: list[Head | bytes]) -> None:
        if line != b"\r\n":
            if self._raw:
                self._fields.append(_field(line[:-2]))
            else:
                _request_line(line[:-2])
                self._line = line[:-2]
            self._raw += line
            return
        head, self._state, self._left = _head(self._line, self._fields, bytes(self._raw + line))
        self._upgrading = head.upgrade is not None
        self._raw.clear()
        self._fields = []
        parts.append(head)

    def _trailer_line(self, line: bytes, parts: list[Head | bytes]) -> None:
        self._raw += line
        if line != b"\r\n":
            name = _field(line[:-2])[0]
            if name in _FORBIDDEN_TRAILERS or name.replace(b"_", b"-") in _OVERRIDES:
                raise PeerViolation("http-trailer", "a field that may not come after the body")
            return
        _append(parts, bytes(self._raw))
        self._raw.clear()
        self._state = "head"


def _append(parts: list[Head | bytes], piece: bytes) -> None:
    """Joins body bytes that follow each other: one write, not one for each chunk."""
    if parts and isinstance(parts[-1], bytes):
        parts[-1] += piece
    else:
        parts.append(piece)


def _take_line(buffer: bytearray, limit: int, *, first: bool) -> bytes | None:
    """One line with its CR LF, checked as far as it is there."""
    end = buffer.find(b"\n", 0, limit)
    text = buffer[:end] if end >= 0 else buffer[:limit]
    if first and looks_like(bytes(text)) is False:
        raise PeerViolation("http-not-a-request", repr(bytes(text[:16])))
    bare = text.find(b"\r", 0, -1)
    if bare >= 0 or (end >= 0 and not text.endswith(b"\r")):
        raise PeerViolation("http-line-end", "CR or LF alone")
    if end < 0:
        if len(buffer) >= limit:
            raise PeerViolation("http-too-long", f"no end of line within {limit} bytes")
        return None
    line = bytes(buffer[: end + 1])
    del buffer[: end + 1]
    return line


def _request_line(line: bytes) -> tuple[str, str, bool]:
    """Method, target, and whether it is HTTP/1.1 rather than 1.0."""
    words = line.split(b" ")
    if len(words) != 3:
        raise PeerViolation("http-request-line", repr(line[:64]))
    method, target, version = words
    if version == b"HTTP/2.0":
        raise PeerViolation("http-version", "HTTP/2 without TLS")
    if version not in (b"HTTP/1.1", b"HTTP/1.0"):
        raise PeerViolation("http-version", repr(version[:16]))
    if method == b"CONNECT":
        raise PeerViolation("http-proxy-request", "CONNECT")
    if not target.startswith(b"/") and not (target == b"*" and method == b"OPTIONS"):
        raise PeerViolation("http-proxy-request", repr(target[:64]))
    if not _TARGET.issuperset(target):
        raise PeerViolation("http-target", "a character that no target has")
    return method.decode("ascii"), target.decode("ascii"), version == b"HTTP/1.1"


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if line[:1] in (b" ", b"\t"):
        raise PeerViolation("http-folded-field", "a line that continues the one before")
    if not colon or not name or not _TOKEN.issuperset(name):
        raise PeerViolation("http-field", repr(name[:32]))
    if not _VALUE.issuperset(value):
        raise PeerViolation("http-field", f"a control character in {name[:32]!r}")
    return name.lower(), value.strip(b" \t")


def _head(line: bytes, fields: list[tuple[bytes, bytes]], raw: bytes) -> tuple[Head, str, int]:
    """The head, the state that follows it, and how many bytes of body that state has."""
    method, target, modern = _request_line(line)
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) != 1:
        raise PeerViolation("http-host", f"{len(hosts)} Host fields")
    host, port = _host(hosts[0])
    upgrades = [value.lower() for name, value in fields if name == b"upgrade"]
    if upgrades == [b"h2c"]:
        raw, upgrades = _without_offer(raw), []
    elif any(name == b"http2-settings" for name, _ in fields) or (upgrades and upgrades != [b"websocket"]):
        raise PeerViolation("http-upgrade", "to something other than websocket")
    if upgrades and not modern:
        raise PeerViolation("http-upgrade", "in HTTP/1.0")
    lengths = {value for name, value in fields if name == b"content-length"}
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if codings and (lengths or not modern or codings != [b"chunked"]):
        raise PeerViolation("http-transfer-encoding", "other than chunked alone, beside a length, or in HTTP/1.0")
    if len(lengths) > 1 or any(not 0 < len(one) < 16 or not _DIGITS.issuperset(one) for one in lengths):
        raise PeerViolation("http-content-length", "not one number")
    # Some servers take an underscore for a hyphen in a field's name, as CGI does (RFC 3875, section 4.1.18).
    other = next((name for name, _ in fields if name.replace(b"_", b"-") in _OVERRIDES), None)
    override = other.decode("ascii") if other is not None else None
    head = Head(method, target, host, port, "websocket" if upgrades else None, raw, override)
    if codings:
        return head, "chunk size", 0
    length = int(lengths.pop()) if lengths else 0
    return head, "body" if length else "head", length


def _without_offer(raw: bytes) -> bytes:
    """A head without its offer of HTTP/2 (RFC 7540 section 3.2)."""
    first, *lines = raw.split(b"\r\n")
    kept = [first]
    for line in lines:
        name, _, value = line.partition(b":")
        field = name.lower()
        if field in (b"upgrade", b"http2-settings"):
            continue
        if field == b"connection":
            words = [word.strip() for word in value.split(b",")]
            left = [word for word in words if word and word.lower() not in (b"upgrade", b"http2-settings")]
            if not left:
                continue
            line = name + b": " + b", ".join(left)
        kept.append(line)
    return b"\r\n".join(kept)


def _host(value: bytes) -> tuple[str, int | None]:
    host, port = value.lower(), b""
    if host.startswith(b"["):
        host, bracket, rest = host[1:].partition(b"]")
        packed = pack(host.decode("latin-1")) if bracket else None
        if packed is None or len(packed) != 16:
            raise PeerViolation("http-host", repr(value[:64]))
        name, colon, port = unpack(packed), rest[:1], rest[1:]
        if rest and colon != b":":
            raise PeerViolation("http-host", repr(value[:64]))
    else:
        host, colon, port = host.partition(b":")
        if not _HOST.issuperset(host) or len(host) > 253 or not all(0 < len(label) < 64 for label in host.split(b".")):
            raise PeerViolation("http-host", repr(value[:64]))
        name = host.decode("ascii")
    if not colon:
        return name, None
    if not 0 < len(port) <= 5 or not _DIGITS.issuperset(port) or not 0 < int(port) <= 0xFFFF:
        raise PeerViolation("http-host", repr(value[:64]))
    return name, int(port)


def _chunk_size(line: bytes) -> int:
    size, extension, words = line.partition(b";")
    if not 0 < len(size) < 16 or not _HEX.issuperset(size) or (extension and not _VALUE.issuperset(words)):
        raise PeerViolation("http-chunk", f"size {line[:32]!r}")
    return int(size, 16)


def looks_like(data: bytes) -> bool | None:
    """Could a stream that begins so be HTTP/1 (or the preface of HTTP/2)? `None` when it is too short to say.

    Methods are taken to be upper case, as every registered one is.
    """
    method, space, rest = data[: _MAX_METHOD + 1].partition(b" ")
    if not _UPPER.issuperset(method) or (space and not method) or len(method) > _MAX_METHOD:
        return False
    if not space or not (rest := data[len(method) + 1 :]):
        return None
    if method == b"CONNECT" or rest[:1] in (b"/", b"*"):
        return True
    for scheme in (b"http://", b"https://"):
        if rest.lower().startswith(scheme):
            return True
        if scheme.startswith(rest.lower()):
            return None
    return False
