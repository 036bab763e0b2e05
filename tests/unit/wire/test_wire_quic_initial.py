"""QUIC: what the datagrams of one flow ask for, from a real client, and from packets sealed by hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
import trustme
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import StreamDataReceived
from aioquic.quic.packet import QuicProtocolVersion
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.quic_packets import ID, crypto, hello, seal

from towpath.wire.quic_initial import QuicFlow
from towpath.wire.quic_keys import VERSION_1, VERSION_2, ClientKeys, whole_number
from towpath.wire.tls_hello import ClientHello

VERSIONS = {VERSION_1: QuicProtocolVersion.VERSION_1, VERSION_2: QuicProtocolVersion.VERSION_2}
HANDSHAKE_PACKET = {VERSION_1: 0xE0, VERSION_2: 0xF0}


def good(hello: ClientHello) -> bool:
    return hello.server_name == "good.test"


def verdicts(flow: QuicFlow, datagrams: Iterable[bytes]) -> list[str]:
    return [flow.receive(datagram) for datagram in datagrams]


def client(name: str = "good.test", version: int = VERSION_1, anchors: bytes | None = None) -> QuicConnection:
    wanted = VERSIONS[version]
    configuration = QuicConfiguration(
        is_client=True,
        server_name=name,
        alpn_protocols=["h3"],
        supported_versions=[wanted],
        original_version=wanted,
        cadata=anchors,
    )
    connection = QuicConnection(configuration=configuration)
    connection.connect(("192.0.2.1", 443), now=0.0)
    return connection


def sent(connection: QuicConnection, now: float = 0.0) -> list[bytes]:
    return [datagram for datagram, _ in connection.datagrams_to_send(now)]


# Keys


@pytest.mark.parametrize(
    ("version", "key", "iv", "protection"),
    [
        (VERSION_1, "1f369613dd76d5467730efcbe3b1a22d", "fa044b2f42a3fd3b46fb255c", "9f50449e04a0e810283a1e9933adedd2"),
        (VERSION_2, "8b1a0bc121284290a29e0971b5cd045d", "91f73e2351d8fa91660e909f", "45b95e15235d6f45a6b19cbcb0294ba9"),
    ],
)
def test_keys_are_those_of_the_rfcs_samples(version: int, key: str, iv: str, protection: str) -> None:
    keys = ClientKeys(version, bytes.fromhex("8394c8f03e515708"))
    assert (keys.key.hex(), keys.iv.hex(), keys.protection.hex()) == (key, iv, protection)


@pytest.mark.parametrize(
    ("truncated", "bits", "expected", "number"),
    [
        (0x9B32, 16, 0xA82F30EB, 0xA82F9B32),
        (0x01, 8, 0x1FF, 0x201),
        (0xFF, 8, 0x100, 0xFF),
        (0x05, 8, 0, 0x05),
        (0xFF, 8, 0, 0xFF),
    ],
)
def test_a_packet_number_is_the_nearest_to_the_expected_one(
    truncated: int, bits: int, expected: int, number: int
) -> None:
    assert whole_number(truncated, bits, expected) == number


# Real clients


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_clients_hello_is_read(version: int) -> None:
    flow = QuicFlow(good)
    assert set(verdicts(flow, sent(client(version=version)))) == {"pass"}
    assert flow.hello is not None
    assert (flow.hello.server_name, flow.hello.alpn) == ("good.test", ("h3",))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_real_client_of_another_name_is_refused_without_a_fault(version: int) -> None:
    flow = QuicFlow(good)
    assert verdicts(flow, sent(client("evil.test", version)))[0] == "refuse"
    assert flow.fault is None
    assert flow.hello is not None
    assert flow.hello.server_name == "evil.test"


def test_a_whole_real_connection_passes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Handshake, data and close of a client against a real server, every client datagram judged."""
    authority = trustme.CA()
    folder = tmp_path_factory.mktemp("quic")
    certificate = authority.issue_cert("good.test")
    certificate.cert_chain_pems[0].write_to_path(folder / "chain.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    server_configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    server_configuration.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    near = client(anchors=authority.cert_pem.bytes())
    far: QuicConnection | None = None
    flow = QuicFlow(good)
    for step in range(20):
        now = step / 100
        if step == 5:
            near.send_stream_data(0, b"hello", end_stream=True)
        if step == 10:
            near.close()
        for datagram in sent(near, now):
            assert flow.receive(datagram) == "pass", flow.fault
            if far is None:
                far = QuicConnection(
                    configuration=server_configuration,
                    original_destination_connection_id=near.original_destination_connection_id,
                )
            far.receive_datagram(datagram, ("192.0.2.9", 1), now)
        assert far is not None
        for datagram in sent(far, now):
            near.receive_datagram(datagram, ("192.0.2.1", 443), now)
    assert far is not None
    received = [event.data for event in iter(far.next_event, None) if isinstance(event, StreamDataReceived)]
    assert received == [b"hello"]


# Hellos in pieces


@pytest.mark.parametrize("version", VERSIONS)
@given(st.lists(st.integers(1, 1100), max_size=12, unique=True), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=30, deadline=None)
def test_any_cut_in_any_order_gives_the_same_name(
    version: int, cuts: list[int], order: random.Random, together: bool
) -> None:
    whole = hello(padding=1100)
    edges = [0, *sorted(cuts), len(whole)]
    pieces = [crypto(whole[start:end], start) for start, end in zip(edges, edges[1:], strict=False)]
    order.shuffle(pieces)
    noise = [b"\1", b"\0\0\0", b"\2\0\0\0\0", b"\3\1\0\1\0\0\0\1\2\3"]
    packets = [
        seal(noise[at % 4] + piece + noise[(at + 1) % 4], number=at, version=version) for at, piece in enumerate(pieces)
    ]
    datagrams = [b"".join(packets)] if together else packets
    flow = QuicFlow(good)
    assert verdicts(flow, datagrams) == ["hold"] * (len(datagrams) - 1) + ["pass"]
    assert flow.hello is not None
    assert flow.hello.server_name == "good.test"


def test_admits_is_asked_once_for_each_hello() -> None:
    asked: list[str | None] = []

    def admits(hello: ClientHello) -> bool:
        asked.append(hello.server_name)
        return True

    flow = QuicFlow(admits)
    packet = seal(crypto(hello()))
    assert verdicts(flow, [packet, packet, seal(crypto(hello()), number=1)]) == ["pass"] * 3
    assert asked == ["good.test"]


def test_a_hello_that_never_ends_is_held_within_bounds() -> None:
    flow = QuicFlow(good)
    whole = hello(padding=60000)
    pieces = [seal(crypto(whole[at : at + 100], at), number=at) for at in range(0, 3000, 100)]
    assert verdicts(flow, pieces[:17]) == ["hold"] * 16 + ["refuse"]
    assert flow.fault is not None
    assert flow.fault.startswith("quic-hold")
    flow = QuicFlow(good)
    assert verdicts(flow, [seal(crypto(whole[:100])) + b"\0" * 40000] * 2) == ["hold", "refuse"]


# What follows an admitted hello


def admitted() -> QuicFlow:
    flow = QuicFlow(good)
    assert flow.receive(seal(crypto(hello()))) == "pass"
    return flow


@pytest.mark.parametrize(
    "datagram",
    [
        b"\x40" + bytes(30),
        b"\x00" + bytes(30) + b"\x01",
        bytes((HANDSHAKE_PACKET[VERSION_1],)) + b"\0\0\0\1\0\0\x05hello",
        seal(b"\1", number=1),
        seal(b"\2\0\0\0\0", number=1, destination=b"servers", origin=ID),
        seal(b"\x1c\0\0\0", number=1),
        seal(b"\1", number=1, version=VERSION_2, destination=b"servers", origin=ID),
        seal(crypto(hello()[:10]), number=3) + b"\x40data",
        seal(crypto(hello()), number=1) + bytes(100),
    ],
)
def test_what_an_admitted_connection_sends_passes(datagram: bytes) -> None:
    assert admitted().receive(datagram) == "pass"


@pytest.mark.parametrize(
    ("datagram", "fault"),
    [
        (seal(crypto(hello("evil.test")), destination=b"another1"), None),
        (seal(crypto(hello("evil.test")), destination=b"another1", token=b"retried"), None),
        (seal(crypto(hello("evil.test")), destination=b"another1", version=VERSION_2), None),
        (seal(crypto(hello()), number=1) + seal(crypto(hello("evil.test")), destination=b"another1"), None),
        (seal(crypto(hello("evil.test"), len(hello())), number=1), None),
        (seal(crypto(hello("evil.test")), number=1), "quic-crypto"),
        (seal(crypto(hello("evil.test")[50:60], 50), number=1), "quic-crypto"),
        (seal(b"\1", destination=b"another1", origin=b"yetother"), "quic-undecryptable"),
        (seal(crypto(b"\2\0\0\0", len(hello())), number=1), "tls-not-hello"),
        (seal(b"\x08\0", number=1), "quic-frame"),
        (seal(b"\6\0\x40\xff", number=1), "quic-frame"),
        (seal(crypto(b"x", 70000), number=1), "quic-crypto"),
        (b"", "quic-empty"),
        (b"\xc0\x00\x00\x00\x05" + bytes(40), "quic-version"),
        (b"\xc0\x00\x00\x00\x00" + bytes(40), "quic-version"),
        (b"\xf0\0\0\0\1" + bytes(40), "quic-retry"),
        (b"\xc0\0\0\0\1\x15" + bytes(40), "quic-connection-id"),
        (b"\xc0\0\0\0\1\x00\x15" + bytes(40), "quic-connection-id"),
        (b"\xc0\0\0\0", "quic-length"),
        (b"\xc0\0\0\0\1\0\0\0\x7f\xff" + bytes(40), "quic-length"),
        (b"\xc0\0\0\0\1\0\0\0\x7f", "quic-length"),
        (b"\xc0\0\0\0\1\0\0\x40", "quic-length"),
        (b"\xc0\0\0\0\1\0\0\x00\x05hello", "quic-undecryptable"),
    ],
)
def test_another_name_on_the_same_flow_is_refused_and_the_first_goes_on(datagram: bytes, fault: str | None) -> None:
    flow = admitted()
    assert flow.receive(datagram) == "refuse"
    assert (flow.fault or "").partition(":")[0] == (fault or "")
    assert flow.receive(b"\x40" + bytes(30)) == "pass"
    assert flow.receive(seal(crypto(hello()), destination=b"another2")) == "pass"


def test_a_second_connection_of_an_admitted_name_waits_until_its_hello_is_whole() -> None:
    flow = admitted()
    first, second = hello()[:30], hello()[30:]
    pieces = [
        seal(crypto(first), destination=b"another1"),
        seal(crypto(second, 30), destination=b"another1", number=1),
    ]
    assert verdicts(flow, pieces) == ["hold", "pass"]


def test_a_second_hello_after_a_retry_request_is_judged_too() -> None:
    flow = admitted()
    start = len(hello())
    again = [
        seal(crypto(hello()[:20], start), number=1),
        seal(crypto(hello()[20:], start + 20), number=2),
    ]
    assert verdicts(flow, again) == ["hold", "pass"]
    other = seal(crypto(hello("evil.test"), 2 * start), number=3)
    assert verdicts(flow, [other, seal(b"\1", number=4)]) == ["refuse", "pass"]


def test_a_second_hello_right_behind_the_first_is_judged_too() -> None:
    flow = QuicFlow(good)
    assert flow.receive(seal(crypto(hello() + hello("evil.test")))) == "refuse"
    assert flow.fault is None
    assert QuicFlow(good).receive(seal(crypto(hello() + hello("evil.test")[:9]))) == "hold"


def test_after_a_refusal_a_hello_must_come_whole_again() -> None:
    flow = QuicFlow(good)
    pieces = [seal(crypto(hello()[:30])), seal(crypto(hello()[30:], 30), number=1)]
    assert flow.receive(pieces[0]) == "hold"
    assert flow.receive(b"\xc0\0\0\0\x63" + bytes(30)) == "refuse"
    assert verdicts(flow, [pieces[1], pieces[0]]) == ["hold", "pass"]


@pytest.mark.parametrize(
    "datagram",
    [b"\x40" + bytes(30), b"GET / HTTP/1.1", bytes(30), b"\xe0\0\0\0\1\0\0\5hello", b"\xd0\0\0\0\1\0\0\5hello"],
)
def test_nothing_passes_before_a_hello(datagram: bytes) -> None:
    flow = QuicFlow(good)
    assert flow.receive(datagram) == "refuse"
    assert (flow.fault or "").startswith("quic-no-hello")


def test_remembered_connections_are_bounded_and_none_that_is_held_is_forgotten() -> None:
    flow = QuicFlow(good)
    partial: Callable[[int], bytes] = lambda at: seal(crypto(hello()[:30]), destination=b"%08d" % at)  # noqa: E731
    assert verdicts(flow, [partial(at) for at in range(9)]) == ["hold"] * 8 + ["refuse"]
    assert (flow.fault or "").startswith("quic-connections")
    flow = admitted()
    for at in range(20):
        assert flow.receive(seal(crypto(hello()), destination=b"%08d" % at)) == "pass"
    assert len(flow._connections) == 8
