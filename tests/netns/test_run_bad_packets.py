"""Whatever a program sends and whatever a server answers: the run goes on, ends with its command's code, and says no
trace of Towpath's own."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
from tests.support.evasions import EVADE
from tests.support.running import Runner, python

from towpath.testing import Lab

_AFTER = """
with dial(WEB, 80) as s:
    s.sendall(b"GET / HTTP/1.0\\r\\nHost: web.test\\r\\n\\r\\n")
    print("well" if s.recv(100).startswith(b"HTTP/1.1 200") else "unwell")
sys.exit(7)
"""
_BEFORE = """
def quietly(action, *words):
    try:
        return action(*words)
    except OSError:
        return None
def datagram(target, data, *options, family=socket.AF_INET, protocol=0):
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as s:
        for option in options:
            quietly(s.setsockopt, *option)
        quietly(s.sendto, data, target)
def stream(target, *options, data=b"", flags=0, family=socket.AF_INET):
    with socket.socket(family) as s:
        s.settimeout(0.3)
        for option in options:
            quietly(s.setsockopt, *option)
        quietly(s.connect, target)
        quietly(s.send, data, flags)
"""

PROGRAMS = {
    "datagrams of every odd length": """
for size in (0, 1, 2, 7, 8, 11, 12, 13, 511, 512, 513, 1199, 1200, 1201, 9000, 65507):
    for port in (1, 53, 443, 9000, 65535):
        datagram((WEB, port), os.urandom(size)); datagram((WEB6, port), os.urandom(size), family=socket.AF_INET6)
""",
    "options of IP": """
for option in (b"\\x07\\x07\\x04" + bytes(5), b"\\x44\\x0c\\x05\\x00" + bytes(8), b"\\x83\\x07\\x04" + bytes(5),
               b"\\x01" * 40, b"\\x94\\x04\\x00\\x00", b"\\x00" * 4):
    datagram((WEB, 9000), b"x", (0, 4, option)); stream((WEB, 80), (0, 4, option))
""",
    "routing heads of IPv6": """
for head in (bytes([0, 2, 4, 0, 0, 0, 0, 0]) + socket.inet_pton(10, WEB6), bytes([0, 2, 2, 1, 0, 0, 0, 0]) + bytes(16),
             bytes([0, 2, 0, 1, 0, 0, 0, 0]) + bytes(16), bytes(8)):
    datagram((WEB6, 9000), b"x", (41, 57, head), family=10); stream((WEB6, 80), (41, 57, head), family=10)
""",
    "fragments": """
for size in (1300, 9000, 60000):
    datagram((WEB6, 9000), bytes(size), (41, 24, 1280), family=10); datagram((WEB, 9000), bytes(size), (0, 10, 0))
""",
    "segments of one call": """
for size in (1, 100, 1400):
    datagram((WEB, 9000), bytes(size * 40), (17, 103, size)); datagram((WEB, 443), bytes(size * 40), (17, 103, size))
""",
    "no checksum, no hops, no port": """
datagram((WEB, 9000), b"x", (1, 11, 1)); datagram((WEB, 9000), b"x", (0, 2, 1)); datagram((WEB, 0), b"x")
datagram((WEB6, 9000), b"x", (17, 101, 1), family=10)
quietly(socket.socket().connect, (WEB, 0))
""",
    "pings of every kind": """
for family, protocol, target in ((2, 1, WEB), (10, 58, WEB6)):
    for kind in range(256):
        datagram((target, 0), bytes([kind, 0, 0, 0]) + bytes(4), family=family, protocol=protocol)
    for size in (0, 7, 8, 9, 65000):
        datagram((target, 0), (b"\\x08" if family == 2 else b"\\x80") + bytes(size), family=family, protocol=protocol)
""",
    "connections of odd kinds": """
for option in ((6, 2, 88), (6, 10, 1), (6, 23, 5), (6, 30, 1), (1, 13, struct.pack("ii", 1, 0)), (1, 8, 1), (6, 9, 30)):
    stream((WEB, 80), option, data=b"GET / HTTP/1.0\\r\\n\\r\\n")
