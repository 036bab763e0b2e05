"""The opening handshake of WebSocket (RFC 6455 section 4): a request to upgrade HTTP/1.1, and its answer.

Both sides leave the judgement of fields to `websockets`; this layer reads and bounds what comes, decides with the
program's settings, and passes bytes through once both have agreed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from towpath.errors import ConnectionFailed, Misuse, PeerViolation, TimedOut
from towpath.protocols.layer import Layer, Link
from towpath.protocols.message import Message
from towpath.protocols.stack import Stack
from towpath.protocols.tls import Tls
from towpath.protocols.websocket_deflate import Deflate
from towpath.protocols.websocket_head import Head, HeadReader, check_headers

if TYPE_CHECKING:
    from websockets.client import ClientProtocol
    from websockets.extensions import Extension
    from websockets.http11 import Response
    from websockets.server import ServerProtocol
    from websockets.typing import Subprotocol

__all__ = ["Accept", "Refuse", "WebSocketDetails", "WebSocketOpening", "WebSocketRefused", "WebSocketRequest"]

Headers = Mapping[str, str] | Sequence[tuple[str, str]]
_SUBPROTOCOL = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_SET_BY_PROTOCOL = frozenset(("host", "upgrade", "connection", "content-length", "transfer-encoding", "origin"))
_MAX_REFUSAL = 1 << 12


@dataclass(frozen=True, slots=True)
class WebSocketRequest:
    """What a client asks a server for: path and query, its fields in order, its offers in its order."""

    resource: str
    headers: tuple[tuple[str, str], ...]
    subprotocols: tuple[str, ...] = ()
    origin: str | None = None

    def header(self, name: str) -> str | None:
        """The first value of a field, whatever the case of its name."""
        return Head({}, self.headers).first(name.lower())


@dataclass(frozen=True, slots=True)
class Accept:
    """Welcomes a client; with one of its subprotocols, or none, and `headers` in the answer."""

    subprotocol: str | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        _check_sent(self.headers)


@dataclass(frozen=True, slots=True)
class Refuse:
    """Turns a client away with an HTTP status from 400 to 599, or a redirection, and a few words."""

    status: int = 403
    words: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if not 300 <= self.status < 600 or self.status not in set(HTTPStatus):
            raise Misuse(f"{self.status} is no status that refuses")
        _check_sent(self.headers)


@dataclass(frozen=True, slots=True)
class WebSocketDetails:
    """What was agreed. `status` is that of the answer, `headers` are the peer's: of a client, those of its request."""

    resource: str
    status: int
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    subprotocol: str | None = None
    origin: str | None = None
    deflate: Deflate | None = None
    """`None` where messages are not compressed."""


class WebSocketRefused(ConnectionFailed):
    """The server's answer is no WebSocket; or, on the side of a listener, this client was turned away.

    `status` is that of HTTP, `headers` and `body` (as much as came with them) are the answer's.
    """

    def __init__(
        self,
        endpoint: str,
        status: int,
        words: str,
        headers: tuple[tuple[str, str], ...] = (),
        body: bytes = b"",
        hint: str | None = None,
    ) -> None:
        super().__init__(endpoint, words, hint=hint)
        self.status = status
        self.headers = headers
        self.body = body


