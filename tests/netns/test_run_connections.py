"""Connections in a run are true ones: what happens outside is what the program sees."""

from __future__ import annotations

import subprocess

import pytest
from tests.support.peers import need
from tests.support.running import TOWPATH, Runner, python

from towpath.testing import Lab

_CONNECT = """
import errno, socket, sys, time
start = time.monotonic()
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()
    print("connected")
except OSError as error:
    print(errno.errorcode.get(error.errno, "timeout"))
"""


def _connect(run: Runner, address: str, port: int, timeout: float = 60, *options: str) -> str:
    return run(*options, command=[*python(_CONNECT), address, str(port), str(timeout)]).out.strip()


def test_a_refused_connection_is_refused_inside(run: Runner, world: Lab) -> None:
    for address in (world["web"].address4, world["web"].address6):
        assert _connect(run, address, 81) == "ECONNREFUSED"


def test_an_open_port_connects_over_both_families(run: Runner, world: Lab) -> None:
    for address in (world["web"].address4, world["web"].address6):
        assert _connect(run, address, 80) == "connected"


def test_a_host_that_is_not_there_is_unreachable_inside(run: Runner) -> None:
    assert _connect(run, "198.51.100.250", 80) == "EHOSTUNREACH"


def test_a_network_without_a_route_is_unreachable_inside(run: Runner, world: Lab) -> None:
    direct = run.host.run([*python(_CONNECT), "203.0.113.9", "80", "60"]).stdout.strip()
    assert _connect(run, "203.0.113.9", 80) == direct


def test_a_black_hole_times_out_inside_as_it_does_outside(run: Runner, world: Lab) -> None:
    world["client"].call(_write, "/proc/sys/net/ipv4/tcp_syn_retries", "1")
    with world["web"].fault("black-hole", port=8080):
        assert _connect(run, world["web"].address4, 8080, 60) == "ETIMEDOUT"


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def test_a_program_that_tries_the_next_address_gets_there(run: Runner, world: Lab) -> None:
    """Happy eyeballs and plain fall-back rest on the first connect() failing truly."""
    refused, open_ = world["tracker"].address4, world["web"].address4
    done = run(command=f"curl -sS --resolve two.test:8080:{refused},{open_} http://two.test:8080/ -o /dev/null -w ok")
    assert done.out == "ok"


def test_a_half_closed_connection_still_answers(run: Runner, world: Lab) -> None:
    source = f"""
import socket
s = socket.create_connection(({world["services"].address4!r}, 7))
s.sendall(b"x" * 300000); s.shutdown(socket.SHUT_WR)
n = 0
while (d := s.recv(65536)): n += len(d)
print(n)
"""
    assert run(command=python(source)).out == "300000\n"


def test_a_reset_outside_is_a_reset_inside(run: Runner, world: Lab) -> None:
    source = f"""
import socket
try:
    s = socket.create_connection(({world["web"].address4!r}, 8080))
    s.sendall(b"GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"); print(len(s.recv(100)))
except ConnectionResetError: print("reset")
"""
    with world["web"].fault("reset", port=8080):
        assert run(command=python(source)).out == "reset\n"


def test_a_reset_inside_is_a_reset_outside(run: Runner, world: Lab) -> None:
    listener = world["services"].socket()
    listener.bind((world["services"].address4, 6001))
    listener.listen()
    source = f"""
import socket, struct
s = socket.create_connection(({world["services"].address4!r}, 6001))
s.sendall(b"hello"); s.recv(1)
s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); s.close()
"""
    with listener, run.popen(command=python(source)) as process:
        peer, _ = listener.accept()
        with peer:
            assert peer.recv(5) == b"hello"
            peer.sendall(b"!")
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
        assert process.wait(60) == 0


