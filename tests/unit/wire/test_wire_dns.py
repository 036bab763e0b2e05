"""DNS: questions and answers as values, refusals, and answers without what may not pass."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import Misuse, PeerViolation
from towpath.wire import dns, dns_message
from towpath.wire.dns import Address, Record, a, aaaa, cname, https

names = st.lists(st.text("abcXYZ019-_", min_size=1, max_size=20), min_size=0, max_size=6).map(".".join)


def asked(name: str = "www.good.test", kind: str = "A") -> bytes:
    return dns.query(name, kind, 0x1234)


def fault_of(data: bytes, parse: Callable[[bytes], object] = dns.parse_answer) -> str:
    with pytest.raises(PeerViolation) as raised:
        parse(data)
    return raised.value.fault


# Questions


@given(names, st.sampled_from(["A", "AAAA", "HTTPS", "TYPE4711"]), st.integers(0, 0xFFFF), st.booleans())
def test_a_question_is_read_as_it_was_written(name: str, kind: str, id: int, edns: bool) -> None:
    data = dns.query(name, kind, id, edns)
    question = dns.parse_query(data)
    assert (question.id, question.name, dns.type_name(question.type)) == (id, name.lower(), kind)
    assert (question.klass, question.edns, question.payload_size) == (1, edns, 1232 if edns else 512)
    assert question.end == len(data) - (11 if edns else 0)


@pytest.mark.parametrize(
    ("labels", "name"),
    [
        ((b"WWW", b"Good", b"Test"), "www.good.test"),
        ((b"a.b", b"test"), "a\\046b.test"),
        ((b"a b", b"\xff"), "a\\032b.\\255"),
        ((b"_443", b"_https", b"x"), "_443._https.x"),
        ((b"a\\b",), "a\\092b"),
        ((), ""),
    ],
)
def test_names_are_lower_case_with_odd_bytes_escaped(labels: tuple[bytes, ...], name: str) -> None:
    assert dns_message.text(labels) == name
    assert dns_message.labels_of(name) == tuple(label.lower() for label in labels)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda data: data[:11], "dns-short"),
        (lambda data: data[:2] + b"\x81\x80" + data[4:], "dns-not-a-query"),
        (lambda data: data[:2] + b"\x29\x00" + data[4:], "dns-opcode"),
        (lambda data: data[:4] + b"\0\0" + data[6:], "dns-counts"),
        (lambda data: data[:4] + b"\0\2" + data[6:], "dns-counts"),
        (lambda data: data[:6] + b"\0\1" + data[8:], "dns-counts"),
        (lambda data: data[:10] + b"\0\2" + data[12:], "dns-name"),
        (lambda data: data[:10] + b"\0\0" + data[12:], "dns-trailing"),
        (lambda data: data + b"\0", "dns-trailing"),
        (lambda data: data[:-1], "dns-record"),
        (lambda data: data[:12] + b"\xc0\x0c" + data[14:], "dns-pointer"),
        (lambda data: data[:12] + b"\xc0\x00" + data[14:], "dns-pointer"),
        (lambda data: data[:12] + b"\x80" + data[13:], "dns-label"),
        (lambda data: data[:12] + b"\x3f" + data[13:], "dns-name"),
        (lambda data: data + bytes(70000), "dns-long"),
        (lambda data: data[:11] + b"\2" + data[12:] + data[-11:], "dns-edns"),
    ],
)
def test_broken_questions_are_named(change: Callable[[bytes], bytes], fault: str) -> None:
    assert fault_of(change(asked()), dns.parse_query) == fault


@pytest.mark.parametrize(
    ("name", "kind", "policy"),
    [
        ("_8443._https.api.good.test", "HTTPS", "api.good.test"),
        ("_dns.resolver.good.test", "SVCB", "resolver.good.test"),
        ("_sip._tcp.good.test", "SRV", "good.test"),
        ("_25._tcp.mail.good.test", "TLSA", "mail.good.test"),
        ("_http._tcp.good.test", "URI", "good.test"),
        ("_dmarc.good.test", "TXT", "_dmarc.good.test"),
        ("_a.good.test", "A", "_a.good.test"),
        ("_tcp", "SRV", ""),
    ],
)
def test_a_rule_is_asked_about_the_host_behind_a_service(name: str, kind: str, policy: str) -> None:
    assert dns.policy_name(dns.parse_query(asked(name, kind))) == policy


def test_type_names_go_both_ways() -> None:
    assert dns.type_number("https") == 65
    assert dns.type_name(65) == "HTTPS"
    assert dns.type_name(4711) == "TYPE4711"
    assert dns.type_number("TYPE4711") == 4711
    for wrong in ("NOPE", "TYPE", "TYPE65536", "TYPE-1"):
        with pytest.raises(Misuse, match=wrong):
            dns.type_number(wrong)


# Answers


def test_an_answer_gives_the_addresses_along_its_own_aliases_with_the_least_ttl() -> None:
    data = dns.answer(
        asked(),
        [
            Record("www.good.test", "CNAME", 300, cname("Edge.good.test")),
            Record("edge.good.test", "CNAME", 20, cname("pop.cdn.test")),
            Record("pop.cdn.test", "A", 60, a("192.0.2.1")),
            Record("pop.cdn.test", "A", 10, a("192.0.2.2")),
            Record("victim.test", "A", 60, a("192.0.2.99")),
        ],
        additionals=[Record("pop.cdn.test", "A", 60, a("192.0.2.98"))],
    )
    answer = dns.parse_answer(data)
    assert answer.addresses == (Address("192.0.2.1", 20), Address("192.0.2.2", 10))
    assert answer.aliases == ("edge.good.test", "pop.cdn.test")
    assert (answer.id, answer.rcode, answer.truncated, answer.name, answer.type) == (
        0x1234,
        0,
        False,
        "www.good.test",
        1,
    )


def test_the_order_of_records_does_not_matter() -> None:
    records = [
        Record("b.test", "AAAA", 60, aaaa("2001:db8::1")),
        Record("www.good.test", "CNAME", 300, cname("b.test")),
    ]
    assert dns.parse_answer(dns.answer(asked(), records)).addresses == (Address("2001:db8::1", 60),)


def test_a_loop_of_aliases_ends() -> None:
    data = dns.answer(
        asked("a.test"), [Record("a.test", "CNAME", 1, cname("b.test")), Record("b.test", "CNAME", 1, cname("a.test"))]
    )
    assert dns.parse_answer(data).aliases == ("b.test",)


def test_hints_of_service_bindings_are_addresses() -> None:
    rdata = https(1, "", alpn=["h3", "h2"], ipv4hint=["192.0.2.1"], ipv6hint=["2001:db8::1"])
    data = dns.answer(asked(kind="HTTPS"), [Record("www.good.test", "HTTPS", 60, rdata)])
    assert [one.address for one in dns.parse_answer(data).addresses] == ["192.0.2.1", "2001:db8::1"]


def test_flags_and_codes_are_read() -> None:
    answer = dns.parse_answer(dns.answer(asked(), [], rcode=3, truncated=True))
    assert (answer.rcode, answer.truncated) == (3, True)
    extended = dns.answer(asked(), [], additionals=[Record("", "OPT", 1 << 24, b"")])
    assert dns.parse_answer(extended).rcode == 16


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (Record("www.good.test", "A", 60, b"\1\2\3"), "dns-address"),
        (Record("www.good.test", "AAAA", 60, b"\1\2\3\4"), "dns-address"),
        (Record("www.good.test", "CNAME", 60, cname("b.test") + b"\0"), "dns-record"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\0\0\4\0\3abc"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\0\0\5\0\1a\0\4\0\4abcd"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\0\0\5\0\1a\0\5\0\1a"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\0\0\5\0\2a"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\0\0\0\0\1a"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\0\0\0"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0\1\xc0\x0c"), "dns-svcb"),
        (Record("www.good.test", "HTTPS", 60, b"\0"), "dns-svcb"),
    ],
)
def test_broken_records_are_named(record: Record, fault: str) -> None:
    data = dns.answer(asked(), [record])
    assert fault_of(data) == fault
    if record.type != "CNAME":
        assert fault_of(data, lambda data: dns.screen(data, lambda _: True)) == fault


def test_a_query_is_no_answer_and_counts_may_not_lie() -> None:
    good = dns.answer(asked(), [Record("www.good.test", "A", 60, a("192.0.2.1"))])
    assert fault_of(asked()) == "dns-not-an-answer"
    assert fault_of(good[:4] + b"\0\0" + good[6:]) == "dns-counts"
    assert fault_of(good[:7] + b"\0" + good[8:]) == "dns-trailing"
    assert fault_of(good[:7] + b"\2" + good[8:]) == "dns-name"
    assert fault_of(good + b"x") == "dns-trailing"


def test_a_long_chain_of_pointers_is_refused() -> None:
    targets = [12, *range(13, 13 + 2 * 99, 2)]
    data = bytes(12) + b"\0" + b"".join(struct.pack("!H", 0xC000 | target) for target in targets)
    reader = dns_message.Reader(data)
    assert reader.name_at(13 + 2 * 9) == ((), 13 + 2 * 10)
    with pytest.raises(PeerViolation, match="dns-pointer"):
        dns_message.Reader(data).name_at(13 + 2 * 99)


def test_a_pointer_goes_backwards() -> None:
    with pytest.raises(PeerViolation, match="dns-pointer"):
        dns_message.Reader(bytes(12) + b"\xc0\x0e\1a\0").name_at(12)


def test_a_message_that_is_nothing_but_work_is_refused() -> None:
    long_name = b"\1a" * 126 + b"\0"
    start = struct.pack("!HHIHH", 1, 0x8180, 1 << 16 | 4000, 0, 0) + long_name + b"\0\1\0\1"
    record = b"\1b\xc0\x0c" + struct.pack("!HHIH", 16, 1, 0, 0)
    assert fault_of(start + record * 4000) == "dns-work"


# Refusals


@pytest.mark.parametrize("edns", [True, False])
def test_a_refusal_is_nxdomain_and_says_who_refused_when_it_can(edns: bool) -> None:
    query = dns.query("bad.test", "A", 7, edns)
    question = dns.parse_query(query)
    data = dns.refusal(query, question, "no rule allows the name bad.test")
    answer = dns.parse_answer(data)
    assert (answer.id, answer.rcode, answer.name, answer.addresses) == (7, 3, "bad.test", ())
    assert (b"\0\x12no rule allows the name bad.test" in data) is edns


def test_a_failure_is_servfail_with_its_code() -> None:
    query = asked()
    data = dns.failure(query, dns.parse_query(query), "no answer", code=23)
    assert dns.parse_answer(data).rcode == 2
    assert data.endswith(b"\0\x17no answer")


def test_the_words_of_a_refusal_are_cut_between_characters() -> None:
    query = asked()
    data = dns.refusal(query, dns.parse_query(query), "é" * 200)
    assert len(data) < 512
    assert data.endswith("é".encode() * 90)


# Screening


def test_an_answer_with_nothing_to_drop_comes_back_as_the_same_bytes() -> None:
    data = dns.answer(asked(), [Record("www.good.test", "A", 60, a("192.0.2.1"))])
    assert dns.screen(data, lambda _: True).data is data


def test_refused_addresses_go_from_every_section_and_the_rest_stays_readable() -> None:
    data = dns.answer(
        asked(),
        [
            Record("www.good.test", "CNAME", 30, cname("edge.good.test")),
            Record("edge.good.test", "A", 60, a("127.0.0.1")),
            Record("edge.good.test", "A", 60, a("192.0.2.1")),
        ],
        authorities=[Record("good.test", "NS", 60, cname("ns.good.test"))],
        additionals=[Record("ns.good.test", "AAAA", 60, aaaa("::1")), Record("", "OPT", 0, b"")],
    )
    screened = dns.screen(data, lambda address: address not in ("127.0.0.1", "::1"))
    assert screened.dropped == ("127.0.0.1", "::1")
    assert not screened.ech_removed
    assert dns.parse_answer(screened.data).addresses == (Address("192.0.2.1", 30),)
    assert struct.unpack("!HHHHHH", screened.data[:12])[2:] == (1, 2, 1, 1)


def test_compressed_names_in_data_survive_screening() -> None:
    """MX, SOA and SRV data whose names point into what goes."""
    question = asked("good.test", "MX")
    header = struct.pack("!HHHHHH", 0x1234, 0x81A0, 1, 4, 0, 0)
    body = question[12:27] + b"".join(
        b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(rdata)) + rdata
        for kind, rdata in [
            (1, bytes((127, 0, 0, 1))),
            (15, b"\0\x0a\4mail\xc0\x0c"),
            (6, b"\2ns\xc0\x0c" + b"\xc0\x0c" + bytes(20)),
            (35, b"\0\1\0\1\1u\1v\1w\xc0\x0c"),
        ]
    )
    screened = dns.screen(header + body, lambda address: address != "127.0.0.1")
    plain = b"\4good\4test\0"
    assert b"\0\x0a\4mail" + plain in screened.data
    assert b"\2ns" + plain + plain + bytes(20) in screened.data
    assert b"\1u\1v\1w" + plain in screened.data
    assert not screened.data[3] & 0x20, "it no longer claims to be authenticated"


def test_hints_and_keys_go_from_service_bindings_and_are_no_longer_mandatory() -> None:
    mandatory = b"\0\0\0\4\0\4\0\5"
    rdata = b"\0\1\0" + mandatory + https(1, "", ipv4hint=["127.0.0.1"], ipv6hint=["::1", "2001:db8::1"], ech=b"k")[3:]
    data = dns.answer(asked(kind="HTTPS"), [Record("www.good.test", "HTTPS", 60, rdata)])
    screened = dns.screen(data, lambda address: address not in ("127.0.0.1", "::1"))
    assert screened.dropped == ("127.0.0.1", "::1")
    assert screened.ech_removed
    assert screened.data.endswith(https(1, "", ipv6hint=["2001:db8::1"]))


def test_keys_go_even_when_every_address_may_stay() -> None:
    data = dns.answer(asked(kind="HTTPS"), [Record("www.good.test", "HTTPS", 60, https(alpn=["h2"], ech=b"k"))])
    screened = dns.screen(data, lambda _: True)
    assert (screened.dropped, screened.ech_removed) == ((), True)
    assert screened.data.endswith(https(alpn=["h2"]))


@given(st.lists(st.sampled_from(["127.0.0.1", "192.0.2.1", "192.0.2.2"]), max_size=8), names)
def test_screening_keeps_just_what_is_admitted(addresses: list[str], owner: str) -> None:
    data = dns.answer(asked(owner), [Record(owner, "A", 60, a(address)) for address in addresses])
    screened = dns.screen(data, lambda address: address != "127.0.0.1")
    kept = dict.fromkeys(address for address in addresses if address != "127.0.0.1")
    assert tuple(one.address for one in dns.parse_answer(screened.data).addresses) == tuple(kept)
    assert len(screened.dropped) == addresses.count("127.0.0.1")


@pytest.mark.parametrize("name", ["a" * 64 + ".test", "a..b", ".".join(["abcdefg"] * 33), "b\\25", "b\\999", "ä.test"])
def test_what_is_no_name_cannot_be_asked(name: str) -> None:
    with pytest.raises(Misuse):
        dns.query(name, "A", 1)


def test_an_address_of_the_other_family_is_no_record() -> None:
    with pytest.raises(Misuse, match="4 bytes"):
        a("2001:db8::1")
