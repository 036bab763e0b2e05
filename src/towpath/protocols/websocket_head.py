"""The heads of HTTP/1.1 that open a WebSocket (RFC 9112 sections 2 to 5), read strictly and with bounds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from towpath.errors import PeerViolation

__all__ = ["MAX_HEAD", "Head", "HeadReader", "check_headers"]

MAX_HEAD = 1 << 14
"""Bytes of a request or response up to its empty line."""
_MAX_FIELDS = 100
_END = b"\r\n\r\n"
_REQUEST = re.compile(
    r"(?P<method>[!#$%&'*+.^_`|~0-9A-Za-z-]{1,24}) (?P<target>/[\x21-\x7e]*) HTTP/(?P<version>1\.[01])"
)
_RESPONSE = re.compile(r"HTTP/1\.1 (?P<status>[1-5][0-9]{2})(?: (?P<reason>[\t\x20-\x7e\x80-\xff]*))?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")


@dataclass(frozen=True, slots=True)
class Head:
    """A first line in its parts, and the fields in order, as the peer wrote them."""

    words: dict[str, str]
    headers: tuple[tuple[str, str], ...]

    def first(self, name: str) -> str | None:
        """The first value of a field, whatever the case of its name."""
        return next((value for found, value in self.headers if found.lower() == name), None)


class HeadReader:
    """Waits for one head in any pieces."""

    def __init__(self, *, request: bool) -> None:
        self._line = _REQUEST if request else _RESPONSE
        self._kept = bytearray()

    def feed(self, data: bytes) -> tuple[Head, bytes] | None:
        """The head and what came after it, or `None` for not yet. Raises `PeerViolation`."""
        kept = self._kept
        begin = max(0, len(kept) - len(_END) + 1)
        kept += data
        end = kept.find(_END, begin, MAX_HEAD)
        if end < 0:
            if len(kept) >= MAX_HEAD:
                raise PeerViolation("websocket-head", f"no end of the head in {MAX_HEAD} bytes")
            return None
        head = _parse(kept[:end].decode("latin-1"), self._line)
        rest = bytes(kept[end + len(_END) :])
        kept.clear()
        return head, rest


def _parse(text: str, first: re.Pattern[str]) -> Head:
    line, *fields = text.split("\r\n")
    found = first.fullmatch(line)
    if found is None:
        raise PeerViolation("websocket-head", f"{line[:80]!r} is no first line of HTTP/1.1")
    if len(fields) > _MAX_FIELDS:
        raise PeerViolation("websocket-head", f"more than {_MAX_FIELDS} fields")
    headers = []
    for field in fields:
        name, colon, value = field.partition(":")
        value = value.strip(" \t")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise PeerViolation("websocket-head", f"{field[:80]!r} is no field")
        headers.append((name, value))
    return Head({name: word or "" for name, word in found.groupdict().items()}, tuple(headers))


def check_headers(headers: tuple[tuple[str, str], ...]) -> str | None:
    """The first field that cannot be sent, or `None`."""
    for name, value in headers:
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            return name
    return None
