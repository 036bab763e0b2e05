"""Ways out of a run by the destination: the host itself, what only it can see, what an address hides. None is dialled.

The proof is twofold: the program is refused, and nothing left the host it runs on.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address

import pytest
from tests.support.attempts import TRY, attempt
from tests.support.rootless_lab import RootlessLab

_REFUSALS = {"ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "EPERM", "EINVAL"}
_SILENCE = {"timed out"}
"""No errors come back for datagrams to groups (RFC 1122 section 3.2.2): the capture alone is the proof."""

GUARDED = {
    "unspecified": "0.0.0.0",
    "this network": "0.1.2.3",
    "unspecified 6": "::",
    "link-local": "169.254.1.1",
    "cloud metadata": "169.254.169.254",
    "multicast": "224.0.0.1",
    "multicast of an organisation": "239.1.2.3",
    "broadcast": "255.255.255.255",
    "multicast 6": "ff02::1%lo",
    "multicast 6 of the world": "ff0e::1",
    "link-local 6": "fe80::1%lo",
    "metadata mapped": "::ffff:169.254.169.254",
    "metadata compatible": "::169.254.169.254",
    "metadata by NAT64": "64:ff9b::a9fe:a9fe",
    "metadata by 6to4": "2002:a9fe:a9fe::1",
    "metadata by Teredo": f"2001:0:a9fe:a9fe::{0xFFFF ^ 0x0102:x}:{0xFFFF ^ 0x0304:x}",
    "loopback by NAT64": "64:ff9b::7f00:1",
    "loopback by 6to4": "2002:7f00:1::1",
    "loopback translated": "::ffff:0:127.0.0.1",
}


def _outcomes(lab: RootlessLab, address: str, port: int, *options: str, silent: bool = False) -> tuple[str, str, str]:
    """What connecting, and sending a datagram, ends with; and what Towpath said."""
    source = TRY + "".join(
        f"tell(lambda: connect({address!r}, {port}, socket.{kind}, seconds={seconds}))\n"
        for kind, seconds in (("SOCK_STREAM", 60), ("SOCK_DGRAM", 0.2 if silent else 60))
    )
    done = lab(source, *options)
    connected, sent = done.out.splitlines()
    return connected, sent, done.err


@pytest.mark.parametrize("address", GUARDED.values(), ids=GUARDED.keys())
@pytest.mark.parametrize("options", [(), ("--allow", "tcp://*:7007", "--allow", "udp://*:7007")], ids=["open", "any"])
def test_a_local_address_is_not_dialled_unless_a_rule_names_it(
    lab: RootlessLab, request: pytest.FixtureRequest, address: str, options: tuple[str, ...]
) -> None:
    lab.capture()
    silent = "cast" in request.node.name
    connected, sent, _ = _outcomes(lab, address, 7007, *options, silent=silent)
    assert connected in _REFUSALS
    assert sent in _REFUSALS | (_SILENCE if silent else set())
    assert lab.captured() == []


def _forms(lab: RootlessLab) -> dict[str, str]:
    """The client's own addresses, and those that lead there by way of another."""
    four, six = lab.addresses["client"]
    packed = IPv4Address(four).packed
    return {
        "own": four,
        "own 6": six,
        "own mapped": f"::ffff:{four}",
        "own compatible": str(IPv6Address(bytes(12) + packed)),
        "own by NAT64": str(IPv6Address(bytes.fromhex("0064ff9b") + bytes(8) + packed)),
        "own by 6to4": str(IPv6Address(b"\x20\x02" + packed + bytes(9) + b"\x01")),
    }


@pytest.mark.parametrize("form", ["own", "own 6", "own mapped", "own compatible", "own by NAT64", "own by 6to4"])
def test_the_hosts_own_address_is_not_dialled_unless_a_rule_names_it(lab: RootlessLab, form: str) -> None:
    lab.capture()
    connected, sent, said = _outcomes(
        lab, _forms(lab)[form], 7007, "--allow", "tcp://*:7007", "--allow", "udp://*:7007"
    )
    assert {connected, sent} <= _REFUSALS
    assert said.count("is an address of this host, which only a rule that names it opens") == 2
    assert lab.captured() == []
    assert lab.log("client") == []


