"""As much of HTTP/3 (RFC 9114) over our QUIC streams as it takes to meet its clients and servers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pylsqpack import Decoder, Encoder

from towpath.connection import FINAL, Connection, ConnectionGroup
from towpath.errors import TowpathError

_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_CONTROL = b"\0"
Headers = list[tuple[bytes, bytes]]


def _number(value: int) -> bytes:
    """RFC 9000 section 16."""
    return bytes([value]) if value < 64 else (value | 1 << 14).to_bytes(2, "big") if value < 1 << 14 else b""


def _frame(kind: int, payload: bytes) -> bytes:
    return _number(kind) + _number(len(payload)) + payload


def _frames(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        kind, at = _read(data, at)
        length, at = _read(data, at)
        found.append((kind, data[at : at + length]))
        at += length
    return found


def _read(data: bytes, at: int) -> tuple[int, int]:
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + size], "big") & ((1 << (size * 8 - 2)) - 1), at + size


def _headers(fields: Headers) -> bytes:
    """Without a dynamic table, which the peer was not offered."""
    _, payload = Encoder().encode(0, fields)
    return _frame(_HEADERS, payload)


def _parsed(message: bytes) -> tuple[dict[bytes, bytes], bytes]:
    fields: dict[bytes, bytes] = {}
    body = b""
    for kind, payload in _frames(message):
        if kind == _HEADERS:
            _, found = Decoder(0, 0).feed_header(0, payload)
            fields.update(found)
        elif kind == _DATA:
            body += payload
    return fields, body


@asynccontextmanager
async def control(group: ConnectionGroup) -> AsyncIterator[None]:
    """This side's control stream, which has to live as long as the connection (section 6.2.1)."""
    stream = group.open(unidirectional=True)
    await stream.send(_CONTROL + _frame(_SETTINGS, b""))
    yield


async def get(group: ConnectionGroup, authority: str, path: str) -> tuple[dict[bytes, bytes], bytes]:
    """The headers and the body of an answer."""
    request = [
        (b":method", b"GET"),
        (b":scheme", b"https"),
        (b":authority", authority.encode()),
        (b":path", path.encode()),
    ]
    async with group.open() as stream:
        await stream.send(_headers(request), context=FINAL)
        return _parsed((await stream.receive_message()).content)


async def serve(group: ConnectionGroup, answer: Callable[[dict[bytes, bytes]], bytes]) -> None:
    """Answers the requests of one client until it goes."""
    await group.ready()
    async with control(group), asyncio.TaskGroup() as tasks:
        async for stream in group:
            tasks.create_task(_served(stream, answer))


async def _served(stream: Connection, answer: Callable[[dict[bytes, bytes]], bytes]) -> None:
    try:
        message = (await stream.receive_message()).content
        if message[:1] == bytes([_HEADERS]):
            fields, _ = _parsed(message)
            body = answer(fields)
            head = [(b":status", b"200"), (b"content-type", b"text/html"), (b"content-length", str(len(body)).encode())]
            await stream.send(_headers(head) + _frame(_DATA, body), context=FINAL)
    except TowpathError:
        pass  # the client's own streams end with it
