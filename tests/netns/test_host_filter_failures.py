"""What fails, and how: providers and the filter's own process, by every signal, under both policies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.netns.test_host_filter_switching import ALLOWING, DROPPING, reaches, routed
from tests.support.filters import Author
from tests.support.host_filters import HostFilterProcess, on_node, until
from tests.support.running import python

from towpath.testing import Lab

__all__ = ["routed"]

TRANSFER = """
import socket, sys, threading
s = socket.create_connection((sys.argv[1], 7), timeout=120)
print("begun", flush=True)
for line in sys.stdin:
    s.sendall(b"x" * 100000)
    left = 100000
    while left:
        left -= len(s.recv(left))
    print("moved", flush=True)
"""


def _worker(host_filter: HostFilterProcess) -> int:
    """The only process of it that is called so."""
    for pid in host_filter.pids():
        if Path(f"/proc/{pid}/comm").read_text().strip() == "towpath-worker":
            return pid
    raise AssertionError("no worker")


def _manager(host_filter: HostFilterProcess) -> int:
    return host_filter.pids()[1]


def test_what_was_decided_needs_nobody(routed: Lab, author: Author) -> None:
    with HostFilterProcess(routed, "office", [author(ALLOWING)]) as host_filter:
        command = [*python(TRANSFER), routed["web"].address4]
        with routed["client"].popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as transfer:
            assert transfer.stdin is not None
            assert transfer.stdout is not None
            assert transfer.stdout.readline() == "begun\n"
            for pid in host_filter.pids():
                os.kill(pid, signal.SIGSTOP)
            for _ in range(10):
                transfer.stdin.write("go\n")
                transfer.stdin.flush()
                assert transfer.stdout.readline() == "moved\n"
            transfer.stdin.close()
        for pid in host_filter.pids():
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("on_failure", ["pass", "block"])
def test_the_death_of_the_process_leaves_no_rule_and_traffic_flows(
    routed: Lab, author: Author, on_failure: str
) -> None:
    with HostFilterProcess(routed, "office", [author(DROPPING)], on_failure) as host_filter:
        assert not reaches(routed)
        assert "flags owner" in host_filter.tables()
        os.kill(_manager(host_filter), signal.SIGKILL)
        host_filter.process.wait()
        assert host_filter.tables() == ""
        assert reaches(routed)


@pytest.mark.parametrize(("on_failure", "passes"), [("pass", True), ("block", False)])
def test_a_process_that_does_not_act_any_more_is_passed_or_blocks_as_was_chosen(
    routed: Lab, author: Author, on_failure: str, passes: bool
) -> None:
    with HostFilterProcess(routed, "office", [author(ALLOWING)], on_failure) as host_filter:
        assert reaches(routed)
        os.kill(_manager(host_filter), signal.SIGSTOP)
        if passes:
            until(lambda: reaches(routed, 1), "the kernel passes what nobody decides")
        else:
            assert not any(reaches(routed, 1) for _ in range(5))
        os.kill(_manager(host_filter), signal.SIGCONT)
        until(lambda: reaches(routed, 1), "it acts again")


def test_a_filter_that_acts_goes_on_being_asked(routed: Lab, author: Author) -> None:
    with HostFilterProcess(routed, "office", [author(DROPPING)], "pass"):
        deadline = time.monotonic() + 6  # longer than the kernel waits for somebody who does not act
        while time.monotonic() < deadline:
            assert not reaches(routed)


@pytest.mark.parametrize(("on_failure", "passes"), [("pass", True), ("block", False)])
@pytest.mark.parametrize("failure", ["kill", "stop", "deadlock", "slow"])
def test_a_provider_that_fails_is_replaced_within_ten_seconds(
    routed: Lab, author: Author, failure: str, on_failure: str, passes: bool, tmp_path: Path
) -> None:
    hang = {"deadlock": "threading.Event().wait()", "slow": "time.sleep(10)"}.get(failure, "pass")
    first = f"""
        def handle_new_flow(self, flow):
            {hang}
            return Allow()
    """
    long = python("""
import socket, sys
try:
    socket.create_connection((sys.argv[1], 7), timeout=120)
    print("passed")
except OSError as error:
    print(type(error).__name__)