class WebSocketOpening(Layer[WebSocketDetails]):
    """Opens a WebSocket over a byte stream; `WebSocket` stands on it. `Parameters.websocket` makes both. ::

    Parameters.websocket(subprotocols=["chat.v2"], headers={"Authorization": "Bearer ..."})    # for a client
    Parameters.websocket(origins=["https://news.example"], accept=choose)                      # for a listener
    """

    def __init__(
        self,
        *,
        url: str | None = None,
        headers: Headers = (),
        subprotocols: Sequence[str] = (),
        origin: str | None = None,
        compression: bool = False,
        origins: Sequence[str | None] | None = None,
        accept: Callable[[WebSocketRequest], Accept | Refuse] | None = None,
        patience: float = 10.0,
    ) -> None:
        """All are optional.

        Of a client: `url` replaces the endpoint's, for endpoints that have none; `headers` are sent with the request,
        and `origin` as a browser would. Redirections are not followed.

        Of a listener: `origins` are those of browsers that may connect, `None` in it stands for clients that name
        none; without `origins` all may. `accept` decides about each request; without it the first of the own
        `subprotocols` is chosen that a client offers, and a client that offers none of them is refused.

        Of both: `compression` offers or takes permessage-deflate, which costs some 300 KB of memory a connection and
        must not mix secrets with text that an attacker chooses. `patience` is how many seconds the handshake may take.
        """
        self.url = url
        self.headers = tuple(headers.items() if isinstance(headers, Mapping) else headers)
        self.subprotocols = tuple(subprotocols)
        self.origin = origin
        self.compression = compression
        self.origins = None if origins is None else tuple(origins)
        self.accept = accept
        self.patience = patience
        _check_sent(self.headers)
        if origin is not None and check_headers((("Origin", origin),)) is not None:
            raise Misuse(f"{origin!r} is no origin")
        for one in self.subprotocols:
            if not _SUBPROTOCOL.fullmatch(one):
                raise Misuse(f"{one!r} is no subprotocol: it is one word (RFC 6455 section 4.1)")

    def attach(self, stack: Stack, place: int, link: Link) -> None:
        super().attach(stack, place, link)
        self._reader = HeadReader(request=link.is_server)
        self._client: ClientProtocol | None = None
        self._details: WebSocketDetails | None = None

    def start(self) -> bool:
        self.schedule_wakeup(self.patience)
        if not self.link.is_server:
            self._ask()
        return False

    def input(self, message: Message) -> None:
        if self._details is not None:
            self.deliver(message)
            return
        try:
            found = self._reader.feed(message.content)
        except PeerViolation as violation:
            if self.link.is_server:
                self._answer(self._server().reject(HTTPStatus.BAD_REQUEST, f"{violation}\n"))
            raise
        if found is None:
            return
        head, rest = found
        self._details = self._judge_request(head) if self.link.is_server else self._judge_response(head, rest)
        self.schedule_wakeup(None)
        self.mark_ready()
        if rest:
            self.deliver(Message(rest, False))

    def wakeup(self) -> None:
        raise TimedOut("the opening handshake of WebSocket", self.patience)

    def describe(self) -> WebSocketDetails | None:
        return self._details

    @property
    def _peer(self) -> str:
        return self.link.host or "client"

    @property
    def _url(self) -> str:
        return self.url or self.link.url or ""

    def _ask(self) -> None:
        from websockets.client import ClientProtocol
        from websockets.exceptions import InvalidURI
        from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
        from websockets.typing import Origin, Subprotocol
        from websockets.uri import parse_uri

        if not self._url:
            error = Misuse("WebSocket needs a URL, and the endpoint is none")
            error.hint = "connect to ws://HOST:PORT/PATH, or give Parameters.websocket a url"
            raise error
        try:
            target = parse_uri(self._url)
        except (InvalidURI, ValueError) as reason:
            raise Misuse(f"{self._url!r} is no URL of a WebSocket: {reason}") from None
        if target.secure and self.about(Tls) is None:
            error = Misuse(f"{self._url} asks for TLS, and there is none below WebSocket")
            error.hint = "use Parameters.websocket(), which has it, or a URL with ws:"
            raise error
        self._client = ClientProtocol(
            target,
            origin=None if self.origin is None else Origin(self.origin),
            extensions=[ClientPerMessageDeflateFactory()] if self.compression else None,
            subprotocols=[Subprotocol(one) for one in self.subprotocols] or None,
        )
        request = self._client.connect()
        for name, value in self.headers:
            request.headers[name] = value
        self.write(Message(request.serialize(), False))

    def _judge_response(self, head: Head, rest: bytes) -> WebSocketDetails:
        from websockets.datastructures import Headers as Fields
        from websockets.exceptions import InvalidHandshake
        from websockets.http11 import Response

        client = self._client
        if client is None:
            raise PeerViolation("early-message", "an answer before the request")
        status = int(head.words["status"])
        if status != HTTPStatus.SWITCHING_PROTOCOLS:
            raise self._refusal(head, status, rest)
        try:
            client.process_response(Response(status, head.words["reason"], Fields(head.headers)))
        except InvalidHandshake as reason:
            raise PeerViolation("websocket-opening", str(reason)) from None
        resource = client.uri.resource_name
        deflate = _agreed(client.extensions)
        return WebSocketDetails(resource, status, head.headers, client.subprotocol, self.origin, deflate)

    def _refusal(self, head: Head, status: int, rest: bytes) -> WebSocketRefused:
        words = f"the server answers {status} {head.words['reason']}".rstrip() + " instead of opening a WebSocket"
        location = head.first("location")
        hint = None
        if 300 <= status < 400 and location is not None:
            words = f"the server redirects ({status}) to {location[:200]}"
            hint = "redirections are not followed: connect to the new URL if you trust it"
        elif status == HTTPStatus.UNAUTHORIZED:
            hint = "the server wants to know who you are: give Parameters.websocket headers with Authorization"
        return WebSocketRefused(self._url, status, words, head.headers, rest[:_MAX_REFUSAL], hint)

    def _judge_request(self, head: Head) -> WebSocketDetails:
        from websockets.datastructures import Headers as Fields
        from websockets.http11 import Request

        words = head.words
        if (
            head.first("host") is None
            or head.first("transfer-encoding")
            or (head.first("content-length") or "0") != "0"
        ):
            fault = "a request without Host, or with a body"
            self._answer(self._server().reject(HTTPStatus.BAD_REQUEST, f"{fault}\n"))
            raise WebSocketRefused(self._peer, HTTPStatus.BAD_REQUEST, fault)
        decision = _Decision(self.accept, head)
        server = self._server(decision if self.accept is not None else None)
        request = Request(words["target"], Fields(head.headers), words["method"], f"HTTP/{words['version']}")
        answer = server.accept(request)
        verdict = decision.verdict
        if isinstance(verdict, Refuse):
            answer = server.reject(verdict.status, verdict.words)
        for name, value in (*self.headers, *(verdict.headers if verdict is not None else ())):
            answer.headers[name] = value
        self._answer(answer)
        if decision.error is not None:
            raise decision.error
        if answer.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            why = str(server.handshake_exc or answer.reason_phrase)
            said = f"this client was refused with {answer.status_code}: {why}"
            raise WebSocketRefused(self._peer, answer.status_code, said)
        return WebSocketDetails(
            words["target"],
            answer.status_code,
            head.headers,
            server.subprotocol,
            server.origin,
            _agreed(server.extensions),
        )

    def _server(self, decision: _Decision | None = None) -> ServerProtocol:
        from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
        from websockets.server import ServerProtocol
        from websockets.typing import Origin, Subprotocol

        return ServerProtocol(
            origins=None if self.origins is None else [None if one is None else Origin(one) for one in self.origins],
            extensions=[ServerPerMessageDeflateFactory()] if self.compression else None,
            subprotocols=[Subprotocol(one) for one in self.subprotocols] or None,
            select_subprotocol=None if decision is None else lambda _server, offered: decision.select(offered),
        )

    def _answer(self, answer: Response) -> None:
        self.write(Message(answer.serialize(), False))


