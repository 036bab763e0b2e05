"""A rule for a QUIC name holds for every connection of a flow, told apart by the names in their hellos."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.quic_programs import CLIENT, SERVER
from tests.support.running import Runner

from towpath.testing import Lab

pytest.importorskip("aioquic")


@pytest.fixture(scope="module")
def server(world: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A QUIC server on the web host, for any name."""
    import trustme

    folder: Path = tmp_path_factory.mktemp("quic")
    certificate = trustme.CA().issue_cert("web.test", "www.web.test")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    words = [sys.executable, "-c", SERVER, str(folder / "certificate.pem"), str(folder / "key.pem")]
    process = world["web"].popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield
    process.kill()
    process.communicate()


def _handshakes(run: Runner, *names: str, allow: str = "web.test:443") -> list[str]:
    done = run("--allow", allow, command=[sys.executable, "-c", CLIENT, "web.test", *names])
    assert done.code == 0, done.err
    return [line.split()[1] for line in done.out.splitlines()]


@pytest.mark.usefixtures("server")
class TestQuicNames:
    def test_the_allowed_name_passes(self, run: Runner) -> None:
        assert _handshakes(run, "web.test") == ["handshake"]

    def test_another_name_at_the_same_address_is_refused(self, run: Runner) -> None:
        assert _handshakes(run, "www.web.test") == ["refused"]

    def test_a_second_connection_on_the_same_ports_is_judged_by_its_own_name(self, run: Runner) -> None:
        first, second = _handshakes(run, "web.test", "www.web.test@1")
        assert (first, second) in (("handshake", "refused"), ("handshake", "nothing"))

    def test_a_second_connection_for_the_same_name_passes(self, run: Runner) -> None:
        assert _handshakes(run, "web.test", "web.test") == ["handshake", "handshake"]

    def test_a_refused_flow_stays_refused(self, run: Runner) -> None:
        assert "handshake" not in _handshakes(run, "www.web.test", "web.test@1")

    def test_quic_does_not_pass_a_rule_for_tls_alone(self, run: Runner) -> None:
        assert _handshakes(run, "web.test", allow="tls://web.test:443") == ["refused"]


@pytest.mark.parametrize(
    "data",
    ["b''", "b'hello'", "bytes(1200)", "b'\\x40' + bytes(1199)", "b'\\xc0\\x00\\x00\\x00\\x01' + bytes(1195)"],
    ids=["empty", "words", "zeros", "short-header", "no-frames"],
)
def test_datagrams_that_are_not_quic_for_the_name_do_not_reach_the_server(run: Runner, world: Lab, data: str) -> None:
    listener = world["tracker"].socket(2, 2)
    listener.bind((world["tracker"].address4, 443))
    listener.setblocking(False)
    source = f"""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.connect((socket.gethostbyname("tracker.test"), 443))
for _ in range(3):
    try: s.send({data}); s.recv(10)
    except OSError as error: print(type(error).__name__)
"""
    with listener:
        done = run("--allow", "quic://tracker.test:443", command=["/usr/bin/python3", "-I", "-c", source])
        assert "Error" in done.out
        with pytest.raises(BlockingIOError):
            listener.recv(2000)
