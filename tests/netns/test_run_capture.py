"""`towpath run --capture`: what tshark shows of a run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.running import Runner

from towpath.testing import Lab

CURL = "curl -sS --max-time 60 -o /dev/null"

if shutil.which("tshark") is None:
    pytest.skip("tshark is not installed (make peers)", allow_module_level=True)


def shown(file: Path, display: str, *fields: str, options: tuple[str, ...] = ()) -> list[list[str]]:
    """The fields of the packets that a display filter takes."""
    words = [word for field in fields for word in ("-e", field)]
    command = ["tshark", "-r", str(file), "-2", *options, "-T", "fields", "-Y", display, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def test_packets_are_captured_with_program_flow_and_rule(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    done = run("--capture", str(file), "--allow", "web.test:80", command=f"{CURL} http://web.test/")
    flow = done.only(transport="tcp")
    rows = shown(file, "tcp", "frame.comment", "tcp.flags.str")
    opening, rest = rows[0][0], [comment for comment, _ in rows]
    assert opening.startswith(f"flow {flow['id']}: curl[{flow['pid']}] -> web.test:80 tcp, ")
    assert f"flow {flow['id']}: curl[{flow['pid']}] -> web.test:80 tcp, allowed: --allow web.test:80 allows it" in rest
    assert all(comment.startswith(f"flow {flow['id']}") for comment in rest)
    assert [row[0] for row in shown(file, "http.request", "http.host")] == ["web.test"]
    assert shown(file, "http.response", "http.response.code") == [["200"]]
    assert shown(file, "dns.flags.response == 0", "dns.qry.name")[0] == ["web.test"]


def test_addresses_are_shown_by_their_names(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    run("--capture", str(file), "--allow", "web.test:80", command=f"{CURL} -4 http://web.test/")
    hosts = shown(file, "tcp.flags.syn == 1 && tcp.flags.ack == 0", "ip.dst_host", options=("-N", "n"))
    assert hosts == [["web.test"]]


def test_what_was_refused_is_there_with_the_reason(run: Runner, world: Lab, tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    address = world["tracker"].address4
    command = f"{CURL} http://{address}/; echo x | nc -uw1 {address} 9000; ping -c1 -W1 {address}"
    run("--capture", str(file), "--allow", "web.test:80", command=command)
    for display in ("tcp.flags.syn == 1 && tcp.flags.ack == 0", "udp.dstport == 9000", "icmp.type == 8"):
        (comment,) = shown(file, f"ip.dst == {address} && {display}", "frame.comment")[0]
        assert ", refused: no rule allows" in comment


def test_both_directions_of_datagrams_and_pings_belong_to_their_flow(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    command = "exec 3<>/dev/udp/time.test/9000; echo hello >&3; timeout 60 head -1 <&3; ping -4 -c1 -W60 time.test"
    done = run(
        "--capture",
        str(file),
        "--allow",
        "udp://time.test:9000",
        "--allow",
        "icmp://time.test",
        command=["bash", "-c", command],
    )
    udp, icmp = done.only(transport="udp", name="time.test")["id"], done.only(transport="icmp")["id"]
    datagrams = shown(file, "udp.port == 9000", "frame.comment", "frame.packet_flags_direction")
    assert [row[0].split(":")[0] for row in datagrams] == [f"flow {udp}"] * len(datagrams)
    assert [row[1] for row in datagrams][:2] == ["0x00000002", "0x00000001"]
    pings = shown(file, "icmp.type == 8 || icmp.type == 0", "frame.comment")
    assert [row[0].split(":")[0] for row in pings] == [f"flow {icmp}"] * 2


def test_secrets_open_tls_where_they_were_asked_for(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    command = f'{CURL} https://web.test/headers; test -s "$SSLKEYLOGFILE" && echo logged'
    done = run("--capture", str(file), "--capture-secrets", "--allow", "web.test:443", command=command)
    assert done.out == "logged\n"
    decrypted = shown(file, "http.request || http2", "_ws.col.Protocol", options=("-d", "tcp.port==443,tls"))
    assert decrypted
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.jsonl", "run.pcapng"]
    plain = tmp_path / "plain.pcapng"
    run("--capture", str(plain), "--allow", "web.test:443", command=f'{CURL} https://web.test/; echo "$SSLKEYLOGFILE"')
    assert not shown(plain, "http.request || http2", "_ws.col.Protocol")


def test_the_command_cannot_have_other_files_read_or_written_by_the_capture(run: Runner, tmp_path: Path) -> None:
    file, secret, other = tmp_path / "run.pcapng", tmp_path / "secret", tmp_path / "other"
    secret.write_text("the secret")
    other.write_text("untouched")
    command = f"rm {file}.keys {file}; ln -s {secret} {file}.keys; ln -s {other} {file}; {CURL} https://web.test/"
    run("--capture", str(file), "--capture-secrets", "--allow", "web.test:443", command=command)
    assert other.read_text() == "untouched"
    assert not file.is_file() or b"the secret" not in file.read_bytes()


def test_a_large_transfer_is_captured_whole_or_the_loss_is_said(run: Runner, tmp_path: Path) -> None:
    file = tmp_path / "run.pcapng"
    size = 64 << 20
    done = run("--capture", str(file), "--allow", "web.test:80", command=f"{CURL} http://web.test/big?bytes={size}")
    assert done.code == 0
    inbound = shown(file, "tcp.srcport == 80", "tcp.len")
    assert sum(int(row[0]) for row in inbound) >= size or "they came too fast" in done.err


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--capture-secrets",), "the secrets go into a capture"),
        (("--capture", "/nowhere/run.pcapng"), "/nowhere/run.pcapng: No such file or directory"),
    ],
)
def test_a_capture_that_cannot_be_written_is_said_before_the_command_runs(
    run: Runner, options: tuple[str, ...], says: str
) -> None:
    done = run(*options, command="echo started")
    assert (done.code, done.out) == (125, "")
    assert says in done.err


def test_without_it_nothing_of_it_exists(run: Runner) -> None:
    done = run(command='ls -l /proc/self/fd; test -z "$SSLKEYLOGFILE" && echo none', cwd=os.getcwd())
    assert done.out.endswith("none\n")