class _Decision:
    """The program's word on a request in which the protocol found no fault."""

    def __init__(self, accept: Callable[[WebSocketRequest], Accept | Refuse] | None, head: Head) -> None:
        self.verdict: Accept | Refuse | None = None
        self.error: Exception | None = None
        self._accept = accept
        self._head = head

    def select(self, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        head = self._head
        request = WebSocketRequest(head.words["target"], head.headers, tuple(offered), head.first("origin"))
        try:
            verdict = self._accept(request) if self._accept is not None else Accept()
            if not isinstance(verdict, (Accept, Refuse)):
                # Such as a coroutine: what is no word of welcome must not let anybody in.
                raise Misuse(f"accept gives Accept or Refuse, and has given {verdict!r}")
            if isinstance(verdict, Accept) and verdict.subprotocol not in (None, *offered):
                raise Misuse(f"the client has not offered the subprotocol {verdict.subprotocol!r}")
        except Exception as error:
            # The client is told that something broke here; what, is for those who wrote it.
            self.error, verdict = error, Refuse(500)
        self.verdict = verdict
        chosen = verdict.subprotocol if isinstance(verdict, Accept) else None
        return next((one for one in offered if one == chosen), None)


def _agreed(extensions: Sequence[Extension]) -> Deflate | None:
    from websockets.extensions.permessage_deflate import PerMessageDeflate

    for one in extensions:
        if isinstance(one, PerMessageDeflate):
            return Deflate(
                one.local_max_window_bits,
                one.remote_max_window_bits,
                not one.local_no_context_takeover,
                not one.remote_no_context_takeover,
            )
    return None


def _check_sent(headers: tuple[tuple[str, str], ...]) -> None:
    wrong = check_headers(headers)
    if wrong is not None:
        raise Misuse(f"{wrong!r} cannot be sent as a header")
    for name, _value in headers:
        if name.lower() in _SET_BY_PROTOCOL or name.lower().startswith("sec-websocket-"):
            raise Misuse(f"the protocol itself sets the header {name}")
