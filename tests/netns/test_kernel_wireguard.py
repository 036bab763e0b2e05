"""Tunnels of a host that the kernel's own WireGuard speaks; on a kernel without it, that this is found and said.

Where this machine's kernel has none, ``make guest`` runs them on one that has.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from tests.netns.test_host_tunnel import PLAN, ROOT, bulk, pings, status, tunnel, wire_tunnel_files, wireguard_files
from tests.support.running import TOWPATH
from tests.support.tunnel_lab import Capture, Key, eventually

from towpath.testing import Lab

LOOKS = "ip -o link | cut -d: -f2; ip route; ip -6 route; ip rule; nft list ruleset"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("/dev/net/tun may not be opened by this user")
    with Lab(PLAN) as lab:
        yield lab


@pytest.fixture(scope="module")
def has_wireguard(lab: Lab) -> bool:
    """Whether the kernel makes the device, as an administrator would find out."""
    done = lab["one"].run(["ip", "link", "add", "found", "type", "wireguard"], administrator=True)
    if done.returncode == 0:
        lab["one"].run(["ip", "link", "del", "found"], administrator=True, check=True)
    return done.returncode == 0


@pytest.fixture
def kernel(has_wireguard: bool) -> None:
    if not has_wireguard:
        pytest.skip("this kernel has no WireGuard of its own (make guest boots one that has)")


def test_where_the_kernel_has_none_the_one_in_user_space_speaks_and_both_are_said(
    lab: Lab, tmp_path: Path, has_wireguard: bool
) -> None:
    if has_wireguard:
        pytest.skip("this kernel has WireGuard")
    there, here, _ours, _theirs = wireguard_files(tmp_path, lab["server"])
    words = [sys.executable, "-m", "tests.support.host_tunnel_program", str(here), "wg0", "kernel"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    one = lab["one"].popen(words, administrator=True, text=True, cwd=ROOT, **pipes)
    with tunnel(lab["server"], there, "wg0"), one as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "up\n"
        assert "user space: " in (said := process.stderr.readline())
        assert "this kernel has none" in said
        assert status(process)["implementation"] == "userspace"
        process.kill()


def test_another_protocol_is_not_the_kernel_s(lab: Lab, tmp_path: Path) -> None:
    _there, (here,) = wire_tunnel_files(tmp_path, lab["server"], 1)
    words = [sys.executable, "-m", "tests.support.host_tunnel_program", here, "wt0", "kernel"]
    done = lab["one"].run(words, administrator=True, cwd=ROOT, timeout=120)
    assert done.returncode == 1
    assert "wire-tunnel does not claim kernel-wireguard" in done.stderr


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("there_words", "here_words"), [((), ("kernel",)), (("kernel",), ()), (("kernel",),) * 2])
def test_the_kernel_s_and_ours_carry_both_families_for_each_other(
    lab: Lab, tmp_path: Path, there_words: tuple[str, ...], here_words: tuple[str, ...]
) -> None:
    server, client = lab["server"], lab["one"]
    there, here, ours, theirs = wireguard_files(tmp_path, server)
    with tunnel(server, there, "wg0", *there_words) as serving, tunnel(client, here, "wg0", *here_words) as held:
        assert pings(client, "10.80.0.1")
        assert pings(client, "fd80::1")
        assert pings(server, "10.80.0.2"), "and the other way"
        assert bulk(client, "10.80.0.1", 300_000)
        assert bulk(client, "fd80::1", 300_000)
        for process, words, other in ((serving, there_words, ours), (held, here_words, theirs)):
            found = status(process)
            assert found["implementation"] == ("kernel" if words else "userspace")
            (peer,) = cast("list[dict[str, Any]]", found["peers"])
            assert peer["public_key"] == other.public
            assert peer["last_handshake"]
            assert min(peer["sent"], peer["received"]) > 300_000


@pytest.mark.usefixtures("kernel")
def test_a_killed_process_leaves_nothing_of_it(lab: Lab, tmp_path: Path) -> None:
    there, here, _ours, _theirs = wireguard_files(tmp_path, lab["server"])

    def looks() -> str:
        return str(lab["one"].run(["sh", "-c", LOOKS], administrator=True).stdout)

    eventually(lambda: "wg0" not in looks(), 60)  # of the test before: a namespace goes in its own time
    before = looks()
    with tunnel(lab["server"], there, "wg0"), tunnel(lab["one"], here, "wg0", "kernel", "kill-switch") as held:
        assert pings(lab["one"], "10.80.0.1")
        assert "wg0" in looks()
        held.send_signal(signal.SIGKILL)
        eventually(lambda: looks() == before, 60)


@pytest.mark.usefixtures("kernel")
def test_a_tunnel_that_leads_everywhere_does_not_swallow_its_own_datagrams(lab: Lab, tmp_path: Path) -> None:
    server, one, other = lab["server"], lab["one"], lab["other"]
    there, here, _ours, _theirs = wireguard_files(tmp_path, server)
    here.write_text(here.read_text().replace("10.80.0.0/24, fd80::/64", "0.0.0.0/0, ::/0"))
    with tunnel(server, there, "wg0"), tunnel(one, here, "wg0", "kernel", "kill-switch"):
        capture = Capture(lab, "one")
        assert pings(one, "10.80.0.1")
        assert pings(one, "fd80::1")
        assert not pings(one, other.address4, 1), "the host's own network is beside the tunnel, and held"
        one.run(["ping", "-c", "1", "-W", "1", "198.51.100.9"])
        left = {entry for entry in capture.leaving() if entry[0] != "neighbours"}
        assert {entry[:2] for entry in left} == {("udp", server.address4)}
        capture.close()


@pytest.mark.usefixtures("kernel")
def test_it_is_stopped_and_started_again_and_asked_from_outside(lab: Lab, tmp_path: Path) -> None:
    there, here, _ours, _theirs = wireguard_files(tmp_path, lab["server"])
    with tunnel(lab["server"], there, "wg0"), tunnel(lab["one"], here, "wg0", "kernel") as held:
        assert held.stdin is not None
        assert held.stdout is not None
        for line, answer in (("stop", "stopped"), ("start", "up")):
            held.stdin.write(f"{line}\n")
            held.stdin.flush()
            assert held.stdout.readline() == f"{answer}\n"
            assert pings(lab["one"], "10.80.0.1", 20 if line == "start" else 1) is (line == "start")
        done = lab["one"].run([TOWPATH, "tunnel", "status"], administrator=True, timeout=120)
        assert "spoken by     the kernel" in done.stdout
        found = lab["one"].run([TOWPATH, "tunnel", "status", "--json"], administrator=True, timeout=120)
        assert json.loads(found.stdout)[0]["implementation"] == "kernel"
        words = [TOWPATH, "tunnel", "capture", "-w", str(tmp_path / "x.pcapng")]
        refused = lab["one"].run(words, administrator=True, timeout=120)
        assert "tcpdump -i wg0" in refused.stderr
        assert not (tmp_path / "x.pcapng").exists()


@pytest.mark.usefixtures("kernel")
def test_a_server_that_does_not_know_the_key_is_told(lab: Lab, tmp_path: Path) -> None:
    there, here, ours, _theirs = wireguard_files(tmp_path, lab["server"])
    there.write_text(there.read_text().replace(ours.public, Key.make().public))
    words = [sys.executable, "-m", "tests.support.host_tunnel_program", str(here), "wg0", "kernel"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    one = lab["one"].popen(words, administrator=True, text=True, cwd=ROOT, **pipes)
    with tunnel(lab["server"], there, "wg0"), one as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        process.kill()
    assert f"no answer from {lab['server'].address4}:51820" in said
