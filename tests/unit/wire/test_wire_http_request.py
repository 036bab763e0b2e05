"""HTTP/1 requests: which host each asks for, and nothing that could be read in two ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import PeerViolation
from towpath.wire.http_request import Head, RequestReader, looks_like

GET = b"GET /a?b=c HTTP/1.1\r\nHost: Good.test:8080\r\nAccept: */*\r\n\r\n"
LENGTH = b"POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = (
    b"PUT / HTTP/1.1\r\nhost:c.test\r\nTransfer-Encoding: Chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\n"
)
OLD = b"GET / HTTP/1.0\r\nHost: [2001:DB8:0::1]:80\r\n\r\n"


def read(data: bytes, size: int | None = None) -> list[Head | bytes]:
    """All parts, body pieces that follow each other joined."""
    reader = RequestReader()
    parts: list[Head | bytes] = []
    step = size or len(data) or 1
    for at in range(0, len(data), step):
        for part in reader.receive(data[at : at + step]):
            if parts and isinstance(part, bytes) and isinstance(parts[-1], bytes):
                parts[-1] += part
            else:
                parts.append(part)
    reader.end()
    return parts


def head(*lines: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"\r\n".join((line, *lines, b"", b""))


def fault_of(data: bytes) -> str:
    with pytest.raises(PeerViolation) as raised:
        read(data)
    return raised.value.fault


def test_a_head_says_method_target_host_and_port() -> None:
    assert read(GET) == [Head("GET", "/a?b=c", "good.test", 8080, None, GET)]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"good.test", ("good.test", None)),
        (b"GOOD.test:80", ("good.test", 80)),
        (b"192.0.2.1:1", ("192.0.2.1", 1)),
        (b"[2001:DB8:0::1]", ("2001:db8::1", None)),
        (b"[::ffff:192.0.2.1]:65535", ("::ffff:192.0.2.1", 65535)),
        (b"localhost", ("localhost", None)),
        (b"my_host.test", ("my_host.test", None)),
    ],
)
def test_hosts_and_ports_are_read(host: bytes, expected: tuple[str, int | None]) -> None:
    (part,) = read(head(b"Host: " + host))
    assert isinstance(part, Head)
    assert (part.host, part.port) == expected


def test_requests_follow_each_other_on_one_connection() -> None:
    parts = read(GET + LENGTH + CHUNKED + OLD)
    assert [part.host if isinstance(part, Head) else "body" for part in parts] == [
        "good.test", "b.test", "body", "c.test", "body", "2001:db8::1",
    ]  # fmt: skip
    assert b"".join(part if isinstance(part, bytes) else part.raw for part in parts) == GET + LENGTH + CHUNKED + OLD


@given(st.lists(st.sampled_from([GET, LENGTH, CHUNKED, OLD]), max_size=4), st.integers(1, 40))
def test_any_cut_gives_the_same_parts(requests: list[bytes], size: int) -> None:
    assert read(b"".join(requests), size) == read(b"".join(requests))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (head(b"Host: a.test", line=b"GET http://a.test/ HTTP/1.1"), "http-proxy-request"),
        (head(b"Host: a.test", line=b"CONNECT a.test:443 HTTP/1.1"), "http-proxy-request"),
        (head(b"Host: a.test", line=b"GET * HTTP/1.1"), "http-proxy-request"),
        (b"GET /\r\n", "http-request-line"),
        (b"GET  / HTTP/1.1\r\n", "http-not-a-request"),
        (b"GET /  HTTP/1.1\r\n", "http-request-line"),
        (b"GET /\tx HTTP/1.1\r\n", "http-target"),
        (b"GET /a#b HTTP/1.1\r\n", "http-target"),
        (b"GET /\xff HTTP/1.1\r\n", "http-target"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "http-version"),
        (b"GET / HTTP/1.2\r\n", "http-version"),
        (b"GET / http/1.1\r\n", "http-version"),
        (head(), "http-host"),
        (head(b"Host: a.test", b"Host: a.test"), "http-host"),
        (head(b"Host:"), "http-host"),
        (head(b"Host: a.test/"), "http-host"),
        (head(b"Host: u@a.test"), "http-host"),
        (head(b"Host: a.test."), "http-host"),
        (head(b"Host: a.test:"), "http-host"),
        (head(b"Host: a.test:0"), "http-host"),
        (head(b"Host: a.test:65536"), "http-host"),
        (head(b"Host: a.test, b.test"), "http-host"),
        (head(b"Host: [::1"), "http-host"),
        (head(b"Host: [1.2.3.4]"), "http-host"),
        (head(b"Host: [::1]x"), "http-host"),
        (head(b"Host: [fe80::1%25eth0]"), "http-host"),
        (b"\r\nGET / HTTP/1.1\r\n", "http-not-a-request"),
        (b"\x00", "http-not-a-request"),
        (b"SSH-2.0-OpenSSH_9.2 Debian\r\n", "http-not-a-request"),
        (b"EHLO mail.test\r\n", "http-not-a-request"),
        (b"GET / HTTP/1.1\n\n", "http-line-end"),
        (b"GET / HTTP/1.1\r\nHost: a\rb\r\n", "http-line-end"),
        (head(b"Host: a.test", b" folded"), "http-folded-field"),
        (head(b"Host : a.test"), "http-field"),
        (head(b"Host: a.test", b": x"), "http-field"),
        (head(b"Host: a.test", b"x"), "http-field"),
        (head(b"Host: a.test", b"X: a\0b"), "http-field"),
        (head(b"Host: a.test", b"X: a\x7fb"), "http-field"),
        (head(b"Host: a.test", b"Content-Length: 1", b"Transfer-Encoding: chunked"), "http-transfer-encoding"),
        (head(b"Host: a.test", b"Transfer-Encoding: gzip, chunked"), "http-transfer-encoding"),
        (head(b"Host: a.test", b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"), "http-transfer-encoding"),
        (head(b"Host: a.test", b"Transfer-Encoding: chunked", line=b"GET / HTTP/1.0"), "http-transfer-encoding"),
        (head(b"Host: a.test", b"Content-Length: 1", b"Content-Length: 2"), "http-content-length"),
        (head(b"Host: a.test", b"Content-Length: 1, 1"), "http-content-length"),
        (head(b"Host: a.test", b"Content-Length: +1"), "http-content-length"),
        (head(b"Host: a.test", b"Content-Length: "), "http-content-length"),
        (head(b"Host: a.test", b"HTTP2-Settings: x"), "http-upgrade"),
        (head(b"Host: a.test", b"Upgrade: TLS/1.0"), "http-upgrade"),
        (head(b"Host: a.test", b"Upgrade: websocket, h2c"), "http-upgrade"),
        (head(b"Host: a.test", b"Upgrade: websocket", line=b"GET / HTTP/1.0"), "http-upgrade"),
        (b"GET /" + b"a" * 70000, "http-too-long"),
        (head(b"Host: a.test", *[b"X: " + b"a" * 1000] * 70), "http-too-long"),
        (CHUNKED.replace(b"5;ext=1", b"0x5"), "http-chunk"),
        (CHUNKED.replace(b"5;ext=1", b""), "http-chunk"),
        (CHUNKED.replace(b"5;ext=1", b"5 "), "http-chunk"),
        (CHUNKED.replace(b"5;ext=1", b"1000000000000000"), "http-chunk"),
        (CHUNKED.replace(b"5;ext=1", b"5;\x01"), "http-chunk"),
        (CHUNKED.replace(b"5;ext=1", b"4"), "http-chunk"),
        (CHUNKED.replace(b"5;ext=1", b"5;" + b"a" * 2000), "http-too-long"),
        (CHUNKED.replace(b"X-Sum", b"Host"), "http-trailer"),
        (GET[:-1], "http-cut-off"),
        (LENGTH[:-1], "http-cut-off"),
        (CHUNKED[:-1], "http-cut-off"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(data: bytes, fault: str) -> None:
    assert fault_of(data) == fault


def test_a_fault_stays() -> None:
    reader = RequestReader()
    for call in (lambda: reader.receive(b"\0"), lambda: reader.receive(GET), reader.end, reader.become_opaque):
        with pytest.raises(PeerViolation, match="http-not-a-request"):
            call()


def test_equal_lengths_twice_are_one_length() -> None:
    data = LENGTH.replace(b"Content-Length: 5", b"Content-Length: 5\r\nContent-Length: 5")
    assert read(data)[1] == b"hello"


def test_an_upgrade_to_websocket_passes_everything_after_the_servers_yes() -> None:
    request = head(b"Host: a.test", b"Connection: Upgrade", b"Upgrade: WebSocket")
    reader = RequestReader()
    (part,) = reader.receive(request)
    assert isinstance(part, Head)
    assert part.upgrade == "websocket"
    assert reader.receive(b"GET") == []
    assert reader.become_opaque() == [b"GET"]
    assert reader.receive(b"\x81\x00\r\n") == [b"\x81\x00\r\n"]
    assert reader.receive(b"") == []
    reader.end()


def test_a_yes_to_an_upgrade_nobody_asked_for_is_refused() -> None:
    reader = RequestReader()
    reader.receive(GET)
    with pytest.raises(PeerViolation, match="http-upgrade"):
        reader.become_opaque()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", None),
        (b"GE", None),
        (b"GET ", None),
        (b"GET /", True),
        (b"OPTIONS *", True),
        (b"GET ht", None),
        (b"GET http://x", True),
        (b"GET https", None),
        (b"GET https://x", True),
        (b"CONNECT a", True),
        (b"PRI * HTTP/2.0", True),
        (b"get /", False),
        (b" ", False),
        (b"\x16\x03\x01", False),
        (b"SSH-2.0-x", False),
        (b"EHLO x", False),
        (b"A" * 30, False),
    ],
)
def test_first_bytes_look_like_a_request_or_not(data: bytes, expected: bool | None) -> None:
    assert looks_like(data) is expected


@pytest.mark.parametrize(
    ("offered", "passed"),
    [
        ([b"Upgrade: h2c", b"HTTP2-Settings: x", b"Connection: Upgrade, HTTP2-Settings"], []),
        ([b"upgrade:H2C", b"Connection: upgrade"], []),
        ([b"Connection: close, Upgrade", b"Upgrade: h2c", b"Accept: */*"], [b"Connection: close", b"Accept: */*"]),
    ],
)
def test_an_offer_of_http2_is_left_out_of_what_is_passed_on(offered: list[bytes], passed: list[bytes]) -> None:
    (found,) = RequestReader().receive(head(b"Host: a.test", *offered))
    assert isinstance(found, Head)
    assert found.upgrade is None
    assert found.raw == head(b"Host: a.test", *passed)
