"""The opening handshake: what is asked for, what is answered, and who is turned away (RFC 6455 section 4)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.connection import Endpoint, Parameters
from towpath.errors import EndOfStream, Misuse, PeerViolation, TimedOut
from towpath.protocols import (
    Accept,
    Refuse,
    Tls,
    WebSocket,
    WebSocketOpening,
    WebSocketRefused,
    WebSocketRequest,
)
from towpath.testing import FramerHarness

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The pair that RFC 6455 section 1.3 shows."""

REQUEST = {
    "Host": "peer.test",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def request(line: str = "GET /chat?x=1 HTTP/1.1", **changes: str | None) -> bytes:
    """A client's request; a field that is `None` is left out."""
    fields = REQUEST | {name.replace("_", "-"): value for name, value in changes.items()}
    text = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{line}\r\n{text}\r\n".encode("latin-1")


def server(**settings: Any) -> FramerHarness:
    return FramerHarness(WebSocketOpening(**settings), WebSocket(), is_server=True, host="client.test")


def client(url: str = "ws://peer.test/chat", **settings: Any) -> FramerHarness:
    return FramerHarness(WebSocketOpening(**settings), WebSocket(), url=url)


def fields_of(data: bytes) -> tuple[str, dict[str, str]]:
    line, *fields = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    return line, dict(field.split(": ", 1) for field in fields)


def answer_to(asked: bytes, line: str = "HTTP/1.1 101 Switching Protocols", **changes: str | None) -> bytes:
    """A server's answer to what a client asked."""
    from websockets.utils import accept_key

    fields: dict[str, str | None] = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_key(fields_of(asked)[1]["Sec-WebSocket-Key"]),
    }
    fields |= {name.replace("_", "-"): value for name, value in changes.items()}
    text = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value is not None)
    return f"{line}\r\n{text}\r\n".encode("latin-1")


def test_a_server_answers_as_the_rfc_shows() -> None:
    end = server()
    end.feed(request())
    line, fields = fields_of(end.take_sent())
    assert line == "HTTP/1.1 101 Switching Protocols"
    assert fields["Sec-WebSocket-Accept"] == ACCEPT
    assert end.is_ready
    details = end.stack.about(WebSocketOpening)
    assert details is not None
    assert (details.resource, details.status, details.subprotocol) == ("/chat?x=1", 101, None)
    assert ("Host", "peer.test") in details.headers
    assert [one.protocol for one in end.stack.handshakes] == ["WebSocketOpening"]


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("ws://peer.test", "peer.test", "/"),
        ("ws://peer.test:8080/a/b?c=d", "peer.test:8080", "/a/b?c=d"),
        ("ws://[2001:db8::1]:81/", "[2001:db8::1]:81", "/"),
        ("ws://peer.test/gr\u00fcn", "peer.test", "/gr%C3%BCn"),
    ],
)
def test_a_client_asks_for_its_url(url: str, host: str, target: str) -> None:
    end = client(url, headers={"X-Mine": "yes"}, origin="https://news.example", subprotocols=["a", "b"])
    line, fields = fields_of(end.take_sent())
    assert line == f"GET {target} HTTP/1.1"
    assert (fields["Host"], fields["X-Mine"], fields["Origin"]) == (host, "yes", "https://news.example")
    assert (fields["Upgrade"], fields["Sec-WebSocket-Version"]) == ("websocket", "13")
    assert fields["Sec-WebSocket-Protocol"] == "a, b"
    assert "Sec-WebSocket-Extensions" not in fields


def test_a_password_in_the_url_is_sent_as_one() -> None:
    _line, fields = fields_of(client("ws://ada:secret@peer.test/").take_sent())
    assert fields["Authorization"] == "Basic YWRhOnNlY3JldA=="


def test_a_client_knows_what_the_server_said() -> None:
    end = client(subprotocols=["a", "b"])
    end.feed(answer_to(end.take_sent(), Sec_WebSocket_Protocol="b", Server="news/1"))
    details = end.stack.about(WebSocketOpening)
    assert details is not None
    assert (details.subprotocol, details.status) == ("b", 101)
    assert ("Server", "news/1") in details.headers
    assert end.stack.handshakes[0].about == details


