"""ClientHello: the server a TLS client asks for, from real clients and from broken ones."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.errors import PeerViolation
from towpath.wire.tls_hello import ClientHello, parse_handshake, parse_stream


def real_hello(server_name: str | None = "Good.test", alpn: tuple[str, ...] = ("h2", "http/1.1")) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    context.check_hostname = server_name is not None
    if alpn:
        context.set_alpn_protocols(list(alpn))
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=server_name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


HELLO = real_hello()


def vector(width: int, value: bytes) -> bytes:
    return len(value).to_bytes(width, "big") + value


def extension(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + vector(2, value)


def server_name(*names: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, b"".join(bytes((kind,)) + vector(2, name) for name in names)))


def handshake(*extensions: bytes, version: bytes = b"\3\3", tail: bytes = b"") -> bytes:
    """The smallest hello with these extensions."""
    body = version + bytes(32) + vector(1, b"") + vector(2, b"\x13\x01") + vector(1, b"\0")
    body += (vector(2, b"".join(extensions)) if extensions else b"") + tail
    return b"\1" + vector(3, body)


def records(message: bytes, size: int = 16384) -> bytes:
    return b"".join(b"\x16\3\1" + vector(2, message[at : at + size]) for at in range(0, len(message), size))


def test_a_real_hello_is_read() -> None:
    assert parse_stream(HELLO) == ClientHello("good.test", ("h2", "http/1.1"), False, len(HELLO))
    assert parse_handshake(HELLO[5:]) == ClientHello("good.test", ("h2", "http/1.1"), False, len(HELLO) - 5)


def test_a_client_may_name_no_server_and_no_protocol() -> None:
    assert parse_stream(real_hello(None, ())) == ClientHello(None, (), False, len(real_hello(None, ())))
    assert parse_handshake(handshake()) == ClientHello(None, (), False, len(handshake()))


def test_every_prefix_of_a_hello_waits_for_more() -> None:
    for end in range(len(HELLO)):
        assert parse_stream(HELLO[:end]) is None
        assert parse_handshake(HELLO[5:end]) is None


@given(st.integers(1, 600), st.binary(max_size=10))
@settings(deadline=None)
def test_any_cut_into_records_and_anything_behind_gives_the_same_name(size: int, behind: bytes) -> None:
    stream = records(HELLO[5:], size)
    hello = parse_stream(stream + behind)
    assert hello is not None
    assert (hello.server_name, hello.length) == ("good.test", len(stream))


@pytest.mark.parametrize("kind", [0xFE0D, 0xFFCE])
def test_an_encrypted_hello_is_noticed_beside_the_outer_name(kind: int) -> None:
    hello = parse_handshake(handshake(server_name(b"outer.test"), extension(kind, b"\0")))
    assert hello is not None
    assert (hello.server_name, hello.ech) == ("outer.test", True)


def test_odd_protocol_names_are_escaped() -> None:
    hello = parse_handshake(handshake(extension(16, vector(2, vector(1, b"\xba\xbah2")))))
    assert hello is not None
    assert hello.alpn == ("\\xba\\xbah2",)


def test_an_underscore_may_stand_in_a_name() -> None:
    hello = parse_handshake(handshake(server_name(b"my_bucket.good.test")))
    assert hello is not None
    assert hello.server_name == "my_bucket.good.test"


@pytest.mark.parametrize(
    ("stream", "fault"),
    [
        (b"GET / HTTP/1.1\r\n", "tls-not-handshake"),
        (b"\x15\3\1\0\2\2\x28", "tls-not-handshake"),
        (b"\x80\x2e\1\3\1", "tls-not-handshake"),
        (b"\x16\2", "tls-version"),
        (b"\x16\3\0", "tls-version"),
        (b"\x16\3\4", "tls-version"),
        (b"\x16\3\1\0\0", "tls-record-length"),
        (b"\x16\3\1\x40\1", "tls-record-length"),
        (b"\x16\3\1\0\4\2\0\0\0", "tls-not-hello"),
        (b"\x16\3\1\0\4\1\1\0\0", "tls-hello-too-long"),
        (records(HELLO[5:] + b"\0"), "tls-trailing"),
        (records(HELLO[5:], 100)[:210] + b"\x14\3\3\0\1\1", "tls-not-handshake"),
        (records(b"\1\0\xff\xf0" + bytes(0xFFF0), 1)[:70000], "tls-hello-too-long"),
    ],
)
def test_broken_streams_are_named(stream: bytes, fault: str) -> None:
    with pytest.raises(PeerViolation) as raised:
        parse_stream(stream)
    assert raised.value.fault == fault


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (handshake(version=b"\3\0"), "tls-version"),
        (handshake(version=b"\3\4"), "tls-version"),
        (b"\1\0\0\4\3\3\0\0", "tls-length"),
        (handshake(tail=b"\0"), "tls-length"),
        (handshake(extension(5, b""), tail=b"\0"), "tls-length"),
        (handshake(b"\0\0\0"), "tls-length"),
        (handshake(b"\0\5\0\2x"), "tls-length"),
        (handshake(extension(5, b""), extension(5, b"")), "tls-duplicate-extension"),
        (handshake(server_name(b"a.test"), server_name(b"b.test")), "tls-duplicate-extension"),
        (handshake(server_name(b"a.test", b"b.test")), "tls-server-name"),
        (handshake(extension(0, b"")), "tls-length"),
        (handshake(extension(0, b"\0\0")), "tls-server-name"),
        (handshake(extension(0, b"\0\0\0")), "tls-server-name"),
        (handshake(server_name(b"a.test", kind=1)), "tls-server-name"),
        (handshake(server_name(b"")), "tls-server-name"),
        (handshake(server_name(b"a.test.")), "tls-server-name"),
        (handshake(server_name(b"a..test")), "tls-server-name"),
        (handshake(server_name(b"-a.test")), "tls-server-name"),
        (handshake(server_name(b"a.test\0b.test")), "tls-server-name"),
        (handshake(server_name("bücher.test".encode())), "tls-server-name"),
        (handshake(server_name(b"*.test")), "tls-server-name"),
        (handshake(server_name(b"a" * 64 + b".test")), "tls-server-name"),
        (handshake(server_name(b"a." * 127 + b"test")), "tls-server-name"),
        (handshake(server_name(b"192.0.2.1")), "tls-server-name"),
        (handshake(extension(16, b"\0\0")), "tls-alpn"),
        (handshake(extension(16, b"\0\1\0")), "tls-alpn"),
        (handshake(extension(16, vector(2, vector(1, b"h2")) + b"x")), "tls-alpn"),
    ],
)
def test_broken_hellos_are_named(message: bytes, fault: str) -> None:
    with pytest.raises(PeerViolation) as raised:
        parse_handshake(message)
    assert raised.value.fault == fault


@given(st.binary(max_size=80), st.integers(0, 80))
def test_what_is_refused_early_is_refused_whole(data: bytes, cut: int) -> None:
    """More bytes never turn a refused beginning into a hello."""
    try:
        parse_stream(b"\x16\3" + data[:cut])
    except PeerViolation:
        with pytest.raises(PeerViolation):
            parse_stream(b"\x16\3" + data)
