"""Each entry takes any bytes and must come back: a parser gives a value or `PeerViolation`, nothing else, in time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

from tests.fuzz import layers, secure_layers, signed_answers, tunnels
from tests.fuzz.quic_packets import crypto, hello, seal

from towpath.dns_proxy.cache import WireCache, key_of
from towpath.errors import ConfigInvalid, Misuse, PeerViolation
from towpath.hosting import messages
from towpath.hosting.first_words import read as read_first_words
from towpath.hosting.held_stream import HeldStream
from towpath.hosting.host_names import learn_from
from towpath.hosting.manifest import inline_metadata, read_manifest
from towpath.hosting.names import NameEvidence
from towpath.hosting.toml_text import TomlText
from towpath.linux import conntrack, mounts, netlink, network_messages, nfqueue, packet_log, run_sockets
from towpath.live.board import Board
from towpath.live.link import parse
from towpath.names.binding import ServiceBinding
from towpath.names.carriers import StreamCarrier
from towpath.names.client import Lookup, Server
from towpath.names.framing import MessageReader, framed
from towpath.names.https_carrier import HttpsCarrier
from towpath.names.quic_carrier import QuicCarrier
from towpath.names.reply import MAX_ALIASES, MAX_TTL, parse_reply
from towpath.names.system import parse_hosts, parse_resolver_configuration
from towpath.names.tls_carrier import TlsCarrier, tls_context
from towpath.names.upstream import parse_upstream
from towpath.policy.explain import explain
from towpath.policy.guard import local_kind, private_kind
from towpath.policy.host import bracketed
from towpath.policy.policy import Policy
from towpath.policy.request import Asked, Request, Unclear, fault_of, readings
from towpath.policy.rule import parse_rule
from towpath.providers.verdict import Drop
from towpath.sandbox.capture import ends_of
from towpath.wire import dns, dns_scan, ip
from towpath.wire.address import pack, unpack
from towpath.wire.dns_message import Reader, text
from towpath.wire.http_request import RequestReader, looks_like
from towpath.wire.quic_initial import QuicFlow
from towpath.wire.tls_hello import parse_handshake, parse_stream

__all__ = ["ENTRIES", "SEEDS"]

Entry = Callable[[bytes], None]


def worker_messages(data: bytes) -> None:
    try:
        messages.from_worker(data)
    except PeerViolation:
        return


def dns_query(data: bytes) -> None:
    try:
        question = dns.parse_query(data)
    except PeerViolation:
        return
    for answer in (dns.refusal(data, question, "no rule allows it"), dns.failure(data, question, "nobody answered")):
        parsed = dns.parse_answer(answer)
        assert (parsed.id, parsed.name, parsed.type) == (question.id, question.name, question.type)
        assert parsed.rcode in (2, 3)
        assert not parsed.addresses


def dns_answer(data: bytes) -> None:
    try:
        dns.parse_answer(data)
    except PeerViolation:
        return


def dns_screen(data: bytes) -> None:
    """What was screened holds nothing that is refused, and needs no second screening."""
    try:
        screened = dns.screen(data, lambda address: local_kind(address) is None)
    except PeerViolation:
        return
    again = dns.screen(screened.data, lambda address: local_kind(address) is None)
    assert again.data is screened.data
    assert not again.dropped
    assert not again.ech_removed


def dns_scan_answer(data: bytes) -> None:
    """What is kept of an answer can be given again, older, and says the same."""
    query = dns.parse_query(_QUERY)
    plain = dns_scan.plain_answer(data, query.end) if len(data) >= 12 else None
    try:
        scanned = dns_scan.scan(data)
    except PeerViolation:
        assert plain is None or data[12 : query.end] != _QUERY[12 : query.end]
        return
    assert plain is None or plain.scanned == scanned or data[12 : query.end] != _QUERY[12 : query.end]
    assert all(0 <= at <= len(scanned.body) - 4 for at in scanned.offsets)
    for dnssec in (False, True):
        try:
            kept = dns_scan.validated(data, authentic=True, dnssec=dnssec, most_ttl=30)
        except PeerViolation:
            continue  # it does not fit a message any more, once it is written without compression
        assert kept[3] & 0x20
        assert dns_scan.scan(kept).ttl <= 30 or not dns_scan.scan(kept).offsets
    again = dns_scan.scan(data[:2] + dns_scan.aged(scanned.body, scanned.offsets, 1 << 30))
    assert len(again.offsets) == len(scanned.offsets)
    if scanned.body[10 : query.end - 2].lower() == _QUERY[12 : query.end].lower():
        cache = WireCache()
        key = key_of(_QUERY, query)
        entry = cache.store(key, scanned, 0)
        for limit in (512, 65535):
            given = cache.prepare(entry, _QUERY, query, 0, limit)
            assert len(given) <= limit
            assert dns.parse_query(_QUERY).name == dns_scan_name(given)
    dns_scan.error_answer(data, 1)


def dns_scan_name(data: bytes) -> str:
    dns_scan.scan(data)
    reader = Reader(data)
    reader.header()
    return text(reader.question()[0])


def dns_server_text(data: bytes) -> None:
    try:
        found = parse_upstream(data.decode("utf-8", "replace"))
    except ConfigInvalid:
        return
    assert parse_upstream(str(found)) == found


def dns_carried(data: bytes) -> None:
    """Messages of a connection to a server, however it is cut."""
    outcomes = []
    for size in (1, 7, len(data) or 1):
        carrier = StreamCarrier()
        outcomes.append([one for at in range(0, len(data), size) for one in carrier.received(data[at : at + size])])
    assert outcomes[0] == outcomes[1] == outcomes[2]


_TLS = tls_context()


def dns_secure_carried(data: bytes) -> None:
    """What is not TLS ends a carrier, and what is not HTTP/2; neither ever gives what was not asked for."""
    message = dns_scan.bare_question(_QUERY[12:31], b"\0\1\0\1", 7, dnssec=False, checking_disabled=False, ad=False)
    for carrier in (TlsCarrier(_TLS, "dns.test", StreamCarrier()), HttpsCarrier("dns.test", "/dns-query")):
        carrier.start()
        carrier.ask(message)
        assert carrier.outgoing()
        for at in range(0, len(data), 50):
            assert all(answer[:2] == b"\0\7" for answer in carrier.received(data[at : at + 50]))
        assert {identity for identity, _ in carrier.lost()} <= {7}
        carrier.outgoing()
        carrier.received(b"")
        assert carrier.ended


def dns_quic_carried(data: bytes) -> None:
    carrier = QuicCarrier("dns.test", ("192.0.2.1", 853))
    carrier.start(0.0)
    carrier.ask(_QUERY)
    carrier.outgoing(0.0)
    assert carrier.received(data, 0.1) == []
    carrier.outgoing(0.1)
    for at in range(1, 100):
        carrier.wake(float(at))
    assert carrier.ended


def dns_reply(data: bytes) -> None:
    """Whatever arrives, a question ends with a value, or goes on, and never with more than it may take."""
    try:
        reply = parse_reply(data)
    except PeerViolation:
        pass
    else:
        assert len(reply.aliases) <= MAX_ALIASES
        assert all(0 <= alias.ttl <= MAX_TTL for alias in reply.aliases)
        assert all(0 <= record.ttl <= MAX_TTL for record in reply.records)
    lookup = Lookup("www.good.test", "A", [Server("192.0.2.1"), Server("192.0.2.2")], below=lambda limit: 7)
    sends = lookup.start(0.0)
    for at in range(8):
        for send in sends:
            sends = lookup.received(send.number, data, float(at))
    assert not lookup.finished or lookup.reply is not None or lookup.troubles


def dns_binding(data: bytes) -> None:
    try:
        binding = ServiceBinding.parse("www.good.test", data)
    except PeerViolation:
        return
    assert binding.target
    assert all(pack(address) is not None for address in (*binding.ipv4hint, *binding.ipv6hint))
    assert binding.protocols(("http/1.1",))


def dns_stream(data: bytes) -> None:
    """One byte at a time or all at once: the same messages, each as it was framed."""
    outcomes = []
    for size in (1, 7, len(data) or 1):
        reader = MessageReader()
        outcomes.append([one for at in range(0, len(data), size) for one in reader.receive(data[at : at + size])])
    assert outcomes[0] == outcomes[1] == outcomes[2]
    assert data.startswith(b"".join(map(framed, outcomes[0])))


def resolver_files(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = parse_resolver_configuration(text)
    assert 1 <= len(found.servers) <= 3
    assert 1 <= found.query.timeout <= 30
    assert 1 <= found.query.attempts <= 5
    for addresses_of in parse_hosts(text).addresses.values():
        assert all(pack(address.partition("%")[0]) is not None for address in addresses_of)


def tls_stream(data: bytes) -> None:
    try:
        hello = parse_stream(data)
    except PeerViolation:
        return
    if hello is not None:
        assert parse_stream(data[: hello.length]) == hello
        assert parse_stream(data[: hello.length - 1]) is None


def tls_handshake(data: bytes) -> None:
    try:
        hello = parse_handshake(data)
    except PeerViolation:
        return
    if hello is not None:
        assert parse_handshake(data[: hello.length]) == hello


def quic_flow(data: bytes) -> None:
    flow = QuicFlow(lambda hello: hello.server_name == "good.test")
    for datagram in (data, data[::2], data):
        verdict = flow.receive(datagram)
        assert verdict in ("pass", "hold", "refuse")
        assert verdict == "refuse" or flow.hello is not None or verdict == "hold"


def quic_frames(data: bytes) -> None:
    """Any frames in a packet that opens, then the rest of them in a second one."""
    flow = QuicFlow(lambda hello: hello.server_name == "good.test")
    for number, frames in enumerate((data, data[::-1], crypto(hello()))):
        verdict = flow.receive(seal(frames, number=number))
        assert verdict in ("pass", "hold", "refuse")
        assert verdict != "pass" or flow.hello is not None


def http_request(data: bytes) -> None:
    """One byte at a time or all at once: the same requests, or the same complaint."""
    outcomes = []
    for size in (1, len(data) or 1):
        reader = RequestReader()
        passed = b""
        fault = ""
        try:
            for at in range(0, len(data), size):
                for part in reader.receive(data[at : at + size]):
                    passed += part if isinstance(part, bytes) else part.raw
            reader.end()
        except PeerViolation as violation:
            fault = violation.fault
        assert data.startswith(passed)
        outcomes.append(fault)
    assert outcomes[0] == outcomes[1]
    if looks_like(data) is False:
        assert outcomes[0] in ("http-not-a-request", "http-line-end")


def rule_text(data: bytes) -> None:
    """A rule that was read is read again from its own words."""
    try:
        rule = parse_rule(data.decode("utf-8", "replace"), "allow", "--allow")
    except ConfigInvalid:
        return
    again = parse_rule(rule.text, "deny", "--deny")
    assert (again.schemes, again.host, again.port) == (rule.schemes, rule.host, rule.port)
    assert parse_rule(bracketed(rule.host.text), "allow", "--allow").host == rule.host


def policy_explain(data: bytes) -> None:
    allow = ["good.test", "*.deep.test:22", "10.0.0.0/8", "GET,HEAD http://web.test/a/*/b*", "git.test:22 by git"]
    policy = Policy.load(allow, ["bad.test", "tls://*.ads.test", "http://web.test/a/secret/*"], [])
    try:
        explanation = explain(policy, data.decode("utf-8", "replace"))
    except ConfigInvalid:
        return
    assert explanation.verdict in ("allow", "deny")
    assert explanation.as_text()


def captured_packet(data: bytes) -> None:
    ends = ends_of(memoryview(data))
    assert ends is None or len(ends[1]) == len(ends[3])


def request_paths(data: bytes) -> None:
    """A path has readings without dot segments, or none; a rule made of one covers it, and denies what it allows."""
    path = "/" + data.decode("latin-1")
    try:
        ways = readings(path)
    except Unclear:
        assert fault_of(path.replace("*", "")) or "*" in path
        return
    assert not any({".", ".."} & set(way.split("/")) for way in ways)
    asked = Asked("GET", path)
    assert Request(None, "/*").excludes(asked, "allow") == ""
    for way in ways:
        assert Request(None, way.replace("%2A", "x")).excludes(asked, "deny") == "" or "%2A" in way


def addresses(data: bytes) -> None:
    """Text of any kind is an address or not; an address has one text."""
    text = data.decode("latin-1")
    packed = pack(text)
    if packed is not None:
        assert pack(unpack(packed)) == packed
    local_kind(text)
    private_kind(text)


def dns_names(data: bytes) -> None:
    try:
        wire = dns.cname(data.decode("latin-1"))
    except Misuse:
        return
    assert len(wire) <= 255


def ip_packet(data: bytes) -> None:
    try:
        packet = ip.parse(data)
    except PeerViolation:
        return
    assert len(packet.source) == len(packet.destination) == (4 if packet.version == 4 else 16)
    assert ip.text_of(packet.destination)


def netlink_messages(data: bytes) -> None:
    try:
        found = netlink.messages(data)
        for _kind, flags, _sequence, payload in found:
            netlink.attrs(payload)
            if len(payload) >= 4:
                netlink.error_of(flags, payload)
    except PeerViolation:
        return


def network_facts(data: bytes) -> None:
    """Any body of a link, an address or a route is facts that have a consistent form, or a violation."""
    try:
        link = network_messages.parse_link(data)
        assert link.index > 0
        assert link.name
    except PeerViolation:
        pass
    try:
        address = network_messages.parse_address(data)
        assert address is None or 0 <= address.prefix <= address.address.max_prefixlen
    except PeerViolation:
        pass
    try:
        route = network_messages.parse_route(data)
        assert route is None or len(route.hops) <= len(data)
        assert 0 <= network_messages.route_table(data) < 1 << 32
    except PeerViolation:
        pass
    try:
        assert network_messages.matters(data) in (True, False)
    except PeerViolation:
        pass


def queue_packet(data: bytes) -> None:
    packet = nfqueue.parse_packet(data)
    if packet is not None:
        assert 0 <= packet.id < 1 << 32
        assert packet.data in data
        assert 0 <= packet.mark < 1 << 32


def tcp_segment(data: bytes) -> None:
    """A segment is read wherever the packet is, and has no more bytes than the packet."""
    try:
        segment = ip.segment(data)
    except PeerViolation:
        return
    assert ip.parse(data).protocol == ip.TCP
    assert data.endswith(segment.payload)
    assert 0 <= segment.sequence < 1 << 32


def ended_flow(data: bytes) -> None:
    for ended in conntrack.parse_ended(data):
        assert ended.opened.protocol in (ip.TCP, ip.UDP)
        assert ended.opened.reversed().reversed() == ended.opened


def logged_packet(data: bytes) -> None:
    assert all(packet and packet in data for packet in packet_log.parse_copies(data))


def answer_copy(data: bytes) -> None:
    """A copy of a packet from port 53, and any payload of such a packet."""
    names = NameEvidence()
    for packet in (data, _answer_packet(ip.UDP, data), _answer_packet(ip.TCP, data)):
        learn_from(packet, names)


def _answer_packet(protocol: int, payload: bytes) -> bytes:
    """Of the length and checksums only that is right which is read."""
    ports = b"\0\x35\x9c\x40"
    head = bytes(4) if protocol == ip.UDP else bytes(8) + b"\x50\x18" + bytes(6)
    return bytes.fromhex("450000000000400040") + bytes([protocol]) + bytes(2) + bytes(8) + ports + head + payload


def held_stream(data: bytes) -> None:
    """Segments as the bytes say: each packet has one fate, and each byte of the stream is taken once."""
    stream = HeldStream[int](0)
    taken_bytes, fates, count = 0, [], 0
    for count, (at, length) in enumerate(zip(data[::2], data[1::2], strict=False), 1):
        taken = stream.take(at, bytes(length & 0x7F), length > 0xF0, count)
        taken_bytes += sum(len(chunk) for chunk in taken.chunks)
        fates += [*taken.passed, *taken.dropped]
        if length & 1:
            fates += stream.release(1)
    fates += stream.release_all()
    assert sorted(fates) == list(range(1, count + 1))
    assert taken_bytes <= 255 + 127


def first_words(data: bytes) -> None:
    """What a client says first, in whatever pieces, is understood alike or not yet."""
    whole = read_first_words(data)
    for end in range(0, len(data), max(1, len(data) // 8)):
        part = read_first_words(data[:end])
        if part is not None and whole is not None and not part.fault and not whole.fault:
            assert (part.scheme, part.name) == (whole.scheme, whole.name)


def proc_net_unix(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as table:
        table.write(b"Num RefCount Protocol Flags Type St Inode Path\n" + data)
        table.flush()
        assert all(path.startswith("/") for path in mounts.listening_unix_sockets(table.name))
        assert all(pid >= 0 for pid in run_sockets.find(table.name).values())


def live_stream(data: bytes) -> None:
    """Whatever a stream says, there is a picture of it, and a summary."""
    board = Board()
    for line in data.split(b"\n"):
        message = parse(line)
        if message is not None:
            board.take(message)
    board.tree()
    board.visible("x")
    assert board.summary()


def script_manifest(data: bytes) -> None:
    """Any script has a manifest, none, or a mistake in a line that the script has."""
    source = data.decode("utf-8", "replace").replace("\r\n", "\n")
    inline, manifest, where = None, None, "a.py:1"
    try:
        inline = inline_metadata(source, "a.py")
        manifest = read_manifest(TomlText(inline.text, "a.py", inline.line)) if inline else None
    except ConfigInvalid as error:
        where = error.where
    assert where == "a.py" or 0 < int(where.removeprefix("a.py:")) <= source.count("\n") + 2
    if manifest is not None:
        assert inline is not None
        assert manifest.id in inline.text
        assert "content-filter-provider" in manifest.capabilities


ENTRIES: dict[str, Entry] = (
    {
        entry.__name__: entry
        for entry in (
            addresses,
            answer_copy,
            captured_packet,
            dns_answer,
            dns_binding,
            dns_names,
            dns_query,
            dns_reply,
            dns_screen,
            dns_scan_answer,
            dns_server_text,
            dns_carried,
            dns_secure_carried,
            dns_quic_carried,
            dns_stream,
            ended_flow,
            first_words,
            held_stream,
            http_request,
            ip_packet,
            logged_packet,
            netlink_messages,
            network_facts,
            live_stream,
            policy_explain,
            proc_net_unix,
            queue_packet,
            quic_frames,
            quic_flow,
            request_paths,
            resolver_files,
            rule_text,
            script_manifest,
            tcp_segment,
            tls_handshake,
            tls_stream,
            worker_messages,
        )
    }
    | layers.ENTRIES
    | secure_layers.ENTRIES
    | signed_answers.ENTRIES
    | tunnels.ENTRIES
)

_QUERY = dns.query("www.good.test", "A", 7)
_ANSWER = dns.answer(
    _QUERY,
    [
        dns.Record("www.good.test", "CNAME", 30, dns.cname("edge.good.test")),
        dns.Record("edge.good.test", "A", 60, dns.a("192.0.2.1")),
        dns.Record("edge.good.test", "A", 60, dns.a("127.0.0.1")),
        dns.Record("edge.good.test", "HTTPS", 60, dns.https(1, "", alpn=["h3"], ipv4hint=["127.0.0.1"], ech=b"key")),
    ],
)
_HELLO = bytes.fromhex("0303") + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
_SERVER_NAME = b"\0\0\0\x0e\0\x0c\0\0\x09good.test"
_HANDSHAKE = b"\x01" + (len(_HELLO) + 2 + len(_SERVER_NAME)).to_bytes(3, "big") + _HELLO
_HANDSHAKE += len(_SERVER_NAME).to_bytes(2, "big") + _SERVER_NAME
_REQUEST = (
    b"POST /a?b HTTP/1.1\r\nHost: good.test:80\r\nTransfer-Encoding: chunked\r\n\r\n5;a\r\nhello\r\n0\r\nX: y\r\n\r\n"
)

_RECORD = b"\x16\x03\x01" + len(_HANDSHAKE).to_bytes(2, "big") + _HANDSHAKE
_IP4_UDP = bytes.fromhex("4500001d00000000401100000a0000010a000002123400350009000078")
_IP6_PING = bytes.fromhex("6000000000083a40") + bytes(32) + bytes.fromhex("8000000000010001")
_QUEUED = netlink.message(0x300, 0, 0, bytes(4) + netlink.attr(1, b"\0\0\0\x2a\x08\0\3") + netlink.attr(10, _IP4_UDP))
_IP4_TCP = bytes.fromhex("4500002a00000000400600000a0000010a000002123400500000000700000000501800ff000000006869")
_LOGGED = netlink.message(0x400, 0, 0, bytes(4) + netlink.attr(9, _IP4_UDP))


def _tracked(kind: int, source: bytes, destination: bytes) -> bytes:
    ports = netlink.attr(1, b"\x11") + netlink.attr(2, b"\x12\x34") + netlink.attr(3, b"\0\x35")
    addresses = netlink.nested(1, netlink.attr(1, source), netlink.attr(2, destination))
    return netlink.nested(kind, addresses, netlink.nested(2, ports))


_COUNTS = netlink.attr(1, bytes(7) + b"\1") + netlink.attr(2, bytes(7) + b"\x21")
_ENDED = netlink.message(
    0x102,
    0,
    0,
    bytes(4)
    + _tracked(1, b"\x0a\0\0\1", b"\x0a\0\0\2")
    + _tracked(2, b"\x0a\0\0\2", b"\x0a\0\0\1")
    + netlink.nested(9, _COUNTS)
    + netlink.nested(10, _COUNTS),
)
_LINK_BODY = bytes.fromhex("00000100030000000310010000000000") + netlink.attr(3, b"net\0")
_LINK_BODY += netlink.attr(4, netlink.u32(1500)) + netlink.nested(18, netlink.attr(1, b"veth"))
_ADDRESS_BODY = (
    bytes.fromhex("0218800003000000") + netlink.attr(1, b"\xc0\0\2\x09") + netlink.attr(8, netlink.u32(0x80))
)
_ROUTE_BODY = bytes.fromhex("02000000fe04000100000000") + netlink.attr(4, netlink.u32(3))
_ROUTE_BODY += netlink.attr(9, bytes.fromhex("1000000003000000") + netlink.attr(5, b"\xc0\0\2\1"))

SEEDS: dict[str, tuple[bytes, ...]] = (
    {
        "addresses": (b"192.0.2.1", b"2001:db8::1", b"::ffff:127.0.0.1", b"64:ff9b::7f00:1"),
        "answer_copy": (
            _answer_packet(ip.UDP, _ANSWER),
            _answer_packet(ip.TCP, framed(_ANSWER) + framed(_ANSWER)),
            framed(_ANSWER) + b"\0",
        ),
        "dns_answer": (_ANSWER, _QUERY),
        "dns_binding": (
            dns.https(
                1, "svc.good.test", alpn=["h2", "h3"], ipv4hint=["192.0.2.1"], ipv6hint=["2001:db8::1"], ech=b"key"
            ),
            b"\0\1\0\0\0\0\2\0\1\0\1\0\3\2h2\0\2\0\0\0\3\0\2\x20\xfb",
        ),
        "dns_names": (b"www.good.test", b"a\\046b.test"),
        "dns_query": (_QUERY, dns.query("_443._https.good.test", "HTTPS", 1, edns=False)),
        "dns_reply": (
            _ANSWER,
            dns.answer(_QUERY, [], 5)[:10]
            + b"\0\1"
            + _QUERY[12:31]
            + b"\0\0\x29\x04\xd0\0\0\0\0\0\x0b\0\x0f\0\7\0\x0fwords",
            dns.answer(_QUERY, [], 3, authorities=[dns.Record("good.test", "SOA", 60, b"\0\0" + bytes(20))]),
        ),
        "dns_screen": (_ANSWER,),
        "dns_scan_answer": (
            _ANSWER,
            dns.answer(_QUERY, [dns.Record("www.good.test", "A", 60, b"abcd")] * 3)[:11]
            + b"\1"
            + dns.answer(_QUERY, [dns.Record("www.good.test", "A", 60, b"abcd")] * 3)[12:]
            + b"\0\0\x29\x04\xd0\0\0\0\0\0\x06\0\x0f\0\2\0\x0f",
        ),
        "dns_server_text": (
            b"192.0.2.53#5353",
            b"tls://dns.test@192.0.2.53,2001:db8::53",
            b"https://dns.test@[2001:db8::1]:8443/dns-query",
        ),
        "dns_secure_carried": (
            bytes.fromhex("000000040000000000" + "000012040000000000000300000064000400010000000600002000"),
            bytes.fromhex("00000001050000000188") + bytes.fromhex("000004000100000001") + b"abcd",
            b"\x16\3\3\0\4\2\0\0\0\x15\3\3\0\2\2\x28",
        ),
        "dns_quic_carried": (bytes.fromhex("c0000000010800000000000000000000401a") + bytes(26), b"\x40" * 30),
        "dns_carried": (framed(_QUERY) + framed(_ANSWER), b"\0\0\0\1x"),
        "dns_stream": (framed(_QUERY) + framed(_ANSWER), b"\0\0\0\1x"),
        "ended_flow": (_ENDED,),
        "held_stream": (bytes(range(40)), b"\x00\x02\x04\x02\x02\x02\x01\x05"),
        "logged_packet": (_LOGGED,),
        "tcp_segment": (_IP4_TCP,),
        "first_words": (_REQUEST, _RECORD, b"SSH-2.0-x\r\n"),
        "ip_packet": (_IP4_UDP, _IP6_PING),
        "netlink_messages": (netlink.message(2, 0, 7, bytes(20)), netlink.message(3, 0, 1, netlink.attr(4, b"abc"))),
        "network_facts": (_LINK_BODY, _ADDRESS_BODY, _ROUTE_BODY),
        "proc_net_unix": (b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/x y.sock\n",),
        "queue_packet": (_QUEUED,),
        "http_request": (
            _REQUEST,
            b"GET / HTTP/1.0\r\nHost: [2001:db8::1]\r\n\r\n",
            b"\r\n",
            b"PRI * HTTP/2.0\r\n\r\n",
        ),
        "live_stream": (
            b'{"type": "flow", "id": 1, "pid": 7, "ancestors": [[3, "make"]], "name": "a"}\n'
            b'{"type": "traffic", "time": 1, "flows": [[1, 2, 3, 4]]}\n{"type": "end", "code": 0}',
            b'{"type": "hello", "command": 7, "rules": {}}',
            b'{"type": "flow", "id": 1, "pid": [], "hint": "--allow"}',
        ),
        "policy_explain": (
            b"good.test:443",
            b"tls://x.ads.test",
            b"[2001:db8::1]:22",
            b"icmp://10.0.0.1",
            b"GET http://web.test/a/%2e/b?c",
        ),
        "quic_flow": (bytes.fromhex("c0000000010800000000000000000000401a") + bytes(26), b"\x40" * 30),
        "quic_frames": (crypto(hello()), crypto(hello("evil.test")), b"\2\0\0\0\0", b"\x1c\0\0\0", crypto(b"x", 9)),
        "captured_packet": (b"\x45" + bytes(19) + b"\0\x50\0\x50", b"\x60" + bytes(5) + b"\x3a" + bytes(40)),
        "request_paths": (b"a/b", b"a%2fb", b"public/..%2fsecret", b"a//b;x=1/c", b"%252e%252e/", b"*", b"100%25"),
        "resolver_files": (
            b"nameserver 192.0.2.1\nnameserver fe80::1%eth0\nsearch a.test b.test\noptions ndots:2 timeout:1 rotate\n",
            b"192.0.2.1 www.a.test www # comment\n2001:db8::1 www\n",
        ),
        "rule_text": (
            b"GET http://x.test:80/a/*/b* by git under npm running a b",
            b"tls://*.good.test:8443",
            b"[2001:db8::/32]:22",
            b"10.0.0.0/8",
            b"*",
            b"https://x/",
        ),
        "script_manifest": (
            b'"""Doc."""\n# /// script\n# [tool.towpath.extension]\n# id = "no-ads"\n# memory = 64\n#\n# ///\nx = 1\n',
            b'# /// script\n# tool.towpath.extension = {id = "a", capabilities = ["prompt"]}\n# ///\n',
        ),
        "tls_handshake": (_HANDSHAKE,),
        "tls_stream": (_RECORD, b"\x15\x03\x01\0\x02\x02\x28"),
        "worker_messages": tuple(
            packet
            for message in (messages.Verdict(7, Drop("no")), messages.Said("info", "x"), messages.Ended())
            for packet in messages.batches([message])
        ),
    }
    | layers.SEEDS
    | secure_layers.SEEDS
    | signed_answers.SEEDS
    | tunnels.SEEDS
)
