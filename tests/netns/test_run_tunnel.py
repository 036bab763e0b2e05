"""`towpath run --tunnel`: one command through WireGuard, and nothing around it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.peers import need
from tests.support.processes import descendants
from tests.support.running import TOWPATH, Runner, python
from tests.support.tunnel_lab import (
    INNER4,
    INNER6,
    PLAN,
    SIGN,
    Capture,
    Key,
    TunnelLab,
    eventually,
    provider_with,
)

from towpath.testing import Lab

_EVERYTHING = """
import os, socket, sys, threading
os.environ["RES_OPTIONS"] = "timeout:1 attempts:1"
places, rounds, told = sys.argv[1:], 0, threading.Event()
threading.Thread(target=lambda: sys.stdin.readline() and told.set(), daemon=True).start()
def attempt(kind, place, port):
    try:
        with socket.socket(socket.AF_INET6 if ":" in place else socket.AF_INET, kind) as s:
            s.settimeout(0.2)
            s.connect((place, port))
            s.send(b"x")
            s.recv(10)
    except OSError:
        pass
print("begun", flush=True)
while not told.is_set() or rounds < 1:
    rounds += told.is_set()
    for place in places:
        attempt(socket.SOCK_STREAM, place, 80)
        attempt(socket.SOCK_DGRAM, place, 9000)
        attempt(socket.SOCK_DGRAM, place, 443)
        attempt(socket.SOCK_DGRAM, place, 53)
        try:
            family, protocol, kind = (10, 58, b"\\x80") if ":" in place else (2, 1, b"\\x08")
            with socket.socket(family, socket.SOCK_DGRAM, protocol) as s:
                s.sendto(kind + bytes(15), (place, 0))
        except OSError:
            pass
    for name in ("web.test", "inner.test", "leak.test"):
        try:
            socket.getaddrinfo(name, 80)
        except OSError:
            pass
