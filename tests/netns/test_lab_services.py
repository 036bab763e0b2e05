"""What the Lab's services answer, and what they say they saw."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

import pytest

from towpath.errors import HostFault
from towpath.testing import Banner, Command, Dns, Http, Https, Lab, LabHost, LabPlan, TcpEcho, UdpEcho
from towpath.wire import dns

ECH = base64.b64encode(b"key").decode()
PLAN = (
    LabPlan()
    .host("client")
    .host("web", serves=[Http(names=("web.test",)), Https(names=("web.test",))])
    .host("broken", serves=[Https(port=1, names=("broken.test",), certificate="expired"),
                            Https(port=2, names=("broken.test",), certificate="wrong-name"),
                            Https(port=3, names=("broken.test",), certificate="untrusted")])
    .host("various", serves=[TcpEcho(), UdpEcho(port=9000), Banner(names=("git.test",)),
                             Command(command=("python3", "-m", "http.server", "8000"), port=8000)])
    .host("dns", serves=[Dns()])
    .record("alias.test", "CNAME", "web.test")
    .record("web.test", "HTTPS", f"1 . alpn=h2,h3 ipv4hint=198.51.100.3 ech={ECH}")
    .record("rebind.test", "A", "10.0.0.1", ttl=1)
)  # fmt: skip
for _number in range(100):
    PLAN = PLAN.record("many.test", "AAAA", f"2001:db8:5::{_number:x}")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with PLAN.start() as lab:
        yield lab


@pytest.fixture
def client(lab: Lab) -> LabHost:
    return lab["client"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_log_tells_a_request(lab: Lab, client: LabHost, scheme: str) -> None:
    before = len(lab["web"].log)
    assert client.run(["curl", "-sS", "-4", f"{scheme}://web.test/headers"]).returncode == 0
    (seen,) = lab["web"].log[before:]
    assert (seen.service, seen.peer, seen.host) == (scheme, client.address4, "web.test")
    assert seen.requests == ("GET /headers HTTP/1.1",)
    assert seen.sni == ("web.test" if scheme == "https" else None)
    assert seen.received > 20
    assert seen.sent > 20


def test_one_connection_carries_several_requests(lab: Lab, client: LabHost) -> None:
    before = len(lab["web"].log)
    done = client.run(["curl", "-sS", "http://web.test/", "http://web.test/headers", "-d", "body", "http://web.test/"])
    assert done.returncode == 0, done.stderr
    (seen,) = lab["web"].log[before:]
    assert seen.requests == ("POST / HTTP/1.1", "POST /headers HTTP/1.1", "POST / HTTP/1.1")


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_001])
def test_big_is_as_big_as_was_asked_for(client: LabHost, size: int) -> None:
    done = client.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", f"https://web.test/big?bytes={size}"]
    )
    assert done.stdout == str(size)


def test_all_that_had_arrived_is_in_the_log(lab: Lab, client: LabHost) -> None:
    before = len(lab["various"].log)
    connections = [client.socket() for _ in range(30)]
    for connection in connections:
        connection.connect((lab["various"].address4, 7))
        connection.sendall(b"words")
    seen = lab["various"].log[before:]
    assert [record.received for record in seen] == [5] * 30
    for connection in connections:
        connection.close()


def test_nothing_arrived_where_nobody_went(lab: Lab) -> None:
    assert [seen for seen in lab["various"].log if seen.service == "banner"] == []


@pytest.mark.parametrize(
    ("port", "words"),
    [(1, "expired"), (2, "no alternative certificate subject name matches"), (3, "unable to get local issuer")],
)
def test_a_flawed_certificate_is_refused_by_clients(lab: Lab, client: LabHost, port: int, words: str) -> None:
    done = client.run(["curl", "-sS", f"https://broken.test:{port}/"])
    assert words in done.stderr
    seen = next(seen for seen in lab["broken"].log if seen.port == port)
    assert seen.sni == "broken.test"
    assert seen.requests == ()


def test_the_banner_comes_before_a_word_is_said(lab: Lab, client: LabHost) -> None:
    with client.socket() as connection:
        connection.connect((lab["various"].address4, 22))
        assert connection.recv(100) == b"SSH-2.0-lab\r\n"
        connection.sendall(b"and then it echoes")
        assert connection.recv(100) == b"and then it echoes"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["4", "6"])
def test_datagrams_are_echoed_and_logged(lab: Lab, client: LabHost, family: socket.AddressFamily) -> None:
    there, here = lab["various"], client
    pairs = {socket.AF_INET: (there.address4, here.address4), socket.AF_INET6: (there.address6, here.address6)}
    address, peer = pairs[family]
    with client.socket(family, socket.SOCK_DGRAM) as endpoint:
        endpoint.settimeout(60)
        endpoint.sendto(b"ping", (address, 9000))
        assert endpoint.recv(100) == b"ping"
    seen = [seen for seen in there.log if seen.service == "udp-echo"][-1]
    assert (seen.peer, seen.received, seen.sent) == (peer, 4, 4)


def test_an_external_command_serves_too(lab: Lab, client: LabHost) -> None:
    done = client.run(["curl", "-sS", f"http://{lab['various'].address4}:8000/etc/hostname"])
    assert done.returncode == 0, done.stderr


def test_a_command_that_ends_before_it_serves_fails_the_start() -> None:
    plan = LabPlan().host("broken", serves=[Command(command=("false",), port=80)])
    with pytest.raises(HostFault, match="ended with 1 before it listened on 80"):
        plan.start()


def _ask(lab: Lab, name: str, kind: str, *, edns: bool = True) -> bytes:
    with lab["client"].socket(kind=socket.SOCK_DGRAM) as endpoint:
        endpoint.settimeout(60)
        endpoint.sendto(dns.query(name, kind, 77, edns), (lab["dns"].address4, 53))
        return endpoint.recv(65536)


@pytest.mark.parametrize(
    ("name", "kind", "addresses"),
    [
        ("web.test", "A", ["198.51.100.3"]),
        ("WEB.test", "AAAA", ["2001:db8::3"]),
        ("alias.test", "A", ["198.51.100.3"]),
        ("rebind.test", "A", ["10.0.0.1"]),
        ("rebind.test", "AAAA", []),
    ],
)
def test_the_name_server_knows_the_labs_names(lab: Lab, name: str, kind: str, addresses: list[str]) -> None:
    answer = dns.parse_answer(_ask(lab, name, kind))
    assert (answer.id, answer.rcode, [found.address for found in answer.addresses]) == (77, 0, addresses)


def test_the_time_to_live_is_the_plans(lab: Lab) -> None:
    assert [found.ttl for found in dns.parse_answer(_ask(lab, "rebind.test", "A")).addresses] == [1]


def test_a_name_outside_the_lab_does_not_exist(lab: Lab) -> None:
    assert dns.parse_answer(_ask(lab, "elsewhere.example", "A")).rcode == 3


def test_service_bindings_are_served_with_their_key(lab: Lab) -> None:
    reply = _ask(lab, "web.test", "HTTPS")
    assert b"\x02h2\x02h3" in reply
    assert b"key" in reply
    assert dns.screen(reply, lambda _: True).ech_removed


@pytest.mark.parametrize(("edns", "limit"), [(True, 1232), (False, 512)])
def test_an_answer_too_large_for_a_datagram_is_cut_and_comes_whole_over_tcp(lab: Lab, edns: bool, limit: int) -> None:
    reply = _ask(lab, "many.test", "AAAA", edns=edns)
    assert len(reply) <= limit
    assert dns.parse_answer(reply).truncated
    with lab["client"].socket() as connection:
        connection.connect((lab["dns"].address4, 53))
        query = dns.query("many.test", "AAAA", 78)
        connection.sendall(len(query).to_bytes(2, "big") + query)
        with connection.makefile("rb") as stream:
            whole = stream.read(int.from_bytes(stream.read(2), "big"))
    assert len(dns.parse_answer(whole).addresses) == 100


def test_what_is_no_query_is_not_answered_and_stops_nothing(lab: Lab) -> None:
    with lab["client"].socket(kind=socket.SOCK_DGRAM) as endpoint:
        endpoint.settimeout(60)
        endpoint.connect((lab["dns"].address4, 53))
        for nonsense in (b"", b"\0", bytes(12), b"\xff" * 40):
            endpoint.send(nonsense)
        endpoint.send(dns.query("web.test", "A", 9))
        assert dns.parse_answer(endpoint.recv(65536)).id == 9


def test_every_question_is_logged(lab: Lab) -> None:
    before = len(lab["dns"].log)
    _ask(lab, "web.test", "A")
    _ask(lab, "tracker.example", "AAAA")
    assert [seen.requests for seen in lab["dns"].log[before:]] == [("A web.test",), ("AAAA tracker.example",)]


def test_the_c_library_resolves_by_the_labs_server(client: LabHost) -> None:
    assert client.run(["getent", "ahostsv4", "alias.test"]).stdout.startswith("198.51.100.3 ")
    assert client.run(["getent", "hosts", "elsewhere.example"]).returncode == 2
