"""A QUIC connection outlives the address that it began with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from towpath.testing import Lab, LabHost, LabPlan, Pki

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two hosts on a switch."""
    with LabPlan().switch("office").host("one", on="office").host("two", on="office").start() as made:
        yield made


def program(host: LabHost, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.quic_roamer", *words]
    return host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def ask(process: subprocess.Popen[str], word: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_connection_goes_on_from_another_address(lab: Lab, tmp_path: Path) -> None:
    pki = Pki()
    chain, key = pki.good("news.test").write(tmp_path)
    root = tmp_path / "root.pem"
    root.write_bytes(pki.root.certificate.public_bytes(Encoding.PEM))
    one, two = lab["one"], lab["two"]
    with program(one, "server", str(chain), str(key)) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        assert server.stdout.readline() == "listening\n"
        with program(two, "client", f"{one.address4}:443", str(root)) as client:
            assert client.stdin is not None
            assert ask(client, "before") == "before"
            network, _, last = two.address4.rpartition(".")
            new = f"{network}.{int(last) + 5}"
            find = "set -- $(ip -o -4 address show scope global | head -1); device=$2 old=$4"
            change = f"{find}; ip address del $old dev $device; ip address add {new}/${{old#*/}} dev $device"
            two.run(["sh", "-ec", change], administrator=True, check=True)
            assert ask(client, "after") == "after"
            client.stdin.close()
            assert client.wait(60) == 0
        server.stdin.close()
        assert server.wait(60) == 0