def test_the_hosts_own_address_is_reached_by_a_rule_that_names_it(lab: RootlessLab) -> None:
    own = lab.addresses["client"][0]
    assert lab(attempt(f"connect({own!r}, 7007)"), "--allow", f"tcp://{own}:7007").out == "DONE None\n"
    assert [service for service, _, _ in lab.log("client")] == ["tcp-echo"]


def test_the_loopback_inside_is_not_the_hosts(lab: RootlessLab) -> None:
    seen = lab.log("client")
    for address in ("127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "0.0.0.0"):
        assert _outcomes(lab, address, 7007)[:2] == ("ECONNREFUSED", "ECONNREFUSED")
    assert lab.log("client") == seen


# --- the relay ---


@pytest.mark.parametrize("port", [9, 8, 54, 1024])
@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8:746f:7770::1"])
def test_the_relay_does_not_answer_at_its_own_address(lab: RootlessLab, address: str, port: int) -> None:
    lab.capture()
    connected, sent, _ = _outcomes(lab, address, port)
    assert {connected, sent} <= _REFUSALS
    assert lab.captured() == []


def test_the_relay_is_not_reachable_from_the_host(lab: RootlessLab) -> None:
    run = lab.start(TRY + "print('ready', flush=True); sys.stdin.readline()")
    assert run.line() == "ready\n"
    for address in ("192.0.2.1", "2001:db8:746f:7770::1", "127.0.0.1"):
        for port in (9, 53):
            outside = lab.on_client(
                [lab.user.python, "-I", "-c", attempt(f"connect({address!r}, {port}, seconds=0.5)")]
            )
            assert outside.out.strip() in _REFUSALS | _SILENCE
    assert run.finish().code == 0


def test_binding_the_address_of_a_refused_host_does_not_make_it_reachable(lab: RootlessLab) -> None:
    """Every address is local inside, so that bind() succeeds. It gains nothing: connecting is asked about first."""
    tracker, web = lab.addresses["tracker"][0], lab.addresses["web"][0]
    source = (
        TRY
        + f"""
listener = socket.socket(); listener.bind(({tracker!r}, 8080)); listener.listen()
tell(lambda: connect({tracker!r}, 8080, seconds=60))
s = socket.socket(); s.bind(({tracker!r}, 0)); s.settimeout(60)
tell(lambda: s.connect(({web!r}, 80)))
s.sendall(b"GET / HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n"); print(s.recv(8))
tell(lambda: connect({tracker!r}, 80, seconds=60))
"""
    )
    seen = len(lab.log("tracker"))
    done = lab(source, "--allow", f"tcp://{web}:80")
    assert done.out == "ECONNREFUSED\nDONE None\nb'HTTP/1.1'\nECONNREFUSED\n"
    assert lab.log("web")[-1] == ("http", 80, lab.addresses["client"][0]), "the server sees the true source"
    assert len(lab.log("tracker")) == seen


def test_a_listener_at_an_allowed_hosts_address_does_not_take_its_connections(lab: RootlessLab) -> None:
    web = lab.addresses["web"][0]
    source = (
        TRY
        + f"""
listener = socket.socket(); listener.bind(({web!r}, 8080)); listener.listen()
tell(lambda: connect({web!r}, 8080, seconds=60))
"""
    )
    assert lab(source, "--allow", f"tcp://{web}:8080").out == "ECONNREFUSED\n", "as outside, where nothing listens"


# --- every transport and every way to send ---


@pytest.mark.parametrize(
    ("kind", "protocol"),
    [("SOCK_STREAM", 132), ("SOCK_SEQPACKET", 132), ("SOCK_DCCP", 33), ("SOCK_DGRAM", 136), ("SOCK_DGRAM", 115)],
    ids=["sctp", "sctp-seqpacket", "dccp", "udp-lite", "l2tp"],
)
def test_a_transport_that_is_not_judged_is_refused(lab: RootlessLab, kind: str, protocol: int) -> None:
    web = lab.addresses["web"][0]
    number = {"SOCK_DCCP": 6}.get(kind, getattr(socket, kind, 0))
    lab.capture()
    done = lab(attempt(f"connect({web!r}, 9000, {number}, seconds=1, protocol={protocol})"))
    assert done.out.strip() in _REFUSALS | _SILENCE | {"EPROTONOSUPPORT", "ESOCKTNOSUPPORT"}
    assert lab.captured() == []


@pytest.mark.parametrize(
    "send",
    [
        "s.sendto(b'x', D)",
        "s.sendmsg([b'x'], [], 0, D)",
        "s.sendmsg([b'x' * 900], [(socket.SOL_UDP, 103, struct.pack('=H', 100))], 0, D)",
        "(s.connect(('127.0.0.1', 9000)), s.sendto(b'x', D))",
        "(s.bind(('0.0.0.0', 53000)), s.sendto(b'x', D))",
        "s.sendmsg([b'x'], [(socket.IPPROTO_IP, 8, struct.pack('=I4s4x', 0, bytes([192, 0, 2, 1])))], 0, D)",
        "(s.setsockopt(socket.IPPROTO_IP, 4, bytes([131, 7, 4]) + GOOD + bytes(1)), s.sendto(b'x', D))",
        "(s.setsockopt(socket.IPPROTO_IP, 4, bytes([137, 7, 4]) + GOOD + bytes(1)), s.sendto(b'x', D))",
        "(s.setsockopt(socket.IPPROTO_IP, 4, bytes([7, 7, 4]) + bytes(5)), s.sendto(b'x', D))",
        "(s.setsockopt(socket.IPPROTO_IP, 10, 3), s.sendto(b'x' * 60000, D))",
    ],
    ids=["plain", "message", "segments", "elsewhere", "port", "source", "loose-route", "strict-route", "record", "big"],
)
def test_a_datagram_without_connecting_is_judged_too(lab: RootlessLab, send: str) -> None:
    """GOOD is an allowed address, for options that would have a router there pass the packet on."""
    tracker, web = lab.addresses["tracker"][0], lab.addresses["web"][0]
    before = f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
D, GOOD = ({tracker!r}, 9000), socket.inet_aton({web!r})
"""
    seen = len(lab.log("tracker"))
    lab.capture()
    lab(attempt(send, before), "--allow", f"udp://{web}:9000")
    assert not any(sent.startswith(tracker) for sent in lab.captured())
    assert len(lab.log("tracker")) == seen


@pytest.mark.parametrize(
    "action",
    [
        "s.sendto(b'x', socket.MSG_FASTOPEN, D)",
        "(s.setsockopt(socket.IPPROTO_TCP, 30, 1), s.connect(D), s.send(b'x'))",
        "(s.setsockopt(socket.IPPROTO_IP, 4, bytes([131, 7, 4]) + GOOD + bytes(1)), s.connect(D))",
        "(s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'lo'), s.connect(D))",
        "(s.bind(('0.0.0.0', 0)), s.connect(D))",
        "connect(D[0], D[1], protocol=262)",
        "(s.setblocking(False), s.connect(D))",
    ],
    ids=["fast-open", "fast-open-connect", "loose-route", "device", "bound", "multipath", "non-blocking"],
)
def test_a_connection_begun_in_any_way_is_judged(lab: RootlessLab, action: str) -> None:
    tracker, web = lab.addresses["tracker"][0], lab.addresses["web"][0]
    before = f"s = socket.socket(); D, GOOD = ({tracker!r}, 7), socket.inet_aton({web!r})"
    seen = len(lab.log("tracker"))
    lab.capture()
    lab(attempt(action, before), "--allow", f"tcp://{web}:80")
    assert not any(sent.startswith(tracker) for sent in lab.captured())
    assert len(lab.log("tracker")) == seen


def test_a_datagram_socket_judged_once_is_judged_again_for_another_destination(lab: RootlessLab) -> None:
    tracker, web = lab.addresses["tracker"][0], lab.addresses["web"][0]
    source = (
        TRY
        + f"""
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(60); s.bind(("", 5555))
s.sendto(b"one", ({web!r}, 9000)); print(s.recv(10))
for _ in range(3):
    s.sendto(b"two", ({tracker!r}, 9000))
s.sendto(b"three", ({web!r}, 9000)); print(s.recv(10))
"""
    )
    seen = len(lab.log("tracker"))
    assert lab(source, "--allow", f"udp://{web}:9000").out == "b'one'\nb'three'\n"
    assert len(lab.log("tracker")) == seen


def test_a_ping_is_judged_too(lab: RootlessLab) -> None:
    tracker = lab.addresses["tracker"]
    lab.capture()
    for address in tracker:
        assert lab(["ping", "-c1", "-W1", address], "--allow", "web.test").code != 0
    assert not any(sent.split()[0] in tracker for sent in lab.captured())
