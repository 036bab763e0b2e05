"""What the first bytes of a stream say: its kind, and the name of whom it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towpath.errors import PeerViolation
from towpath.wire import http_request, tls_hello

if TYPE_CHECKING:
    from towpath.hosting.screening import Screening

__all__ = ["MOST_HEARD", "FirstWords", "NameFinder", "read"]

MOST_HEARD = 1 << 16
_HANDSHAKE = 22


class FirstWords:
    """`scheme` is "tls", "http" or "other"; `name` and `length` are of a ClientHello; `fault` says what was odd."""

    __slots__ = ("fault", "length", "name", "scheme")

    def __init__(self, scheme: str, name: str | None = None, fault: str = "", length: int = 0) -> None:
        self.length = length
        self.scheme = scheme
        self.name = name
        self.fault = fault


def read(data: bytes) -> FirstWords | None:
    """What the first bytes of a stream are; `None` while it cannot be told."""
    if not data:
        return None
    if data[0] == _HANDSHAKE:
        try:
            hello = tls_hello.parse_stream(data)
        except PeerViolation as violation:
            return FirstWords("other", fault=str(violation))
        if hello is None:
            return FirstWords("other", fault="a ClientHello longer than 64 KiB") if len(data) >= MOST_HEARD else None
        return FirstWords("tls", hello.server_name, length=hello.length)
    like = http_request.looks_like(data)
    if like is None:
        return None
    return FirstWords("http") if like else FirstWords("other", fault="neither TLS nor HTTP")


class NameFinder:
    """Reads in the first bytes of a flow who it is for, while they are held anyway."""

    __slots__ = ("_heard", "_screening", "_sought")

    def __init__(self, screening: Screening) -> None:
        self._screening = screening
        self._heard = b""
        self._sought = screening.flow.name_from not in ("sni", "host")

    def hear(self, data: bytes) -> None:
        if not self._sought:
            return
        self._heard += data
        words = read(self._heard)
        if words is None:
            return
        self._sought = False
        if words.scheme == "tls" and words.name:
            self._screening.named(words.name, "sni")
        elif words.scheme == "http":
            self._hear_request()
        self._heard = b""

    def _hear_request(self) -> None:
        try:
            for part in http_request.RequestReader().receive(self._heard):
                if isinstance(part, http_request.Head):
                    self._screening.named(part.host, "host")
                    return
        except PeerViolation:
            return  # whoever judges requests will say so; here only a name was looked for
