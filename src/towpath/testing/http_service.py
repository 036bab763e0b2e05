"""The Lab's web server: HTTP/1.1 as little as tests need (RFC 9112), with connections kept alive."""

from __future__ import annotations

import asyncio
import mimetypes
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from towpath.testing.streams import Stream

__all__ = ["serve_http"]

_HEAD_LIMIT = 1 << 16
_BIG_CHUNK = b"towpath\n" * 8192


async def serve_http(stream: Stream, host: str, folder: str | None = None) -> None:
    """Answers requests on one connection until either side ends it; `host` is the name the pages give.

    With a `folder` the pages are the files below it.
    """
    buffer = b""
    while True:
        while b"\r\n\r\n" not in buffer:
            if len(buffer) > _HEAD_LIMIT:
                await stream.send(_head(431, 0, "text/plain", keep=False))
                return
            data = await stream.receive()
            if not data:
                return
            buffer += data
        head, _, buffer = buffer.partition(b"\r\n\r\n")
        request, *lines = head.decode("latin-1").split("\r\n")
        fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        stream.seen.requests.append(request)
        stream.seen.host = fields.get("host")
        try:
            method, target, version = request.split(" ")
            length = int(fields.get("content-length", "0"))
        except ValueError:
            await stream.send(_head(400, 0, "text/plain", keep=False))
            return
        keep = fields.get("connection", "").lower() != "close" and version == "HTTP/1.1"
        if fields.get("expect", "").lower() == "100-continue":
            await stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        while length > len(buffer):
            length -= len(buffer)
            buffer = await stream.receive()
            if not buffer:
                return
        buffer = buffer[length:]
        if folder is None:
            await _answer(stream, host, method, target, lines, keep)
        else:
            await _answer_file(stream, Path(folder), method, target, keep)
        if not keep:
            return


async def _answer(stream: Stream, host: str, method: str, target: str, lines: list[str], keep: bool) -> None:
    address = urlsplit(target)
    arguments = parse_qs(address.query)
    size, status, body = 0, 200, b""
    if address.path == "/big":
        size = _number(arguments, "bytes", 1 << 20)
    elif address.path == "/headers":
        body = "".join(f"{line}\n" for line in lines).encode("latin-1")
    elif address.path == "/slow":
        await asyncio.sleep(_number(arguments, "seconds", 1))
        body = b"at last\n"
    elif address.path == "/":
        body = f"<!doctype html>\n<title>{host}</title>\n<p>This is {host}.</p>\n".encode()
    else:
        status, body = 404, b"there is no such page\n"
    kind = "text/html" if address.path == "/" else "text/plain"
    head = _head(status, size or len(body), kind, keep=keep)
    if method == "HEAD":
        await stream.send(head)
        return
    await stream.send(head + body)
    while size > 0:
        await stream.send(_BIG_CHUNK[:size])
        size -= len(_BIG_CHUNK)


async def _answer_file(stream: Stream, folder: Path, method: str, target: str, keep: bool) -> None:
    name, body = await asyncio.to_thread(_file, folder, unquote(urlsplit(target).path))
    if body is None:
        await stream.send(_head(404, 0, "text/plain", keep=keep))
        return
    head = _head(200, len(body), mimetypes.guess_type(name)[0] or "application/octet-stream", keep=keep)
    await stream.send(head if method == "HEAD" else head + body)


def _file(folder: Path, path: str) -> tuple[str, bytes | None]:
    """The name and the bytes of what is served under a path; nothing from above the folder."""
    file = (folder / path.lstrip("/")).resolve()
    if file.is_dir():
        file /= "index.html"
    inside = file.is_file() and file.is_relative_to(folder.resolve())
    return file.name, file.read_bytes() if inside else None


def _number(arguments: dict[str, list[str]], name: str, default: int) -> int:
    word = arguments.get(name, [""])[0]
    return int(word) if word.isdecimal() and len(word) < 12 else default


def _head(status: int, length: int, kind: str, *, keep: bool) -> bytes:
    reason = {200: "OK", 400: "Bad Request", 404: "Not Found", 431: "Request Header Fields Too Large"}[status]
    return (
        f"HTTP/1.1 {status} {reason}\r\nServer: lab\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n"
        f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    ).encode("ascii")
