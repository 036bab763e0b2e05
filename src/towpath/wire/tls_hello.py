"""The first message of a TLS client: which server it asks for (RFC 8446 section 4.1.2, RFC 6066 section 3, RFC 9849).

Strict on purpose: what a gatekeeper and a server could read differently is refused, never guessed.
"""

from __future__ import annotations

from typing import NamedTuple

from towpath.errors import PeerViolation

__all__ = ["ClientHello", "MAX_HELLO", "parse_handshake", "parse_stream"]

MAX_HELLO = 65536
"""Bytes of the stream, and of the message, that a ClientHello may have."""

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _ECH, _OLD_ECH = 0, 16, 0xFE0D, 0xFFCE
_MAX_FRAGMENT = 16384
_HOST = frozenset(b"abcdefghijklmnopqrstuvwxyz0123456789-_.")
_QUAD = frozenset("0123456789.")


class ClientHello(NamedTuple):
    """What a client says in the clear.

    `server_name` is lower case, `None` without the extension. `ech` is true whenever an Encrypted ClientHello extension
    is there, also a meaningless one (GREASE); `server_name` is then the outer name, the one everybody can read.
    `length` is how many bytes of the stream (or of the handshake bytes) it occupies.
    """

    server_name: str | None
    alpn: tuple[str, ...]
    ech: bool
    length: int


def parse_stream(data: bytes) -> ClientHello | None:
    """The ClientHello that a TCP stream begins with; `None` while more bytes are needed.

    Raises `PeerViolation` as soon as the bytes cannot become one. It may be split over records in any way; bytes after
    it in its last record are refused, further records are left alone.
    """
    message = bytearray()
    at = 0
    while True:
        if at < len(data) and data[at] != _HANDSHAKE:
            raise PeerViolation("tls-not-handshake", f"record type {data[at]}")
        if at + 1 < len(data) and data[at + 1] != 3:
            raise PeerViolation("tls-version", f"record version {data[at + 1]}")
        if at + 2 < len(data) and not 1 <= data[at + 2] <= 3:
            raise PeerViolation("tls-version", f"record version 3.{data[at + 2]}")
        if at + 5 > len(data):
            return None
        size = data[at + 3] << 8 | data[at + 4]
        if not 0 < size <= _MAX_FRAGMENT:
            raise PeerViolation("tls-record-length", f"{size} bytes")
        at += 5
        message += data[at : at + size]
        whole = _message_length(message)
        if at + size > MAX_HELLO:
            raise PeerViolation("tls-hello-too-long", f"over {MAX_HELLO} bytes of records")
        at += size
        if whole is not None and len(message) > whole:
            raise PeerViolation("tls-trailing", f"{len(message) - whole} bytes after the ClientHello")
        if at > len(data):
            return None
        if whole is not None and len(message) == whole:
            return _parse(bytes(message), at)


def parse_handshake(data: bytes) -> ClientHello | None:
    """The ClientHello that handshake bytes without records (QUIC CRYPTO) begin with; `None` while bytes are missing.

    Bytes after it are left alone. Raises `PeerViolation` as soon as the bytes cannot become one.
    """
    whole = _message_length(data)
    if whole is None or len(data) < whole:
        return None
    return _parse(bytes(data[:whole]), whole)


def _message_length(data: bytes | bytearray) -> int | None:
    """Header included; `None` while the header is not whole."""
    if data and data[0] != _CLIENT_HELLO:
        raise PeerViolation("tls-not-hello", f"handshake message {data[0]}")
    if len(data) < 4:
        return None
    size = 4 + (data[1] << 16 | data[2] << 8 | data[3])
    if size > MAX_HELLO:
        raise PeerViolation("tls-hello-too-long", f"{size} bytes")
    return size


def _vector(data: bytes, at: int, width: int, what: str) -> tuple[bytes, int]:
    """A vector with a length prefix of `width` bytes, and the offset after it."""
    start = at + width
    end = start + int.from_bytes(data[at:start], "big")
    if start > len(data) or end > len(data):
        raise PeerViolation("tls-length", what)
    return data[start:end], end


def _parse(message: bytes, length: int) -> ClientHello:
    if len(message) < 38:
        raise PeerViolation("tls-length", "hello")
    if message[4] != 3 or not 1 <= message[5] <= 3:
        raise PeerViolation("tls-version", f"hello version {message[4]}.{message[5]}")
    session, at = _vector(message, 38, 1, "session id")
    suites, at = _vector(message, at, 2, "cipher suites")
    compressions, at = _vector(message, at, 1, "compression methods")
    if len(session) > 32 or not suites or len(suites) % 2 or not compressions:
        raise PeerViolation("tls-length", "session id, cipher suites or compression methods")
    if at == len(message):
        return ClientHello(None, (), False, length)
    extensions, at = _vector(message, at, 2, "extensions")
    if at != len(message):
        raise PeerViolation("tls-length", "bytes after the extensions")
    found: dict[int, bytes] = {}
    at = 0
    while at < len(extensions):
        if at + 4 > len(extensions):
            raise PeerViolation("tls-length", "extension")
        kind = extensions[at] << 8 | extensions[at + 1]
        if kind in found:
            raise PeerViolation("tls-duplicate-extension", str(kind))
        found[kind], at = _vector(extensions, at + 2, 2, f"extension {kind}")
    server_name = _server_name(found[_SERVER_NAME]) if _SERVER_NAME in found else None
    alpn = _protocols(found[_ALPN]) if _ALPN in found else ()
    return ClientHello(server_name, alpn, _ECH in found or _OLD_ECH in found, length)


def _server_name(extension: bytes) -> str:
    entries, end = _vector(extension, 0, 2, "server names")
    if end != len(extension) or len(entries) < 3:
        raise PeerViolation("tls-server-name", "empty, or of another length than it says")
    if entries[0]:
        raise PeerViolation("tls-server-name", f"name type {entries[0]}")
    name, end = _vector(entries, 1, 2, "server name")
    if end != len(entries):
        raise PeerViolation("tls-server-name", "more than one name")
    return _host_name(name)


def _host_name(name: bytes) -> str:
    """A host name in lower case. A trailing dot is refused, as is an address: neither may stand here (RFC 6066).

    The underscore is let through: hosts named with one exist, and every server reads them alike.
    """
    name = name.lower()
    if not 0 < len(name) <= 253 or not _HOST.issuperset(name):
        raise PeerViolation("tls-server-name", "not a host name")
    host = name.decode("ascii")
    for label in host.split("."):
        if not 0 < len(label) < 64 or label[0] == "-" or label[-1] == "-":
            raise PeerViolation("tls-server-name", "not a host name")
    if _QUAD.issuperset(host):
        raise PeerViolation("tls-server-name", "an address")
    return host


def _protocols(extension: bytes) -> tuple[str, ...]:
    """ALPN protocol names; bytes that are not ASCII as ``\\xNN``."""
    entries, end = _vector(extension, 0, 2, "protocol names")
    if end != len(extension) or not entries:
        raise PeerViolation("tls-alpn", "empty, or of another length than it says")
    found = []
    at = 0
    while at < len(entries):
        protocol, at = _vector(entries, at, 1, "protocol name")
        if not protocol:
            raise PeerViolation("tls-alpn", "an empty protocol name")
        found.append(protocol.decode("ascii", "backslashreplace"))
    return tuple(found)