stream((WEB, 80), data=b"!" * 10, flags=socket.MSG_OOB)
stream((WEB, 443), data=bytes(70000))
with socket.socket() as s:
    quietly(s.sendto, bytes(1000), socket.MSG_FASTOPEN, (WEB, 80))
""",
    "connections given up at once": """
held = []
for _ in range(600):
    s = socket.socket(); s.setblocking(False); s.connect_ex((WEB, 80)); held.append(s)
    if len(held) > 20: held.pop(0).close()
""",
    "questions that are none": """
for data in (b"", b"\\0", bytes(11), bytes(12), bytes(13), b"\\xff" * 12, b"\\xff" * 512, question("web.test")[:-1],
             question("web.test", counts=(65535, 0, 0, 0)), question("web.test")[:12] + b"\\xc0\\x0c" * 100,
             question("web.test")[:12] + b"\\x3fx" * 200, question("a." * 127), os.urandom(60000)):
    quietly(ask, "192.0.2.2", data, 0.02); quietly(ask, "203.0.113.1", data, 0.02)
    s = quietly(dial, "192.0.2.2", 53)
    quietly(s.sendall, struct.pack(">H", len(data)) + data); quietly(s.sendall, b"\\xff\\xff" + data); s.close()
""",
}


@pytest.mark.parametrize("options", [(), ("--allow", "tcp://*:80", "--allow", "*.test:443")], ids=["open", "policy"])
@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_what_a_program_sends_does_not_harm_the_run(
    run: Runner, world: Lab, program: str, options: tuple[str, ...]
) -> None:
    names = f"WEB, WEB6 = {world['web'].address4!r}, {world['web'].address6!r}\n"
    done = run("--quiet", *options, command=python(EVADE + _BEFORE + names + program + _AFTER))
    assert (done.code, done.out, done.err) == (7, "well\n", "")


@pytest.mark.parametrize("allowed", [True, False])
def test_twenty_thousand_datagram_flows_do_not_harm_the_run(run: Runner, world: Lab, allowed: bool) -> None:
    program = """
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for port in range(20000, 40000):
    quietly(s.sendto, b"x", (WEB, port))
"""
    rules = ("--allow", f"udp://{world['web'].address4}") if allowed else ()
    names = f"WEB = {world['web'].address4!r}\n"
    source = python(EVADE + _BEFORE + names + program + _AFTER)
    done = run("--quiet", "--allow", f"tcp://{world['web'].address4}:80", *rules, command=source, timeout=120)
    assert (done.code, done.out, done.err) == (7, "well\n", "")


# --- a name server that lies ---


_TRACKER = bytes([198, 51, 100, 4])


def _good(query: bytes) -> bytes:
    """A right answer: the question, and one address, the tracker's."""
    end = query.index(b"\0", 12) + 5
    return query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0" + query[12:end] + _record(1, _TRACKER)


def _record(kind: int, data: bytes, length: int | None = None, owner: bytes = b"\xc0\x0c") -> bytes:
    size = len(data) if length is None else length
    return owner + kind.to_bytes(2) + b"\0\1" + (60).to_bytes(4) + size.to_bytes(2) + data


def _with(query: bytes, counts: bytes, rest: bytes) -> bytes:
    end = query.index(b"\0", 12) + 5
    return query[:2] + b"\x81\x80" + counts + query[12:end] + rest


