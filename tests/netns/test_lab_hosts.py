"""A host of the Lab is a machine of its own to whoever runs on it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath.errors import HostFault, Misuse
from towpath.testing import Https, Lab, LabPlan, TcpEcho

PLAN = LabPlan().host("client").host("news", serves=[Https(names=("news.test",)), TcpEcho()])


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with PLAN.start() as lab:
        yield lab


def test_a_page_is_fetched_by_name_over_tls_that_the_host_trusts(lab: Lab) -> None:
    page = lab["client"].run(["curl", "-sS", "https://news.test/"])
    assert "This is news." in page.stdout, page.stderr


def test_the_lab_authority_is_trusted_without_any_variable(lab: Lab) -> None:
    page = lab["client"].run(["env", "-i", "curl", "-sS", "https://news.test/"])
    assert page.returncode == 0, page.stderr


@pytest.mark.parametrize("family", ["4", "6"])
def test_hosts_answer_ping_of_an_ordinary_user(lab: Lab, family: str) -> None:
    address = lab["news"].address4 if family == "4" else lab["news"].address6
    ping = lab["client"].run(["ping", f"-{family}", "-c1", "-W60", address])
    assert ping.returncode == 0, ping.stdout


@pytest.mark.parametrize("family", ["AF_INET, 2, 1", "AF_INET6, 2, 58"], ids=["4", "6"])
def test_an_ordinary_user_may_open_a_ping_socket(lab: Lab, family: str) -> None:
    program = f"import socket; socket.socket(socket.{family})"
    done = lab["client"].run(["python3", "-c", program])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8:dead::1")], ids=["4", "6"]
)
def test_an_address_that_nobody_has_is_unreachable(lab: Lab, family: socket.AddressFamily, address: str) -> None:
    with lab["client"].socket(family) as probe:
        probe.settimeout(60)
        with pytest.raises(OSError, match="No route to host|Network is unreachable"):
            probe.connect((address, 80))


def test_an_unused_address_of_the_labs_own_network_is_unreachable_too(lab: Lab) -> None:
    with lab["client"].socket() as probe, pytest.raises(OSError, match="No route to host"):
        probe.connect(("198.51.100.200", 80))


def test_commands_keep_the_users_id_and_have_no_rights(lab: Lab) -> None:
    script = "id -u; id -g; grep CapEff /proc/self/status; ip link add x type veth"
    done = lab["client"].run(["sh", "-c", script])
    user, group, rights = done.stdout.splitlines()
    assert (int(user), int(group)) == (os.getuid(), os.getgid())
    setfcap = 1 << 31
    assert int(rights.split()[1], 16) == (0 if os.getuid() else setfcap)
    assert "Operation not permitted" in done.stderr


def test_an_administrator_may_do_everything_to_the_host(lab: Lab) -> None:
    done = lab["client"].run(["ip", "addr", "add", "192.0.2.77/32", "dev", "lo"], administrator=True)
    assert done.returncode == 0, done.stderr


def test_a_command_can_make_namespaces_with_a_fresh_proc_for_itself(lab: Lab) -> None:
    command = [
        "unshare",
        "--user",
        "--map-current-user",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "sh",
        "-c",
    ]
    done = lab["client"].run([*command, "id -u; echo /proc/[0-9]*; ip -o link | wc -l"])
    assert done.stdout.split() == [str(os.getuid()), "/proc/1", "1"], done.stderr


def test_processes_of_the_owner_are_out_of_sight(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "1000"]) as outsider:
        try:
            found = lab["client"].run(["sh", "-c", "cat /proc/[0-9]*/cmdline"]).stdout
        finally:
            outsider.kill()
    assert "sleep" not in found
    assert "cat" in found


def test_the_working_directory_and_input_are_the_callers(lab: Lab, tmp_path: Path) -> None:
    done = lab["client"].run(["sh", "-c", "pwd; cat"], cwd=tmp_path, input="words")
    assert done.stdout == f"{tmp_path}\nwords"


def test_a_low_port_is_for_everybody(lab: Lab) -> None:
    program = "import socket; socket.create_server(('', 80))"
    assert lab["client"].run(["python3", "-c", program]).returncode == 0


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -TERM $$", -signal.SIGTERM), ("kill -KILL $$", -signal.SIGKILL)]
)
def test_a_command_ends_as_it_would_anywhere(lab: Lab, script: str, code: int) -> None:
    assert lab["client"].run(["sh", "-c", script]).returncode == code


def test_a_command_that_does_not_exist_is_an_error_of_popen(lab: Lab) -> None:
    with pytest.raises(FileNotFoundError):
        lab["client"].run(["no-such-command"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_command(lab: Lab, number: signal.Signals) -> None:
    script = f"trap 'echo got it; exit 3' {number.value}; echo ready; while :; do sleep 0.05; done"
    with lab["client"].popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.read() == "got it\n"
    assert process.returncode == 3


def test_killing_the_process_kills_the_command(lab: Lab) -> None:
    with lab["client"].popen(["sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        assert process.stdout.read() == b""  # the command's end of the pipe is closed: it is gone


def test_a_function_runs_on_the_host_and_gives_its_result(lab: Lab) -> None:
    names = lab["client"].call(lambda: [name for _, name in socket.if_nameindex()])
    assert sorted(names) == ["eth0", "lo"]


def test_an_error_of_a_function_comes_back(lab: Lab) -> None:
    with pytest.raises(ZeroDivisionError):
        lab["client"].call(lambda: 1 / 0)


def test_a_function_that_kills_its_process_is_told_of(lab: Lab) -> None:
    with pytest.raises(HostFault, match="without a result"):
        lab["client"].call(os._exit, 1)


def test_a_large_result_of_a_function_arrives_whole(lab: Lab) -> None:
    assert lab["client"].call(lambda: bytes(3_000_000)) == bytes(3_000_000)


def test_a_socket_made_on_a_host_is_in_its_network(lab: Lab) -> None:
    with lab["client"].socket() as connection:
        connection.connect((lab["news"].address4, 7))
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        assert connection.getsockname()[0] == lab["client"].address4


def test_a_host_can_have_a_lab_of_its_own(lab: Lab) -> None:
    program = """
from towpath.testing import Http, LabPlan
with LabPlan().host("client").host("inner", serves=[Http(names=("inner.test",))]).start() as lab:
    print(lab["client"].run(["curl", "-sS", "http://inner.test/"], check=True).stdout)
"""
    done = lab["client"].run([sys.executable, "-c", program])
    assert "This is inner." in done.stdout, done.stderr


def test_a_lab_starts_while_an_event_loop_runs() -> None:
    async def start() -> int:
        with PLAN.start() as inner:
            return inner["client"].run(["curl", "-sS", "https://news.test/"]).returncode

    assert asyncio.run(start()) == 0


def test_names_and_addresses_are_told(lab: Lab) -> None:
    assert lab.names == {"news.test": (lab["news"].address4, lab["news"].address6)}
    assert lab["client"].address4.startswith("198.51.100.")
    assert lab["client"].address6.startswith("2001:db8:")
    assert b"BEGIN CERTIFICATE" in lab.ca_pem


def test_a_host_that_is_not_there_is_named_with_those_that_are(lab: Lab) -> None:
    with pytest.raises(Misuse, match="no host 'nobody'; it has client, news, dns"):
        lab["nobody"]


def test_a_lab_that_does_not_run_says_so() -> None:
    with pytest.raises(Misuse, match="does not run"):
        _ = Lab(PLAN).world
