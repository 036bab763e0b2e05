"""A client that is asked to greet again is judged again (HelloRetryRequest, RFC 8446 section 4.1.4)."""

from __future__ import annotations

import hashlib
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from tests.support.running import Runner, python

from towpath.testing import Lab

_PORT = 6010
_RETRY = b"\x02\x00\x00\x22\x03\x03" + hashlib.sha256(b"HelloRetryRequest").digest()
_ACCEPTED = b"\x02\x00\x00\x22\x03\x03" + bytes(32)

_CLIENT = """
import socket, ssl, sys
def hello(name):
    out = ssl.MemoryBIO()
    context = ssl.create_default_context()
    try: context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    except ssl.SSLWantReadError: pass
    return out.read()
first, second, early = sys.argv[1:]
s = socket.create_connection(("git.test", 6010), 60)
s.sendall(hello(first) + bytes.fromhex(early))
if second:
    s.recv(65536)
    s.sendall(b"\\x14\\x03\\x03\\0\\1\\1")
    for byte in hello(second): s.sendall(bytes([byte]))
try: print("answer", s.recv(100)[:6])
except ConnectionResetError: print("reset")
"""


def _record(message: bytes, cut: int = 1 << 14) -> bytes:
    """A handshake message in records of at most `cut` bytes."""
    parts = [message[at : at + cut] for at in range(0, len(message), cut)]
    return b"".join(b"\x16\x03\x03" + len(part).to_bytes(2, "big") + part for part in parts)


def _serve(world: Lab, run: Runner, words: list[str], answer: bytes, *, read_again: bool) -> tuple[str, bytes]:
    """What the client printed, and what the server got after its first answer."""
    listener = world["services"].socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((world["services"].address4, _PORT))
    listener.listen()
    listener.settimeout(60)
    rule = f"tls://git.test:{_PORT}"
    with listener, run.popen("--allow", rule, command=[*python(_CLIENT), *words], stdout=subprocess.PIPE) as process:
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(60)
            got = peer.recv(1 << 16)
            peer.sendall(answer)
            again = b""
            try:
                while read_again and len(again) < 200 and (data := peer.recv(1 << 16)):
                    again += data
                peer.sendall(b"all of it")
            except ConnectionResetError:
                pass
        assert got[:1] == b"\x16"
        assert process.stdout is not None
        return process.stdout.read(), again


@pytest.mark.parametrize("cut", [1 << 14, 1, 20])
def test_a_second_hello_for_the_same_name_passes(run: Runner, world: Lab, cut: int) -> None:
    said, again = _serve(world, run, ["git.test", "git.test", ""], _record(_RETRY, cut), read_again=True)
    assert b"git.test" in again
    assert said == "answer b'all of'\n"


@pytest.mark.parametrize("cut", [1 << 14, 1, 20])
@pytest.mark.parametrize("early", ["", "170303000401020304"])
def test_a_second_hello_for_another_name_is_refused(run: Runner, world: Lab, cut: int, early: str) -> None:
    said, again = _serve(world, run, ["git.test", "evil.test", early], _record(_RETRY, cut), read_again=True)
    assert b"evil" not in again
    assert said == "reset\n"


def test_a_hello_sent_ahead_of_the_answer_waits_for_it(run: Runner, world: Lab) -> None:
    """Were it passed on at once, a server that asks for another would take it unjudged."""
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="evil.test").do_handshake()
    ahead = ["git.test", "", out.read().hex()]
    said, again = _serve(world, run, ahead, _record(_RETRY), read_again=True)
    assert b"evil" not in again
    assert "all of" not in said


def test_a_server_that_does_not_ask_again_ends_the_watch(run: Runner, world: Lab) -> None:
    said, _ = _serve(world, run, ["git.test", "", ""], _record(_ACCEPTED), read_again=False)
    assert said.startswith("answer")


def test_a_real_client_and_a_real_server_that_asks_again_get_along(run: Runner, world: Lab, tmp_path: Path) -> None:
    """The server knows one curve that the client did not bring a key for."""
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert]
    subprocess.run([*make, "-days", "2", "-subj", "/CN=git.test"], check=True, capture_output=True)
    serve = ["openssl", "s_server", "-accept", "6011", "-key", key, "-cert", cert, "-groups", "P-384", "-www", "-quiet"]
    with world["services"].popen(serve, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await_port(world, 6011)
            command = (
                "curl -sk --tls13-ciphers TLS_AES_128_GCM_SHA256 -o /dev/null -w %{http_code} https://git.test:6011/"
            )
            assert run("--allow", "tls://git.test:6011", command=command).out == "200"
        finally:
            server.kill()


def _await_port(world: Lab, port: int) -> None:
    while True:
        probe = world["services"].socket()
        with probe:
            try:
                probe.connect((world["services"].address4, port))
            except ConnectionRefusedError:
                continue
            return
