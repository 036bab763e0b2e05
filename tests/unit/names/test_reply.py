"""What an answer says, and what it may not say."""

from __future__ import annotations

import pytest
from tests.support.dns_answers import extended_error, soa

from towpath.errors import PeerViolation
from towpath.names.binding import ServiceBinding
from towpath.names.reply import MAX_TTL, Alias, parse_reply
from towpath.wire import dns
from towpath.wire.dns import Record, a, aaaa, cname, https

QUERY = dns.query("www.good.test", "A", 7)


def test_records_are_those_at_the_end_of_the_aliases() -> None:
    reply = parse_reply(
        dns.answer(
            QUERY,
            [
                Record("stray.test", "A", 5, a("192.0.2.66")),
                Record("edge.good.test", "A", 60, a("192.0.2.1")),
                Record("www.good.test", "CNAME", 30, cname("edge.good.test")),
                Record("edge.good.test", "AAAA", 60, aaaa("2001:db8::1")),
            ],
        )
    )
    assert reply.aliases == (Alias("www.good.test", "edge.good.test", 30),)
    assert [(record.owner, record.data) for record in reply.records] == [("edge.good.test", a("192.0.2.1"))]


def test_an_absence_lasts_as_long_as_its_zone_says() -> None:
    for minimum, ttl, expected in ((30, 3600, 30), (300, 60, 60)):
        reply = parse_reply(dns.answer(QUERY, [], 3, authorities=[soa("good.test", minimum, ttl)]))
        assert (reply.rcode, reply.negative_ttl) == (3, expected)
    assert parse_reply(dns.answer(QUERY, [], 3)).negative_ttl is None


@pytest.mark.parametrize(("said", "taken"), [(0, 0), (60, 60), (0x7FFFFFFF, MAX_TTL), (0x80000000, 0)])
def test_a_ttl_is_a_week_at_most_and_none_when_negative(said: int, taken: int) -> None:
    reply = parse_reply(dns.answer(QUERY, [Record("www.good.test", "A", said, a("192.0.2.1"))]))
    assert [record.ttl for record in reply.records] == [taken]


def test_extended_errors_are_shown() -> None:
    data = extended_error(dns.answer(QUERY, [], 5), 18, "not here")
    (error,) = parse_reply(data).extended
    assert (str(error), error.policy) == ("Prohibited: not here", True)
    assert str(parse_reply(extended_error(dns.answer(QUERY, []), 4711, "")).extended[0]) == "extended error 4711"


def test_any_asks_for_every_type() -> None:
    query = dns.query("www.good.test", "ANY", 7)
    records = [
        Record("www.good.test", "A", 60, a("192.0.2.1")),
        Record("www.good.test", "AAAA", 60, aaaa("2001:db8::1")),
    ]
    assert len(parse_reply(dns.answer(query, records)).records) == 2


def chain(length: int) -> bytes:
    names = ["www.good.test", *[f"n{at}.good.test" for at in range(length)]]
    records = [Record(one, "CNAME", 9, cname(other)) for one, other in zip(names, names[1:], strict=False)]
    return dns.answer(QUERY, records)


def test_aliases_have_a_limit() -> None:
    assert len(parse_reply(chain(16)).aliases) == 16
    with pytest.raises(PeerViolation, match="more than 16"):
        parse_reply(chain(17))


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        ([Record("www.good.test", "CNAME", 9, cname("www.good.test"))], "dns-alias"),
        ([Record("www.good.test", "A", 9, b"\1\2\3")], "dns-address"),
        ([Record("www.good.test", "CNAME", 9, cname("x.test") + b"\0")], "dns-record"),
    ],
)
def test_what_breaks_the_protocol_is_named(records: list[Record], fault: str) -> None:
    with pytest.raises(PeerViolation) as raised:
        parse_reply(dns.answer(QUERY, records))
    assert raised.value.fault == fault


def test_half_an_option_is_a_violation() -> None:
    data = extended_error(dns.answer(QUERY, []), 18, "x")
    with pytest.raises(PeerViolation, match="dns-edns"):
        parse_reply(data[:-9] + b"\0\x07\0\x0f\0\x09\0\x12x"[-9:])


# Service bindings


def test_a_service_binding_tells_how_to_reach_the_service() -> None:
    data = https(1, "svc.good.test", alpn=["h2", "h3"], ipv4hint=["192.0.2.1"], ipv6hint=["2001:db8::1"], ech=b"key")
    binding = ServiceBinding.parse("www.good.test", data)
    assert (binding.priority, binding.target, binding.alpn) == (1, "svc.good.test", ("h2", "h3"))
    assert (binding.ipv4hint, binding.ipv6hint, binding.ech) == (("192.0.2.1",), ("2001:db8::1",), b"key")
    assert binding.protocols(("http/1.1",)) == ("h2", "h3", "http/1.1")


def parameter(key: int, value: bytes) -> bytes:
    return key.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


H2 = parameter(1, b"\2h2")
HEAD = b"\0\1\0"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (HEAD, ServiceBinding(1, "own.test")),
        (b"\0\0" + cname("other.test") + H2, ServiceBinding(0, "other.test")),
        (HEAD + H2 + parameter(2, b""), ServiceBinding(1, "own.test", ("h2",), no_default_alpn=True)),
        (HEAD + parameter(3, b"\x20\xfb"), ServiceBinding(1, "own.test", port=8443)),
        (
            HEAD + parameter(0, b"\0\1") + H2,
            ServiceBinding(1, "own.test", ("h2",), mandatory=("alpn",)),
        ),
        (
            HEAD + parameter(0, b"\x02\x9a") + parameter(666, b"x"),
            ServiceBinding(1, "own.test", mandatory=("key666",), usable=False),
        ),
    ],
    ids=["plain", "alias", "no-default-alpn", "port", "mandatory", "not-understood"],
)
def test_parameters_have_their_meaning(data: bytes, expected: ServiceBinding) -> None:
    assert ServiceBinding.parse("own.test", data) == expected


@pytest.mark.parametrize(
    "data",
    [
        HEAD + parameter(0, b"\0\1"),
        HEAD + parameter(0, b"\0\0"),
        HEAD + parameter(0, b"\0\3\0\1") + H2 + parameter(3, b"\0\1"),
        HEAD + parameter(2, b""),
        HEAD + H2 + parameter(2, b"x"),
        HEAD + parameter(3, b"\1"),
        HEAD + parameter(1, b"\3h2"),
        HEAD + parameter(1, b"\0"),
        HEAD + parameter(1, b""),
        HEAD + parameter(4, b"\1\2\3"),
    ],
    ids=[
        "mandatory-missing", "mandatory-itself", "mandatory-order", "no-default-alone", "no-default-value",
        "short-port", "alpn-past-end", "alpn-empty-word", "alpn-empty", "half-a-hint",
    ],
)  # fmt: skip
def test_parameters_that_lie_are_violations(data: bytes) -> None:
    with pytest.raises(PeerViolation):
        ServiceBinding.parse("own.test", data)
