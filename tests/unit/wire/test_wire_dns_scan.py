"""DNS answers as bytes that are kept: where lifetimes stand, how long all of it lasts, what is taken out."""

from __future__ import annotations

import pytest

from towpath.errors import PeerViolation
from towpath.wire import dns, dns_message, dns_scan
from towpath.wire.dns import Record

QUERY = dns.query("www.good.test", "A", 7)
END = dns.parse_query(QUERY).end
OPT = b"\0\0\x29\x04\xd0\0\0\0\0"
SOA = dns.cname("ns.good.test") + dns.cname("root.good.test") + bytes(16) + (60).to_bytes(4, "big")


def with_opt(answer: bytes, options: bytes = b"") -> bytes:
    count = int.from_bytes(answer[10:12], "big") + 1
    return answer[:10] + count.to_bytes(2, "big") + answer[12:] + OPT + len(options).to_bytes(2, "big") + options


def addresses(*ttls: int) -> bytes:
    return dns.answer(QUERY, [Record("www.good.test", "A", ttl, dns.a(f"192.0.2.{ttl % 256}")) for ttl in ttls])


def lifetimes(scanned: dns_scan.Scanned) -> list[int]:
    return [int.from_bytes(scanned.body[at : at + 4], "big") for at in scanned.offsets]


def test_a_plain_answer_is_read_as_the_thorough_reader_reads_it() -> None:
    for answer in (addresses(60, 30), with_opt(addresses(60))):
        plain = dns_scan.plain_answer(answer, END)
        assert plain is not None
        assert plain.scanned == dns_scan.scan(answer)
        assert [ttl for _, ttl in plain.addresses] == lifetimes(plain.scanned)


@pytest.mark.parametrize(
    "answer",
    [
        dns.answer(QUERY, []),
        dns.answer(QUERY, [Record("www.good.test", "CNAME", 60, dns.cname("good.test"))]),
        dns.answer(QUERY, [Record("other.test", "A", 60, dns.a("192.0.2.1"))]),
        dns.answer(QUERY, [Record("www.good.test", "A", 60, b"\1\2\3")]),
        addresses(60) + b"x",
        addresses(60)[:-1],
        with_opt(addresses(60))[:-3],
        dns.answer(QUERY, [], authorities=[Record("good.test", "SOA", 900, SOA)]),
    ],
    ids=["empty", "an alias", "another's name", "3 bytes", "a tail", "cut off", "half an option", "an authority"],
)
def test_what_is_not_plain_is_left_to_the_thorough_reader(answer: bytes) -> None:
    assert dns_scan.plain_answer(answer, END) is None


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [
        (addresses(60, 30), 30),
        (addresses(0), 0),
        (dns.answer(QUERY, [Record("www.good.test", "A", 0x80000001, dns.a("192.0.2.1"))]), 0),
        (dns.answer(QUERY, [], 3, authorities=[Record("good.test", "SOA", 900, SOA)]), 60),
        (dns.answer(QUERY, [], 0, authorities=[Record("good.test", "SOA", 20, SOA)]), 20),
        (dns.answer(QUERY, [], 3), 0),
        (
            dns.answer(
                QUERY,
                [Record("www.good.test", "A", 60, dns.a("192.0.2.1"))],
                additionals=[Record("x.test", "A", 5, dns.a("192.0.2.2"))],
            ),
            60,
        ),
    ],
    ids=["least", "none", "negative", "minimum of the SOA", "the SOA's own", "no SOA", "not of an additional"],
)
def test_an_answer_lasts_as_long_as_its_shortest_part(answer: bytes, seconds: int) -> None:
    assert dns_scan.scan(answer).ttl == seconds


def test_the_option_record_goes_wherever_it_stands_and_its_errors_are_kept() -> None:
    error = b"\0\x0f\0\x04\0\x12no"
    cookie = b"\0\x0a\0\x08" + bytes(8)
    last = dns_scan.scan(with_opt(addresses(60), cookie + error))
    assert last.body == addresses(60)[2:]
    assert last.errors == error
    writer = dns_message.Writer(dns_message.Header(7, 0x8180, 1, 1, 0, 2))
    labels = dns_message.labels_of("www.good.test")
    writer.question(labels, 1, 1)
    writer.record(labels, 1, 1, 60, dns.a("192.0.2.1"))
    writer.record((), 41, 1232, 0, error)
    writer.record(dns_message.labels_of("mail.good.test"), 1, 1, 90, dns.a("192.0.2.2"))
    between = dns_scan.scan(writer.message())
    assert between.errors == error
    assert lifetimes(between) == [60, 90]
    assert dns.parse_answer(b"\0\7" + between.body).addresses == (dns.Address("192.0.2.1", 60),)


def test_lifetimes_grow_shorter_and_never_negative() -> None:
    scanned = dns_scan.scan(addresses(60, 30))
    older = dns_scan.aged(scanned.body, scanned.offsets, 40)
    assert lifetimes(scanned._replace(body=older)) == [20, 0]
    assert lifetimes(scanned._replace(body=dns_scan.aged(scanned.body, scanned.offsets, 100, 30))) == [30, 30]


def test_a_question_is_made_anew_without_anything_of_who_asked() -> None:
    made = dns_scan.bare_question(
        dns.cname("www.good.test"), b"\0\1\0\1", 9, dnssec=True, checking_disabled=True, ad=False
    )
    asked = dns.parse_query(made)
    assert (asked.id, asked.name, asked.dnssec, asked.options, asked.payload_size) == (
        9, "www.good.test", True, False, 1232,
    )  # fmt: skip
    assert asked.flags == 0x0110


def test_nothing_answers_an_answer_or_half_a_header() -> None:
    assert dns_scan.error_answer(addresses(60), 1) is None
    assert dns_scan.error_answer(bytes(11), 1) is None
    made = dns_scan.error_answer(QUERY, 1)
    assert made is not None
    assert (made[:2], made[3] & 0xF, len(made)) == (QUERY[:2], 1, 12)


def test_a_question_for_everything_gets_one_record() -> None:
    query = dns.query("www.good.test", "ANY", 7)
    question = dns.parse_query(query)
    answer = dns_scan.minimal_any(query, question.end, question.flags)
    assert len(answer) < 2 * len(query)
    assert dns_scan.scan(answer).rcode == 0


@pytest.mark.parametrize(
    "data", [QUERY, addresses(60)[:20], addresses(60) + b"x", with_opt(with_opt(addresses(60)))], ids=str
)
def test_what_is_no_answer_is_a_violation(data: bytes) -> None:
    with pytest.raises(PeerViolation):
        dns_scan.scan(data)