LIES: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda query: b"",
    "a byte": lambda query: b"\0",
    "a head alone": lambda query: query[:12],
    "the question itself": lambda query: query,
    "another id": lambda query: b"\xff\xff" + _good(query)[2:],
    "another question": lambda query: _good(query).replace(b"web", b"bew"),
    "cut off": lambda query: _good(query)[:-2],
    "a tail": lambda query: _good(query) + bytes(9),
    "an answer that points at itself": lambda query: _with(query, b"\0\1\0\1\0\0\0\0", b"\xc0\x19" * 2 + bytes(10)),
    "more answers than there are": lambda query: _with(query, b"\0\1\xff\xff\xff\xff\xff\xff", _good(query)[-16:]),
    "a length too long": lambda query: _with(query, b"\0\1\0\1\0\0\0\0", _record(1, bytes(4), 400)),
    "an address too short": lambda query: _with(query, b"\0\1\0\1\0\0\0\0", _record(1, bytes(3))),
    "an alias of itself": lambda query: _with(query, b"\0\1\0\1\0\0\0\0", _record(5, b"\xc0\x0c")),
    "an address of another name": lambda query: _with(
        query, b"\0\1\0\1\0\0\0\0", _record(1, _TRACKER, owner=b"\4evil\0")
    ),
    "noise": lambda query: query[:2] + bytes(range(256)) * 16,
    "a giant": lambda query: _with(query, b"\0\1\x0b\xb8\0\0\0\0", _record(1, bytes([198, 51, 100, 9])) * 3000),
    "a broken binding": lambda query: _with(query, b"\0\1\0\1\0\0\0\0", _record(65, b"\0\1\0\0\5\xff\xff\1")),
}


@pytest.fixture
def liar(world: Lab) -> Iterator[Callable[[Callable[[bytes], bytes]], None]]:
    """The client's only name server answers over UDP and TCP as it is told: set by calling this."""
    host, client = world["services"], world["client"]
    datagrams, listener = host.socket(kind=socket.SOCK_DGRAM), host.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for one in (datagrams, listener):
        one.bind((host.address4, 53))
    listener.listen()
    stop, told = socket.socketpair()
    lie: list[Callable[[bytes], bytes]] = [_good]

    def serve() -> None:
        while told not in (ready := select.select([datagrams, listener, told], [], [])[0]):
            if datagrams in ready:
                query, peer = datagrams.recvfrom(65535)
                datagrams.sendto(lie[0](query), peer)
            if listener in ready:
                with listener.accept()[0] as stream:
                    if query := stream.recv(65535)[2:]:
                        answer = lie[0](query)
                        stream.sendall(len(answer).to_bytes(2) + answer)

    before = client.call(_read)
    client.call(_write, f"nameserver {host.address4}\n")
    thread = threading.Thread(target=serve)
    thread.start()
    yield lambda chosen: lie.__setitem__(0, chosen)
    stop.send(b"x")
    thread.join()
    client.call(_write, before)
    for one in (datagrams, listener, stop, told):
        one.close()


def _read() -> str:
    with open("/etc/resolv.conf") as file:
        return file.read()


def _write(text: str) -> None:
    with open("/etc/resolv.conf", "w") as file:
        file.write(text)


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_name_server_that_lies_gives_no_evidence_and_does_no_harm(
    run: Runner, world: Lab, liar: Callable[[Callable[[bytes], bytes]], None], lie: Callable[[bytes], bytes]
) -> None:
    assert world["tracker"].address4 == socket.inet_ntoa(_TRACKER)
    liar(lie)
    program = f"""
for kind in (1, 65):
    quietly(ask, "192.0.2.2", question("web.test", kind), 0.1)
quietly(ask_stream, "192.0.2.2", question("web.test"), 5)
tell(lambda: dial({world["tracker"].address4!r}, 80))
"""
    rules = ("--allow", "web.test:80", "--allow", f"tcp://{world['web'].address4}:80")
    names = f"WEB = {world['web'].address4!r}\n"
    done = run("--quiet", *rules, command=python(EVADE + _BEFORE + names + program + _AFTER))
    assert (done.code, done.out, done.err) == (7, "ECONNREFUSED\nwell\n", "")


def test_the_name_server_that_lies_can_tell_the_truth(
    run: Runner, liar: Callable[[Callable[[bytes], bytes]], None]
) -> None:
    """Without this the lies would prove nothing."""
    liar(_good)
    program = f"print(code(ask('192.0.2.2', question('web.test')))); dial({socket.inet_ntoa(_TRACKER)!r}, 80)"
    done = run("--allow", "web.test:80", command=python(EVADE + program))
    assert (done.code, done.out) == (0, "('answered', 1)\n")
