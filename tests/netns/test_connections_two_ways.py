"""Connections of a host with two ways out: which is used, which may not be, and when a better one is there."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from towpath.testing import Lab, LabHost, LabPlan, TcpEcho

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    plan = LabPlan().switch("wifi").switch("cellular").host("phone", on=("wifi", "cellular"))
    with Lab(plan.host("server", serves=[TcpEcho(port=7)])) as made:
        yield made


@pytest.fixture
def server(lab: Lab) -> str:
    return f"{lab['server'].address4}:7"


def program(host: LabHost, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.support.connection_programs", *words]
    return host.popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def said(process: subprocess.Popen[str], *wanted: str) -> list[str]:
    """Reads up to the line that begins with these words; gives all its words but the time."""
    assert process.stdout is not None
    for text in process.stdout:
        *words, _ = text.split()
        if words[: len(wanted)] == list(wanted):
            return words
    raise AssertionError(f"{' '.join(wanted)} was never said")


@contextmanager
def down(host: LabHost, device: str) -> Iterator[None]:
    def change(state: str) -> None:
        host.run(["ip", "link", "set", device, state], administrator=True, check=True)

    gateways = host.run(["ip", "-4", "route", "show", "default", "dev", device])
    change("down")
    try:
        yield
    finally:
        change("up")
        for route in gateways.stdout.splitlines():
            host.run(["ip", "route", "add", *route.split(), "dev", device, "onlink"], administrator=True)


def address(host: LabHost, device: str) -> str:
    listed = host.run(["ip", "-4", "-o", "address", "show", "dev", device], check=True)
    return str(listed.stdout.split()[3].partition("/")[0])


@pytest.mark.parametrize(
    ("requirement", "interface", "used"),
    [
        ("none", "", "eth0"),
        ("required", "eth0", "eth0"),
        ("required", "eth1", "eth1"),
        ("prohibited", "eth0", "eth1"),
        ("prohibited", "eth1", "eth0"),
    ],
)
def test_a_connection_leaves_by_the_interface_that_it_may_use(
    lab: Lab, server: str, requirement: str, interface: str, used: str
) -> None:
    phone = lab["phone"]
    with program(phone, "by", server, requirement, interface) as process:
        _, local, answer = said(process, "from")
        assert local.rpartition(":")[0] == address(phone, used)
        assert answer == "word"


def test_a_better_path_is_told_and_the_connection_stays_on_its_own(lab: Lab, server: str) -> None:
    phone = lab["phone"]
    with down(phone, "eth0"):
        process = program(phone, "once", server)
        said(process, "state", "ready")
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
        said(process, "answer", "word")
    said(process, "better", "True")
    process.stdin.write("\n")
    process.stdin.flush()
    said(process, "answer", "word")
    with down(phone, "eth0"):
        said(process, "better", "False")
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_the_second_connection_with_fast_open_begins_with_data(lab: Lab) -> None:
    phone, host = lab["phone"], lab["server"]
    host.run(["sysctl", "-qw", "net.ipv4.tcp_fastopen=3"], administrator=True, check=True)
    with program(host, "serve", "0.0.0.0:77") as serving:
        said(serving, "listening")
        with program(phone, "fast", f"{host.address4}:77") as process:
            assert said(process, "answer") == ["answer", "word", "0"]
            assert said(process, "answer") == ["answer", "word", "1"]
        assert said(serving, "served")
        assert said(serving, "served", "1")
        assert serving.stdin is not None
        serving.stdin.close()
        assert serving.wait(60) == 0