""")
    with HostFilterProcess(routed, "office", [author(first)], on_failure) as host_filter:
        if failure == "kill":
            os.kill(_worker(host_filter), signal.SIGKILL)
            until(lambda: reaches(routed, 1), "a new worker answers")
            return
        if failure == "stop":
            os.kill(_worker(host_filter), signal.SIGSTOP)
        done = routed["client"].run([*long, routed["web"].address4])
        assert done.stdout == ("passed\n" if passes else "ConnectionRefusedError\n")
        assert any("a question has waited for 5 s" in line for line in host_filter.lines)
        if failure == "stop":
            until(lambda: reaches(routed, 1), "a new worker answers")


FLOOD = """
import random, socket, struct, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
source, target = socket.inet_aton(sys.argv[1]), socket.inet_aton(sys.argv[2])
def total(data):
    value = sum(struct.unpack(f">{len(data) // 2}H", data))
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return ~value & 0xFFFF
for one in range(int(sys.argv[3])):
    tcp = struct.pack(">HHIIBBHHH", 1024 + one % 60000, 7 + one // 60000, one, 0, 0x50, 2, 100, 0, 0)
    check = total(source + target + struct.pack(">HH", 6, len(tcp)) + tcp)
    tcp = tcp[:16] + struct.pack(">H", check) + tcp[18:]
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 40, 0, 0, 64, 6, 0, source, target)
    s.sendto(head + tcp, (sys.argv[2], 0))
print("sent")
"""


@pytest.mark.parametrize("on_failure", ["pass", "block"])
def test_a_flood_of_openings_is_bounded_and_leaves_the_filter_working(
    routed: Lab, author: Author, on_failure: str
) -> None:
    mine = author("""
        def handle_new_flow(self, flow):
            return Pause() if flow.remote.port == 9 else Allow()
    """)
    flood = FLOOD.replace("7 + one // 60000", "9")
    client = routed["client"]
    with HostFilterProcess(routed, "office", [mine], on_failure) as host_filter:
        command = [*python(flood), client.address4, routed["web"].address4, "20000"]
        assert client.run(command, administrator=True).stdout == "sent\n"
        if on_failure == "pass":
            until(lambda: reaches(routed, 1), "new flows pass")
        else:
            assert host_filter.process.poll() is None
        host_filter.do("disable")
        until(lambda: reaches(routed, 1), "everything passes")


def test_packets_that_are_broken_harm_nobody(routed: Lab, author: Author) -> None:
    program = """
import random, socket, struct, sys
random.seed(4)
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
source, target = socket.inet_aton(sys.argv[1]), socket.inet_aton(sys.argv[2])
for one in range(2000):
    body = random.randbytes(random.randrange(0, 60))
    protocol = random.choice([6, 17, 6, 17, 1, 132])
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), one, 0, 64, protocol, 0, source, target)
    s.sendto(head + body, (sys.argv[2], 0))
print("sent")
"""
    with HostFilterProcess(routed, "office", [author(ALLOWING)], "block") as host_filter:
        client = routed["client"]
        command = [*python(program), client.address4, routed["web"].address4]
        assert client.run(command, administrator=True).stdout == "sent\n"
        assert reaches(routed)
        host_filter.do("disable")


def test_a_kernel_without_either_way_to_the_queue_says_so_and_nothing_is_left(routed: Lab, author: Author) -> None:
    for way in ("xt", "nft"):
        host_filter = HostFilterProcess(routed, "office", [author(ALLOWING)], ways=[way])
        found = host_filter.outcome(host_filter.order("start"))
        if found["error"] is None:
            assert reaches(routed)
            host_filter.do("disable")
        else:
            assert "HostFault: load the table towpath" in found["error"]
        assert host_filter.tables() == ""
        assert reaches(routed)
        host_filter.__exit__()


def test_a_queue_that_another_program_holds_is_an_error_and_not_a_wait(routed: Lab, author: Author) -> None:
    with HostFilterProcess(routed, "office", [author(ALLOWING)]):
        other = HostFilterProcess(routed, "office", [author(ALLOWING)])
        found = other.outcome(other.order("start"))
        assert found["error"] is not None
        other.__exit__()
        with on_node(routed, "office", ["nft", "list", "ruleset"]) as listing:
            assert "table inet towpath" in listing.communicate()[0]
