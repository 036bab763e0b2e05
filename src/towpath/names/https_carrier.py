"""DNS over HTTP/2 (RFC 8484): each question a request, many at a time on one connection. To be used inside of TLS."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.exceptions import H2Error

__all__ = ["HttpsCarrier"]

_TYPE = "application/dns-message"
_LARGEST = 65535
_MOST_WAITING = 1024


def _status(headers: Iterable[Any]) -> str:
    for name, value in headers:
        if name == b":status":
            return bytes(value).decode("ascii", "replace")
    return ""


class _Request:
    __slots__ = ("body", "identity", "status")

    def __init__(self, identity: bytes) -> None:
        self.identity = identity
        self.status = ""
        self.body = b""


class HttpsCarrier:
    """Asks `https://AUTHORITY/PATH` by POST. Messages leave with the id 0, so that a cache between sees them alike."""

    def __init__(self, authority: str, path: str) -> None:
        self.ended = ""
        self._authority = authority
        self._path = path
        self._http = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding=None,
                # Of an answer only its status is read, and the headers of a request are written below.
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self._requests: dict[int, _Request] = {}
        self._waiting: deque[bytes] = deque()
        self._lost: list[tuple[int, str]] = []

    def start(self) -> None:
        self._http.initiate_connection()

    def ask(self, message: bytes) -> None:
        if len(self._waiting) >= _MOST_WAITING:
            self._lost.append((int.from_bytes(message[:2], "big"), "too many questions wait for this server"))
            return
        self._waiting.append(message)
        self._send()

    def _send(self) -> None:
        try:
            while self._waiting and not self.ended:
                if self._http.open_outbound_streams >= self._http.remote_settings.max_concurrent_streams:
                    return
                message = self._waiting.popleft()
                stream = self._http.get_next_available_stream_id()
                self._requests[stream] = _Request(message[:2])
                self._http.send_headers(
                    stream,
                    [
                        (":method", "POST"),
                        (":scheme", "https"),
                        (":authority", self._authority),
                        (":path", self._path),
                        ("accept", _TYPE),
                        ("content-type", _TYPE),
                        ("content-length", str(len(message))),
                    ],
                )
                self._http.send_data(stream, b"\0\0" + message[2:], end_stream=True)
        except H2Error as error:
            self.ended = f"HTTP/2: {error}"

    def received(self, data: bytes) -> list[bytes]:
        if not data:
            self.ended = self.ended or "the server ended the connection"
            return []
        try:
            events = self._http.receive_data(data)
        except H2Error as error:
            self.ended = f"HTTP/2: {error}"
            return []
        found: list[bytes] = []
        for event in events:
            if isinstance(event, DataReceived):
                self._take(event)
            elif isinstance(event, ResponseReceived):
                request = self._requests.get(event.stream_id or 0)
                if request is not None:
                    request.status = _status(event.headers or ())
            elif isinstance(event, StreamEnded):
                request = self._requests.pop(event.stream_id or 0, None)
                if request is not None:
                    self._finish(request, found)
            elif isinstance(event, StreamReset):
                request = self._requests.pop(event.stream_id or 0, None)
                if request is not None:
                    self._lose(request, "the server reset the request")
            elif isinstance(event, ConnectionTerminated):
                self.ended = "the server ended the connection"
            elif isinstance(event, RemoteSettingsChanged):
                pass
        self._send()
        return found

    def _take(self, event: DataReceived) -> None:
        stream = event.stream_id or 0
        request = self._requests.get(stream)
        if request is not None and len(request.body) + len(event.data or b"") <= _LARGEST:
            request.body += event.data or b""
        try:
            self._http.acknowledge_received_data(event.flow_controlled_length or 0, stream)
        except (H2Error, ValueError):
            return  # the stream has ended meanwhile

    def _finish(self, request: _Request, found: list[bytes]) -> None:
        if request.status != "200":
            self._lose(request, f"HTTP status {request.status or 'missing'}")
        elif len(request.body) < 12:
            self._lose(request, "an HTTP answer that is no DNS message")
        else:
            found.append(request.identity + request.body[2:])

    def _lose(self, request: _Request, reason: str) -> None:
        self._lost.append((int.from_bytes(request.identity, "big"), reason))

    def lost(self) -> list[tuple[int, str]]:
        lost, self._lost = self._lost, []
        return lost

    def outgoing(self) -> bytes:
        return self._http.data_to_send()