def test_heads_may_come_byte_by_byte() -> None:
    far, near = server(), client()
    far.feed_in(bytes((one,)) for one in near.take_sent())
    near.feed_in(bytes((one,)) for one in far.take_sent())
    assert near.is_ready
    assert far.is_ready


def test_a_graceful_end_takes_no_longer_than_the_peers_close() -> None:
    far, near = server(), client()
    near.talk_with(far)
    near.stack.stop()
    assert not near.is_stopped
    near.talk_with(far)
    assert near.is_stopped


def test_what_comes_with_the_answer_is_a_message_already() -> None:
    end = client()
    end.feed(answer_to(end.take_sent()) + b"\x81\x05hello")
    assert [one.content for one in end.take_received()] == [b"hello"]


REFUSALS: dict[str, tuple[bytes, int]] = {
    "no upgrade": (request(Upgrade=None, Connection=None), 426),
    "another upgrade": (request(Upgrade="h2c"), 426),
    "a plain GET": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
    "POST": (request("POST / HTTP/1.1"), 405),
    "HTTP/1.0": (request("GET / HTTP/1.0"), 505),
    "another version": (request(Sec_WebSocket_Version="8"), 400),
    "no key": (request(Sec_WebSocket_Key=None), 400),
    "a short key": (request(Sec_WebSocket_Key="AAAA"), 400),
    "a key that is none": (request(Sec_WebSocket_Key="****"), 400),
    "no host": (request(Host=None), 400),
    "a body": (request(Content_Length="5"), 400),
    "a body in chunks": (request(Transfer_Encoding="chunked"), 400),
    "subprotocols that are none": (request(Sec_WebSocket_Protocol='a, "'), 400),
    "extensions that are none": (request(Sec_WebSocket_Extensions=";;"), 400),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_request_that_is_none_is_refused_with_a_status(name: str) -> None:
    data, status = REFUSALS[name]
    end = server(compression=True, subprotocols=["a"] if "subprotocols" in name else [])
    end.feed(data)
    assert isinstance(end.error, WebSocketRefused)
    assert end.error.status == status
    assert end.take_sent().startswith(b"HTTP/1.1 %d " % status)


MALFORMED = {
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a space in the target": request("GET /a b HTTP/1.1"),
    "a target without a slash": request("GET a HTTP/1.1"),
    "a field without a colon": request("GET / HTTP/1.1\r\nnothing"),
    "a field name with a space": request("GET / HTTP/1.1\r\nHost : x"),
    "a folded line": request("GET / HTTP/1.1\r\nX: a\r\n b"),
    "a zero byte": request(X_Zero="a\0b"),
    "a bare line feed": request(X_Feed="a\nb: c"),
    "too long": request(X_Long="x" * 20_000),
    "without end": b"GET / HTTP/1.1\r\n" + b"x" * 20_000,
    "too many fields": request("GET / HTTP/1.1" + "\r\nx: y" * 101),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_request_is_a_violation(name: str) -> None:
    end = server()
    end.feed(MALFORMED[name])
    assert isinstance(end.error, PeerViolation)
    assert end.error.fault == "websocket-head"
    assert end.take_sent().startswith(b"HTTP/1.1 400 ")


CHOICES: dict[str, tuple[dict[str, Any], dict[str, str], int, str | None]] = {
    "the server's order counts": ({"subprotocols": ["b", "a"]}, {"Sec_WebSocket_Protocol": "a, b"}, 101, "b"),
    "none is offered": ({"subprotocols": ["a"]}, {}, 400, None),
    "another is offered": ({"subprotocols": ["a"]}, {"Sec_WebSocket_Protocol": "c"}, 400, None),
    "none is known": ({}, {"Sec_WebSocket_Protocol": "a"}, 101, None),
    "the program chooses": ({"accept": lambda _: Accept("b")}, {"Sec_WebSocket_Protocol": "a, b"}, 101, "b"),
    "the program refuses": ({"accept": lambda _: Refuse(401, "who?")}, {}, 401, None),
    "the program redirects": ({"accept": lambda _: Refuse(307, headers=(("Location", "/new"),))}, {}, 307, None),
    "a good origin": ({"origins": ["https://a.test"]}, {"Origin": "https://a.test"}, 101, None),
    "another origin": ({"origins": ["https://a.test"]}, {"Origin": "https://b.test"}, 403, None),
    "no origin": ({"origins": ["https://a.test"]}, {}, 403, None),
    "no origin is welcome": ({"origins": ["https://a.test", None]}, {}, 101, None),
}


@pytest.mark.parametrize("name", CHOICES)
def test_a_listener_chooses(name: str) -> None:
    settings, fields, status, subprotocol = CHOICES[name]
    end = server(**settings)
    end.feed(request(**fields))
    line, answered = fields_of(end.take_sent().partition(b"\r\n\r\n")[0])
    assert line.split(" ")[1] == str(status)
    assert end.is_ready is (status == 101)
    assert answered.get("Sec-WebSocket-Protocol") == subprotocol
    assert isinstance(end.error, WebSocketRefused) is (status != 101)


def test_the_program_sees_the_request_before_it_decides() -> None:
    seen: list[WebSocketRequest] = []

    def look(asked: WebSocketRequest) -> Accept:
        seen.append(asked)
        return Accept(headers=(("X-Answer", "yes"),))

    end = server(accept=look)
    end.feed(request(Sec_WebSocket_Protocol="a, b", Origin="https://a.test", Cookie="id=7"))
    (asked,) = seen
    assert (asked.resource, asked.subprotocols, asked.origin) == ("/chat?x=1", ("a", "b"), "https://a.test")
    assert asked.header("cookie") == "id=7"
    assert fields_of(end.take_sent())[1]["X-Answer"] == "yes"


def test_the_program_is_not_asked_about_what_the_protocol_refuses() -> None:
    def never(_asked: WebSocketRequest) -> Accept:
        raise AssertionError

    for data, _status in REFUSALS.values():
        end = server(accept=never, compression=True)
        end.feed(data)
        assert isinstance(end.error, WebSocketRefused)


@pytest.mark.parametrize("answer", [Accept("c"), ZeroDivisionError(), None, True])
def test_a_program_that_decides_wrongly_is_an_error_here_and_500_there(answer: Any) -> None:
    def decide(_asked: WebSocketRequest) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    end = server(accept=decide)
    end.feed(request(Sec_WebSocket_Protocol="a"))
    assert end.error is not None
    assert not isinstance(end.error, (PeerViolation, WebSocketRefused))
    assert end.take_sent().startswith(b"HTTP/1.1 500 ")


@pytest.mark.parametrize(
    ("line", "fields", "hint"),
    [
        ("HTTP/1.1 302 Found", {"Location": "https://evil.test/"}, "not followed"),
        ("HTTP/1.1 401 Unauthorized", {}, "Authorization"),
        ("HTTP/1.1 403", {}, None),
        ("HTTP/1.1 200 OK", {"Content-Length": "5"}, None),
        ("HTTP/1.1 503 Service Unavailable", {}, None),
    ],
)
def test_another_answer_than_101_is_told_with_status_and_headers(
    line: str, fields: dict[str, str], hint: str | None
) -> None:
    end = client()
    end.feed(answer_to(end.take_sent(), line, **fields) + b"sorry")
    assert isinstance(end.error, WebSocketRefused)
    assert end.error.status == int(line.split(" ")[1])
    assert all(one in end.error.headers for one in fields.items())
    assert end.error.body == b"sorry"
    assert (hint is None) is (end.error.hint is None)
    assert hint is None or hint in str(end.error.hint)


@pytest.mark.parametrize(
    "changes",
    [
        {"Sec_WebSocket_Accept": "AAAA"},
        {"Sec_WebSocket_Accept": None},
        {"Upgrade": None},
        {"Upgrade": "h2c"},
        {"Connection": "close"},
        {"Sec_WebSocket_Protocol": "unasked"},
        {"Sec_WebSocket_Extensions": "permessage-deflate"},
        {"line": "HTTP/1.0 101 Switching Protocols"},
        {"line": "HTTP/1.1 999 x"},
        {"line": "ICY 200 OK"},
    ],
)
def test_a_wrong_101_is_a_violation(changes: dict[str, str]) -> None:
    end = client()
    end.feed(answer_to(end.take_sent(), **changes))
    assert isinstance(end.error, PeerViolation)
    assert not end.is_ready


def test_extensions_that_were_offered_may_be_narrowed_and_not_widened() -> None:
    for parameters, good in (("client_max_window_bits=10", True), ("client_max_window_bits=7", False), ("x=1", False)):
        end = client(compression=True)
        end.feed(answer_to(end.take_sent(), Sec_WebSocket_Extensions=f"permessage-deflate; {parameters}"))
        details = end.stack.about(WebSocketOpening)
        assert (details is not None) is good
        assert details is None or (details.deflate is not None and details.deflate.sending_bits == 10)


@pytest.mark.parametrize(
    "settings",
    [
        {"headers": {"X": "a\r\nY: b"}},
        {"headers": {"X Y": "a"}},
        {"headers": {"Sec-WebSocket-Key": "a"}},
        {"headers": {"Host": "a"}},
        {"origin": "a\nb"},
        {"subprotocols": ["a b"]},
        {"subprotocols": [""]},
    ],
)
def test_settings_that_cannot_be_sent_are_misuse(settings: dict[str, Any]) -> None:
    with pytest.raises(Misuse):
        WebSocketOpening(**settings)


@pytest.mark.parametrize("status", [101, 200, 299, 600, 499])
def test_a_refusal_has_a_status_that_refuses(status: int) -> None:
    with pytest.raises(Misuse):
        Refuse(status)


@pytest.mark.parametrize("url", ["", "http://peer.test/", "ws://peer.test/#part", "wss://peer.test/"])
def test_a_client_needs_a_url_of_a_websocket_and_tls_for_wss(url: str) -> None:
    assert isinstance(client(url).error, Misuse)


def test_the_scheme_of_the_url_decides_about_tls() -> None:
    parameters = Parameters.websocket()
    assert isinstance(parameters.toward(Endpoint.parse("wss://peer.test/")).layers[0], Tls)
    assert isinstance(parameters.toward(Endpoint.parse("ws://peer.test/")).layers[0], WebSocketOpening)
    other = Parameters.tls()
    assert other.toward(Endpoint.parse("ws://peer.test/")) is other


@pytest.mark.parametrize("is_server", [False, True])
def test_nobody_is_waited_for_without_end(is_server: bool) -> None:
    end = server(patience=3) if is_server else client(patience=3)
    end.feed(b"")
    end.advance(2.9)
    assert end.error is None
    end.advance(0.1)
    assert isinstance(end.error, TimedOut)


def test_patience_ends_with_the_handshake() -> None:
    end = server(patience=3)
    end.feed(request())
    end.advance(100)
    assert end.error is None


def test_a_peer_that_leaves_before_its_answer_fails_it() -> None:
    end = client()
    end.feed(b"HTTP/1.1 101 Swi")
    end.feed_end()
    assert isinstance(end.error, EndOfStream)


@given(
    data=st.one_of(st.binary(max_size=300), st.builds(lambda tail: request() + tail, st.binary(max_size=60))),
    places=st.lists(st.integers(0, 10_000), max_size=8),
)
def test_any_request_ends_alike_however_it_is_cut(data: bytes, places: list[int]) -> None:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    outcomes = []
    for chunks in ([data], [data[start:end] for start, end in itertools.pairwise(edges)]):
        end = server()
        end.feed_in(chunks)
        outcomes.append((end.is_ready, str(end.error), end.take_received()))
    assert outcomes[0] == outcomes[1]


@given(st.binary(max_size=300))
def test_any_answer_is_an_error_of_ours_or_not_yet(data: bytes) -> None:
    end = client()
    end.feed(b"HTTP/1.1 101 x\r\n" + data)
    assert end.error is None or isinstance(end.error, (PeerViolation, WebSocketRefused))
    assert not end.is_ready
