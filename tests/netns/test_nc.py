"""`towpath nc` against real peers: netcat, socat, openssl, and the Lab's services."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.peers import need
from tests.support.running import TOWPATH
from tests.support.tunnel_lab import eventually

from towpath.testing import Lab, Pki


def nc(world: Lab, *words: str, input: str = "") -> subprocess.CompletedProcess[str]:
    return world["client"].run([TOWPATH, "nc", *words], input=input, timeout=120)


def test_what_is_typed_goes_out_and_what_is_answered_is_printed(world: Lab) -> None:
    done = nc(world, "echo.test", "7", input="hello\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")


def test_a_server_that_speaks_first_is_heard(world: Lab) -> None:
    assert nc(world, "git.test:22").stdout.startswith("SSH-2.0")


def test_a_datagram_is_sent_and_its_answer_printed(world: Lab) -> None:
    assert nc(world, "--udp", "time.test", "9000", input="what time is it?\n").stdout == "what time is it?\n"


def test_tls_is_judged_and_reported(world: Lab) -> None:
    request = "GET / HTTP/1.1\r\nHost: web.test\r\nConnection: close\r\n\r\n"
    done = nc(world, "--tls", "--anchors", world.ca_file, "--json", "web.test", "443", input=request)
    assert "This is web." in done.stdout
    report = json.loads(done.stderr)
    tls = report["establishment"]["handshakes"][0]
    assert tls["protocol"] == "Tls"
    assert tls["about"]["version"] == "TLSv1.3"
    assert tls["about"]["trust"]["accepted"] is True
    assert report["transfer"]["bytes_received"] > len(done.stdout)
    assert report["establishment"]["attempts"][0]["outcome"] == "won"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["web.test", "81"], 1, "refused"),
        (["nothing.test", "80"], 1, "nothing.test"),
        (["--tls", "--anchors", "CA", "--name", "other.test", "web.test", "443"], 3, "other.test"),
        (["--tls", "-w", "1", "web.test", "80"], 1, "took longer than 1 s"),
        (["-l", "--tls", "8443"], 125, "a server shows a certificate"),
        (["-l", "--tls", "--identity", "no.pem", "no.key", "8443"], 125, "there is no file no.pem"),
        (["-l", "--tls", "--identity", "CA", "CA", "8443"], 125, "are no certificate with its key"),
        (["web.test", "80", "tcp"], 125, "is no HOST PORT"),
        (["web.test"], 125, "web.test"),
    ],
)
def test_what_fails_is_one_line_with_a_code(world: Lab, words: list[str], code: int, said: str) -> None:
    done = nc(world, *(world.ca_file if word == "CA" else word for word in words))
    assert done.returncode == code, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_failed_connection_says_every_attempt(world: Lab) -> None:
    done = nc(world, "--report", "web.test", "81")
    assert done.stderr.count("attempt ") == 2
    assert world["web"].address4 in done.stderr
    assert world["web"].address6 in done.stderr


@pytest.mark.parametrize("peer", ["nc", "socat"])
def test_a_listener_serves_other_peoples_netcats(world: Lab, peer: str) -> None:
    need("nc" if peer == "nc" else "socat")
    with world["client"].popen(
        [TOWPATH, "nc", "-l", "127.0.0.1", "8801"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == "towpath: listening on 127.0.0.1:8801\n"
            theirs = ["nc", "-N", "127.0.0.1", "8801"] if peer == "nc" else ["socat", "-", "TCP:127.0.0.1:8801"]
            assert process.stdin is not None
            process.stdin.write("from the listener\n")
            process.stdin.close()
            done = world["client"].run(theirs, input="from the peer\n", timeout=120)
            assert done.stdout == "from the listener\n"
            assert process.stdout is not None
            assert process.stdout.read() == "from the peer\n"
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_openssl_talks_to_a_tls_listener(world: Lab, tmp_path: Path) -> None:
    chain, key = Pki().good("server.test").write(tmp_path)
    with world["client"].popen(
        [TOWPATH, "nc", "-l", "--tls", "--identity", str(chain), str(key), "127.0.0.1", "8802"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert "listening on" in process.stderr.readline()
            client = ["openssl", "s_client", "-quiet", "-connect", "127.0.0.1:8802", "-servername", "server.test"]
            with world["client"].popen(client, stdin=subprocess.PIPE, text=True) as openssl:
                assert openssl.stdin is not None
                openssl.stdin.write("over TLS\n")
                openssl.stdin.flush()
                assert process.stdout is not None
                # Its own end only now: this client goes as soon as it is told that the server has no more to say.
                assert process.stdout.readline() == "over TLS\n"
                process.communicate(timeout=120)
                openssl.communicate(timeout=120)
        finally:
            process.kill()


def test_a_unix_socket_is_an_endpoint_too(world: Lab, tmp_path: Path) -> None:
    need("socat")
    place = tmp_path / "echo.sock"
    with world["client"].popen(["socat", f"UNIX-LISTEN:{place},fork", "EXEC:cat"]) as process:
        try:
            eventually(place.is_socket)
            assert nc(world, "--unix", str(place), input="inside\n").stdout == "inside\n"
        finally:
            process.kill()


def test_a_websocket_carries_lines_as_text_messages(world: Lab) -> None:
    with world["client"].popen(
        [TOWPATH, "nc", "-l", "--websocket", "127.0.0.1", "8803"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert "listening on" in process.stderr.readline()
            assert process.stdin is not None
            process.stdin.write("from the listener\n")
            process.stdin.close()
            done = nc(world, "--websocket", "ws://127.0.0.1:8803/", input="from the client\n")
            assert done.stdout == "from the listener\n", done
            assert process.stdout is not None
            assert process.stdout.read() == "from the client\n"
        finally:
            process.kill()


def test_a_stream_of_quic_goes_both_ways(world: Lab, tmp_path: Path) -> None:
    pki = Pki()
    chain, key = pki.good("server.test").write(tmp_path)
    root = tmp_path / "root.pem"
    root.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    with world["client"].popen(
        [TOWPATH, "nc", "-l", "--quic", "--identity", str(chain), str(key), "127.0.0.1", "8804"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stderr is not None
            assert "listening on" in process.stderr.readline()
            assert process.stdin is not None
            process.stdin.write("from the listener\n")
            process.stdin.close()
            trusted = ["--anchors", str(root), "--name", "server.test"]
            done = nc(world, "--quic", *trusted, "127.0.0.1", "8804", input="from the client\n")
            assert done.stdout == "from the listener\n", done
            assert process.stdout is not None
            assert process.stdout.read() == "from the client\n"
            assert nc(world, "--quic", "127.0.0.1", "8804").returncode in (1, 3)
        finally:
            process.kill()