print("done", flush=True)
"""


@pytest.fixture
def run(tunnels: TunnelLab, tmp_path: Path) -> Runner:
    return Runner(tunnels.lab, "client", tmp_path)


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("inner", [INNER4, f"[{INNER6}]"])
def test_a_page_comes_through_wireguard_go_over_both_families_inside_and_outside(
    tunnels: TunnelLab, run: Runner, family: int, inner: str
) -> None:
    done = run("--tunnel", tunnels.file(family=family), command=["curl", "-sS", f"http://{inner}/"])
    assert done.code == 0, done.err
    assert "vpn" in done.out


def test_names_are_asked_of_the_tunnel_s_server_alone(tunnels: TunnelLab, run: Runner) -> None:
    before = len(tunnels.lab["dns"].log)
    done = run("--tunnel", tunnels.file(), command=["curl", "-sS", "-6", "http://inner.test/"])
    assert done.code == 0, done.err
    assert len(tunnels.lab["dns"].log) == before
    assert done.only(transport="tcp")["name"] == "inner.test"


def asked_at(lab: Lab, host: str, since: int = 0) -> set[str]:
    """The names that a name server of the Lab was asked for."""
    return {question.split()[1] for record in lab[host].log[since:] for question in record.requests if "." in question}


def test_short_names_are_looked_for_in_the_search_domains_of_the_tunnel(tunnels: TunnelLab, run: Runner) -> None:
    path = tunnels.file(dns=f"{INNER4}, nothing.test, test")
    done = run("--tunnel", path, command=["getent", "ahostsv4", "inner"])
    assert done.code == 0, done.err
    assert done.out.split()[:3] == [INNER4, "STREAM", "inner.test"]


def test_names_outside_of_its_domains_are_asked_of_the_host_s_server(tunnels: TunnelLab, run: Runner) -> None:
    lab = tunnels.lab
    before = {host: len(lab[host].log) for host in ("dns", "vpn")}
    command = "curl -sS -4 http://inner.test/ && getent ahostsv4 web.test && curl -sS -4 http://web.test/"
    done = run("--tunnel", tunnels.file(dns=f"{INNER4}, ~inner.test"), command=command)
    assert asked_at(lab, "dns", before["dns"]) == {"web.test"}
    assert "web.test" not in asked_at(lab, "vpn", before["vpn"])
    assert "inner.test" in asked_at(lab, "vpn", before["vpn"])
    assert lab["web"].address4 in done.out, "the name has its address"
    assert done.code == 7, "and nothing else goes around the tunnel"
    assert "AllowedIPs" in done.err


def test_no_name_leaves_by_the_host_where_the_tunnel_leads_everywhere(tunnels: TunnelLab, run: Runner) -> None:
    before = len(tunnels.lab["dns"].log)
    path = tunnels.file(dns=f"{INNER4}, ~corp.test", allowed="0.0.0.0/0, ::/0")
    capture = Capture(tunnels.lab, "client")
    once = {**os.environ, "RES_OPTIONS": "timeout:1 attempts:1"}
    done = run("--tunnel", path, command=["curl", "-sS", "-4", "http://inner.test/"], env=once)
    assert capture.leaving() <= tunnels.carrier | {("neighbours", "", 0)}
    capture.close()
    assert len(tunnels.lab["dns"].log) == before
    assert done.code == 6, "the host's server is asked through the tunnel, and this peer leads to nobody"


def test_include_all_and_enforced_routes_hold_for_whoever_chooses_his_own_way(
    tunnels: TunnelLab, run: Runner, tmp_path: Path
) -> None:
    """A run has no other way, so both are so already; a program that looks for one finds the loopback."""
    web, target = tunnels.lab["web"].address4, provider_with(tmp_path, "include_all=True, enforce_routes=True")
    program = (
        "import socket\n"
        "print([name for _, name in socket.if_nameindex()])\n"
        "for device in ('eth0', 'lo'):\n"
        "    s = socket.socket(); s.settimeout(1)\n"
        "    try:\n"
        "        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())\n"
        f"        s.connect(('{web}', 80)); print('there by', device)\n"
        "    except OSError as error: print(device, type(error).__name__)\n"
    )
    before = len(tunnels.lab["web"].log)
    capture = Capture(tunnels.lab, "client")
    done = run("--tunnel", f"{target}:{tunnels.file(dns=f'{INNER4}, ~inner.test')}", command=python(program))
    assert done.code == 0, done.err
    assert "there" not in done.out
    assert done.out.splitlines()[0] == "['lo']"
    assert capture.leaving() <= tunnels.carrier | {("neighbours", "", 0)}
    capture.close()
    assert len(tunnels.lab["web"].log) == before


def test_settings_that_are_replaced_are_in_force_for_what_comes_then(
    tunnels: TunnelLab, run: Runner, tmp_path: Path
) -> None:
    """No route and no server at first; then both, and what was refused and what did not resolve is there."""
    later = f"included=('{INNER4}/32',), dns=DnsSettings(servers=('{INNER4}',))"
    first = "included=('10.78.0.0/24',), dns=None"
    target = f"{provider_with(tmp_path, first, later)}:{tunnels.file()}"
    command = (
        f"curl -sS http://{INNER4}/ && exit 3; getent hosts inner.test && exit 4; echo > /dev/udp/{SIGN}/9;"
        "until getent ahostsv4 inner.test; do sleep 0.1; done; exec curl -sS -4 http://inner.test/"
    )
    done = run("--tunnel", target, command=["bash", "-c", command])
    assert done.code == 0, done.err
    assert "This is vpn." in done.out
    assert {flow["verdict"] for flow in done.flows if flow["transport"] == "tcp"} == {"allowed", "refused"}
    assert "no DNS server is named for the tunnel" in done.err


def test_a_dns_proxy_s_own_domains_come_before_the_tunnel_s(tunnels: TunnelLab, run: Runner, tmp_path: Path) -> None:
    lab = tunnels.lab
    (tmp_path / "names.toml").write_text(f'[[domains]]\nmatch = ["inner.test"]\nservers = ["{lab["dns"].address4}"]\n')
    before = {host: len(lab[host].log) for host in ("dns", "vpn")}
    options = ("--tunnel", tunnels.file(dns=f"{INNER4}, ~test"), "--dns", f"secure-dns:{tmp_path}/names.toml")
    done = run(*options, command="getent ahostsv4 inner.test; getent ahostsv4 web.test")
    assert asked_at(lab, "vpn", before["vpn"]) == {"web.test"}, done.err
    assert asked_at(lab, "dns", before["dns"]) == {"inner.test"}


def test_ping_and_udp_go_through_it(tunnels: TunnelLab, run: Runner) -> None:
    done = run("--tunnel", tunnels.file(), command=["ping", "-c", "2", "-i", "0.2", "-w", "60", INNER4])
    assert "2 received" in done.out, done.out + done.err
    program = (
        "import socket,sys; s=socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.settimeout(60);"
        f"s.connect(('{INNER6}', 9000)); s.send(b'hello'); print(s.recv(10))"
    )
    assert run("--tunnel", tunnels.file(), command=python(program)).out == "b'hello'\n"


def test_what_allowed_ips_do_not_cover_is_refused_and_named(tunnels: TunnelLab, run: Runner) -> None:
    web = tunnels.lab["web"].address4
    path = tunnels.file()
    done = run("--tunnel", path, command=["curl", "-sS", "--max-time", "60", f"http://{web}/"])
    assert done.code == 7
    assert f"AllowedIPs in {path} do not cover {web}" in done.err
    assert done.only(transport="tcp")["verdict"] == "refused"


def test_policies_hold_in_a_tunnel(tunnels: TunnelLab, run: Runner) -> None:
    command = f"curl -sS http://inner.test/ && ! curl -sS --max-time 60 http://{INNER4}:7/"
    done = run("--tunnel", tunnels.file(), "--allow", "inner.test:80", command=command)
    assert done.code == 0, done.err
    assert "no rule allows" in done.err


def test_the_host_s_loopback_stays_within_reach_where_it_is_allowed(tunnels: TunnelLab, run: Runner) -> None:
    server = python(
        "import socket; s=socket.create_server(('127.0.0.1', 5432)); print('up', flush=True);"
        "c,_=s.accept(); c.sendall(b'host'); c.close()"
    )
    with run.host.popen(server, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        program = "import socket; print(socket.create_connection(('127.0.0.1', 5432), 60).recv(10))"
        done = run("--tunnel", tunnels.file(), "--allow-local", "5432", command=python(program))
        process.kill()
    assert done.out == "b'host'\n", done.err


def test_nothing_leaves_but_the_tunnel_s_own(tunnels: TunnelLab, run: Runner) -> None:
    """TCP, UDP, QUIC's port, DNS, ICMP, both families: while it works, after a crash, while it connects again."""
    lab = tunnels.lab
    capture = Capture(lab, "client")
    places = [str(getattr(lab[host], family)) for host in ("web", "dns") for family in ("address4", "address6")]
    path = tunnels.file(allowed="0.0.0.0/0, ::/0")
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with run.popen("--tunnel", path, command=[*python(_EVERYTHING), *places, INNER4, INNER6], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert tunnels.carrier & eventually(capture.leaving), "the capture sees the tunnel itself"
        for _ in range(3):
            (gone, *_others) = eventually(lambda: _workers(process.pid))
            os.kill(gone, signal.SIGKILL)
            eventually(lambda: gone not in _workers(process.pid))  # noqa: B023  # called within its turn
        _enough(process)
    left = capture.leaving()
    assert left <= tunnels.carrier | {("neighbours", "", 0)}
    capture.close()


def _enough(process: subprocess.Popen[str]) -> None:
    """Lets it go round once more."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.stdout.readline() == "done\n"


def _workers(process: int) -> list[int]:
    return [one for one in descendants(process) if _name(one) == "towpath-worker"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def test_nothing_leaves_when_the_peer_dies_and_all_comes_back_with_it(tmp_path: Path) -> None:
    need("wireguard-go", "wg")
    with Lab(PLAN) as lab:
        tunnels = TunnelLab(lab, tmp_path)
        run = Runner(lab, "client", tmp_path)
        path = tunnels.file(allowed="0.0.0.0/0, ::/0")
        with tunnels.serving() as server:
            places = [lab["web"].address4, str(lab["web"].address6)]
            pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            with run.popen("--tunnel", path, command=[*python(_EVERYTHING), *places], **pipes) as process:
                assert process.stdout is not None
                assert process.stdout.readline() == "begun\n"
                server.kill()
                server.wait()
                capture = Capture(lab, "client")
                _enough(process)
                assert process.wait(60) == 0
                assert capture.leaving() <= tunnels.carrier | {("neighbours", "", 0)}
                capture.close()
        with tunnels.serving():
            assert run("--tunnel", path, command=["curl", "-sS", f"http://{INNER4}/"]).code == 0


def test_a_worker_that_is_killed_is_replaced_and_connections_go_on(tunnels: TunnelLab, run: Runner) -> None:
    program = f"""
import socket, sys
s = socket.create_connection(("{INNER4}", 7), 60)
s.settimeout(60)
print("up", flush=True)
sys.stdin.readline()
s.sendall(b"after the crash")
print(s.recv(100), flush=True)
"""
    with run.popen(
        "--tunnel", tunnels.file(), command=python(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "up\n"
        (old,) = _workers(process.pid)
        os.kill(old, signal.SIGKILL)
        eventually(lambda: [one for one in _workers(process.pid) if one != old])
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "b'after the crash'\n"


def test_wrong_keys_and_silence_end_before_the_command_with_what_to_look_at(tunnels: TunnelLab, run: Runner) -> None:
    stranger = TunnelLab(tunnels.lab, tunnels.folder)
    stranger.server = tunnels.server
    done = run("--tunnel", stranger.file("stranger.conf"), command=["touch", str(tunnels.folder / "ran")], timeout=120)
    assert done.code == 125
    assert "no answer from" in done.err
    assert f"does that server know this PublicKey ({stranger.client.public})" in done.err
    assert not (tunnels.folder / "ran").exists()
    assert stranger.client.secret not in done.err


@pytest.mark.parametrize(
    ("change", "says", "hint"),
    [
        (
            ("{vpn}:51820", "nowhere.test:51820"),
            "{file}:9: nowhere.test: Name or service not known",
            "does this machine resolve names (towpath resolve nowhere.test)?",
        ),
        (("{vpn}:51820", "{web}:51820"), "nobody is there at {web}:51820: Connection refused", "does it run?"),
        (("[Peer]", "[Peer]\nPresharedKey = {key}"), "{vpn}:51820 answers, and its answer cannot", "preshared key"),
    ],
    ids=["name", "nobody", "preshared key"],
)
def test_a_server_that_cannot_be_used_is_told_from_one_that_is_silent(
    tunnels: TunnelLab, run: Runner, change: tuple[str, str], says: str, hint: str
) -> None:
    lab, path = tunnels.lab, tunnels.file("wrong.conf")
    facts = {"vpn": lab["vpn"].address4, "web": lab["web"].address4, "file": path, "key": Key.make().secret}
    old, new = (text.format(**facts) for text in change)
    Path(path).write_text(Path(path).read_text().replace(old, new))
    done = run("--tunnel", path, command=["true"], timeout=120)
    assert done.code == 125
    assert says.format(**facts) in done.err
    assert hint in done.err


def test_commands_of_a_file_are_not_run_and_that_is_said(tunnels: TunnelLab, run: Runner, tmp_path: Path) -> None:
    path = tunnels.file("commands.conf")
    words = f"PostUp = touch {tmp_path}/ran\nTable = off\nFwMark = 0xca6c\nSaveConfig = true\n[Peer]"
    Path(path).write_text(Path(path).read_text().replace("[Peer]", words))
    done = run("--tunnel", path, command=["curl", "-sS", f"http://{INNER4}/"])
    assert done.code == 0, done.err
    assert "PostUp has no effect: no command of the file is run" in done.err
    assert "Table" not in done.err, "what makes no difference is not spoken of"
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[Interface]\nPrivateKey = short\n", "bad.conf:2: PrivateKey is not a key in base64: it has 5 characters"),
        (None, "there is no file"),
    ],
)
def test_a_file_that_cannot_be_used_is_shown_by_its_line(
    tunnels: TunnelLab, run: Runner, tmp_path: Path, text: str | None, says: str
) -> None:
    path = tmp_path / "bad.conf"
    if text is not None:
        path.write_text(text + f"Address = 10.0.0.1/32\n[Peer]\nPublicKey = {Key.make().public}\n")
    done = run("--tunnel", str(path), command=["true"])
    assert done.code == 125
    assert says in done.err
    assert "Traceback" not in done.err


def test_nothing_is_left_behind(tunnels: TunnelLab, run: Runner) -> None:
    with run.popen("--tunnel", tunnels.file(), command="echo up; sleep 60", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        family = [process.pid, *descendants(process.pid)]
        assert len(family) >= 5, "manager, init, command, zygote, worker, the tunnel's network"
        process.send_signal(signal.SIGKILL)
        eventually(lambda: not [one for one in family if os.path.exists(f"/proc/{one}/ns") and _state(one) != "Z"])


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1]
    except OSError:
        return "Z"


def test_the_report_says_where_names_came_from_and_json_stays_json(tunnels: TunnelLab, run: Runner) -> None:
    done = run("--tunnel", tunnels.file(), command=["curl", "-sS", "http://inner.test/"])
    assert json.dumps(done.flows)
    assert done.only(transport="tcp")["verdict"] == "allowed"


def test_the_command_cannot_read_the_keys(tunnels: TunnelLab, run: Runner) -> None:
    path = tunnels.file("secret.conf")
    done = run("--tunnel", path, command=["cat", path])
    assert tunnels.client.secret not in done.out
    assert "PrivateKey" not in done.out


def _tunnel(tunnels: TunnelLab, *words: str) -> subprocess.CompletedProcess[str]:
    return tunnels.lab["client"].run([TOWPATH, "tunnel", *words], timeout=120)


def test_status_and_capture_look_into_a_tunnel_that_runs(tunnels: TunnelLab, run: Runner, tmp_path: Path) -> None:
    need("tshark")
    assert _tunnel(tunnels, "status").stdout == "no tunnel of this user runs here\n"
    program = f"""
import socket, sys
print("up", flush=True)
for line in sys.stdin:
    s = socket.create_connection(("{INNER4}", 7), 60)
    s.sendall(b"seen by tshark")
    print(s.recv(100), flush=True)
"""
    with run.popen(
        "--tunnel", tunnels.file(), command=python(program), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "up\n"
        (status,) = json.loads(_tunnel(tunnels, "status", "--json").stdout)
        assert (status["state"], status["protocol"]) == ("connected", "WireGuard")
        assert status["peers"][0]["public_key"] == tunnels.server.public
        assert status["peers"][0]["handshakes"] == 1
        assert status["paths"][0]["from"] == tunnels.lab["client"].address4
        shown = _tunnel(tunnels, "status").stdout
        assert "wireguard: connected, for" in shown
        assert f"names         all, of {INNER4}" in shown
        assert "Towpath, in user space; " in shown
        assert ("this kernel has none of its own" in shown) is (status["kernel_has_wireguard"] is False)
        assert tunnels.client.secret not in shown
        file = tmp_path / "inner.pcapng"
        command = [TOWPATH, "tunnel", "capture", "-w", str(file), "--seconds", "30"]
        with run.host.popen(command, stderr=subprocess.PIPE, text=True) as capturing:
            assert capturing.stderr is not None
            assert "capturing to" in capturing.stderr.readline()
            process.stdin.write("\n")
            process.stdin.flush()
            assert process.stdout.readline() == "b'seen by tshark'\n"
            capturing.send_signal(signal.SIGINT)
            assert capturing.wait(60) == 0
    words = ["tshark", "-r", str(file), "-Y", "tcp.port == 7 && tcp.len > 0", "-T", "fields", "-e", "tcp.payload"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert found == [b"seen by tshark".hex()] * 2


def test_a_dns_proxy_asks_through_the_tunnel_as_well(tunnels: TunnelLab, run: Runner) -> None:
    before = len(tunnels.lab["dns"].log)
    done = run("--tunnel", tunnels.file(), "--dns", "secure-dns", command=["curl", "-sS", "http://inner.test/"])
    assert done.code == 0, done.err
    assert "vpn" in done.out
    assert len(tunnels.lab["dns"].log) == before