def test_a_program_that_does_not_read_holds_the_sender_back(run: Runner, world: Lab) -> None:
    """No more is read outside than fits into the sockets on the way: the relay is no bottomless buffer."""
    listener = world["services"].socket()
    listener.bind((world["services"].address4, 6002))
    listener.listen()
    source = f"""
import socket, sys
s = socket.create_connection(({world["services"].address4!r}, 6002))
sys.stdin.readline()
n = 0
while (d := s.recv(1 << 20)): n += len(d)
print(n)
"""
    with listener, run.popen(command=python(source), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        peer, _ = listener.accept()
        peer.settimeout(1.0)
        sent = 0
        with peer:
            try:
                while sent < 200 << 20:
                    sent += peer.send(b"x" * (1 << 20))
            except TimeoutError:
                pass
            assert sent < 100 << 20, "the sender was never held back"
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            peer.settimeout(60)
        assert process.stdout is not None
        assert process.stdout.read() == f"{sent}\n"


def test_what_was_sent_just_before_the_end_arrives(run: Runner, world: Lab) -> None:
    listener = world["services"].socket()
    listener.bind((world["services"].address4, 6003))
    listener.listen()
    source = f"""
import os, socket
s = socket.create_connection(({world["services"].address4!r}, 6003))
s.sendall(b"x" * 200000); os._exit(0)
"""
    with listener:
        assert run(command=python(source)).code == 0
        peer, _ = listener.accept()
        with peer:
            received = 0
            while data := peer.recv(1 << 16):
                received += len(data)
        assert received == 200000


def test_datagrams_go_and_come_over_both_families(run: Runner, world: Lab) -> None:
    source = """
import socket, sys
for address in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
    for size in (1, 1200, 9000, 60000):
        s.sendto(b"x" * size, (address, 9000)); data, peer = s.recvfrom(65535)
        print(len(data), peer[0] == address, peer[1])
"""
    done = run(command=[*python(source), world["services"].address4, world["services"].address6])
    assert done.out == "".join(f"{size} True 9000\n" for size in (1, 1200, 9000, 60000)) * 2


def test_a_closed_udp_port_is_an_error_inside(run: Runner, world: Lab) -> None:
    source = """
import errno, socket, sys
for address in sys.argv[1:]:
    s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60)
    s.connect((address, 9999)); s.send(b"x")
    try: s.recv(1)
    except OSError as error: print(errno.errorcode.get(error.errno, "timeout"))
"""
    done = run(command=[*python(source), world["services"].address4, world["services"].address6])
    assert done.out == "ECONNREFUSED\nECONNREFUSED\n"


@pytest.mark.parametrize("family", ["-4", "-6"])
def test_ping_works_where_the_uplink_admits_it(run: Runner, family: str) -> None:
    need("ping")
    done = run(command=["ping", family, "-c2", "-i0.2", "-w60", "web.test"])
    assert "2 received" in done.out, done
    assert run(command=["ping", family, "-c1", "web.test"]).only(transport="icmp")["program"] == "ping"


def test_ping_is_refused_with_the_settings_name_where_it_does_not(run: Runner) -> None:
    """A new network namespace starts with the kernel's default, which admits nobody."""
    need("ping")
    ping = ["ping", "-4", "-c1", "-W2", "198.51.100.9"]
    done = run.host.run(["unshare", "--map-root-user", "--net", TOWPATH, "run", "--", *ping])
    assert done.returncode != 0
    assert "net.ipv4.ping_group_range" in done.stderr


def test_large_transfers_arrive_whole_in_both_directions(run: Runner) -> None:
    down = run(command="curl -sS 'http://web.test/big?bytes=20000000' | wc -c")
    assert down.out.strip() == "20000000"
    source = """
import socket, threading
s = socket.create_connection(("echo.test", 7))
def feed():
    for _ in range(80): s.sendall(b"0123456789abcdef" * 16384)
    s.shutdown(socket.SHUT_WR)
threading.Thread(target=feed).start()
n = 0
while (d := s.recv(1 << 20)): n += len(d)
print(n)
"""
    assert run(command=python(source)).out == f"{80 * 16 * 16384}\n"


def test_an_idle_connection_lives(run: Runner, world: Lab) -> None:
    source = f"""
import socket, time
s = socket.create_connection(({world["services"].address4!r}, 7))
s.sendall(b"a"); assert s.recv(1) == b"a"
time.sleep(3)
s.sendall(b"b"); print(s.recv(1))
"""
    assert run(command=python(source)).out == "b'b'\n"


def test_programs_inside_reach_each_other(run: Runner) -> None:
    need("nc")
    script = "nc -l 127.0.0.1 5000 & until echo hello | nc -N 127.0.0.1 5000; do sleep 0.1; done; wait"
    assert run("--allow", "web.test:80", command=script).out == "hello\n"


def test_runs_nest(run: Runner) -> None:
    inner = f"{TOWPATH} run --allow web.test:80 -- curl -sS -o /dev/null -w '%{{http_code}}' http://web.test/"
    assert run("--allow", "web.test:80", command=inner).out == "200"


def test_the_outer_run_refuses_what_the_inner_allows(run: Runner) -> None:
    inner = f"{TOWPATH} run --allow tracker.test:80 -- curl -sS http://tracker.test/"
    done = run("--allow", "web.test:80", command=inner)
    assert done.code == 6
    assert "refused" in done.err
