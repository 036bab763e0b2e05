"""The cache of answers as bytes: lifetimes, absences, bits that change an answer, staleness, renewal, memory."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.dns_proxy.cache import STALE_TTL, Expired, WireCache, key_of
from towpath.wire import dns, dns_scan
from towpath.wire.dns import Record

NAME = "www.good.test"
SOA = dns.cname("ns.good.test") + dns.cname("root.good.test") + bytes(16) + (60).to_bytes(4, "big")


def asked(name: str = NAME, *, edns: bool = False, id: int = 7, kind: str = "A", flags: int = 0) -> bytes:
    query = dns.query(name, kind, id, edns)
    return query[:2] + (int.from_bytes(query[2:4], "big") | flags).to_bytes(2, "big") + query[4:]


def keep(cache: WireCache, query: bytes, ttl: int = 60, second: int = 0, count: int = 1, rcode: int = 0) -> bytes:
    question = dns.parse_query(query)
    records = [Record(question.name, "A", ttl, dns.a(f"192.0.2.{at % 250}")) for at in range(count)]
    authorities = [] if count else [Record("good.test", "SOA", ttl, SOA)]
    scanned = dns_scan.scan(dns.answer(query, records, rcode, authorities=authorities))
    entry = cache.store(key_of(query, question), scanned, second)
    return cache.prepare(entry, query, question, second, 512)


def found(cache: WireCache, query: bytes, second: int, limit: int = 512) -> bytes | None:
    """As whoever serves programs looks: the whole question first, then its key."""
    ready = cache.ready.get(query[2:])
    if ready is not None:
        tail = cache.tail(ready, second)
        ready.hits += 1
        if tail is not None:
            return query[:2] + tail
    question = dns.parse_query(query)
    entry = cache.find(key_of(query, question), second)
    return None if entry is None else cache.prepare(entry, query, question, second, limit)


def ttls(answer: bytes | None) -> list[int]:
    assert answer is not None
    return [address.ttl for address in dns.parse_answer(answer).addresses]


def test_lifetimes_run_down_second_by_second_and_end() -> None:
    cache = WireCache()
    query = asked()
    assert ttls(keep(cache, query, ttl=3, second=100)) == [3]
    assert [ttls(found(cache, query, second)) for second in (100, 101, 102)] == [[3], [2], [1]]
    assert found(cache, query, 103) is None
    assert not cache.ready


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_whatever_the_steps_an_answer_never_lasts_longer_than_it_said(steps: list[int]) -> None:
    cache = WireCache()
    query = asked()
    keep(cache, query, ttl=20)
    second = 0
    for step in steps:
        second += step
        answer = found(cache, query, second)
        assert (answer is None) == (second >= 20)
        if answer is not None:
            assert ttls(answer) == [20 - second]


def test_a_question_is_repeated_as_it_was_written() -> None:
    cache = WireCache()
    keep(cache, asked())
    mixed = asked("wWw.GOOD.test", id=0x1234)
    answer = found(cache, mixed, 1)
    assert answer is not None
    assert answer[:2] == b"\x12\x34"
    assert answer[12 : dns.parse_query(mixed).end] == mixed[12:]
    assert ttls(answer) == [59]


def test_edns_is_answered_with_edns_and_only_then() -> None:
    cache = WireCache()
    keep(cache, asked())
    plain, extended = found(cache, asked(), 0), found(cache, asked(edns=True), 0)
    assert plain is not None
    assert extended is not None
    assert plain[10:12] == b"\0\0"
    assert extended[10:12] == b"\0\1"
    assert b"\0\0\x29\x04\xd0" in extended


def test_questions_for_proof_or_without_checking_have_answers_of_their_own() -> None:
    cache = WireCache()
    keep(cache, asked(edns=True))
    dnssec = asked(edns=True)
    dnssec = dnssec[:-4] + b"\x80\0" + dnssec[-2:]
    assert dns.parse_query(dnssec).dnssec
    for query in (dnssec, asked(edns=True, flags=0x10), asked(edns=True, flags=0x20)):
        assert found(cache, query, 0) is None


def test_a_type_is_not_a_letter() -> None:
    """HTTPS is type 65, which is 'A' as a letter, and 97 is 'a'."""
    https, other = asked(kind="HTTPS"), asked(kind="TYPE97")
    assert key_of(https, dns.parse_query(https)) != key_of(other, dns.parse_query(other))


def test_an_absence_lasts_as_its_zone_says() -> None:
    cache = WireCache()
    query = asked()
    keep(cache, query, ttl=900, count=0, rcode=3)
    assert found(cache, query, 59) is not None
    assert found(cache, query, 60) is None


@pytest.mark.parametrize("rcode", [2, 5])
def test_a_failure_is_not_kept(rcode: int) -> None:
    cache = WireCache()
    keep(cache, asked(), rcode=rcode)
    assert found(cache, asked(), 0) is None
    assert len(cache) == 0


def test_what_is_too_long_for_a_datagram_says_so() -> None:
    cache = WireCache()
    query = asked()
    short = keep(cache, query, count=60)
    assert len(short) <= 512
    assert dns.parse_answer(short).truncated
    question = dns.parse_query(query)
    entry = cache.find(key_of(query, question), 0)
    assert entry is not None
    assert len(dns.parse_answer(cache.answer(entry, query, question, 0, 65535)).addresses) == 60


def test_a_cookie_does_not_fill_the_table_of_whole_questions() -> None:
    cache = WireCache()
    keep(cache, asked(edns=True))
    before = len(cache.ready)
    for number in range(100):
        query = asked(edns=True)[:-2] + b"\0\x0c\0\x0a\0\x08" + number.to_bytes(8, "big")
        assert ttls(found(cache, query, 0)) == [60]
    assert len(cache.ready) == before


@pytest.mark.parametrize(("expired", "given"), [("prohibit", None), ("allow", [STALE_TTL])])
def test_an_answer_whose_time_has_passed(expired: Expired, given: list[int] | None) -> None:
    cache = WireCache(expired=expired)
    query = asked()
    keep(cache, query, ttl=5)
    answer = found(cache, query, 10)
    assert (None if answer is None else ttls(answer)) == given
    assert len(cache.to_renew) == (1 if given else 0)
    assert found(cache, query, 5 + 86400) is None


def test_a_name_that_is_wanted_often_is_renewed_before_its_time_has_passed() -> None:
    cache = WireCache()
    hot, cold = asked(), asked("cold.good.test")
    keep(cache, hot, ttl=100)
    keep(cache, cold, ttl=100)
    for second in range(95):
        found(cache, hot, second)
    found(cache, cold, 94)
    key = key_of(hot, dns.parse_query(hot))
    assert cache.to_renew == [(key[:-1], key[-1:])]
    keep(cache, hot, ttl=100, second=95)
    assert ttls(found(cache, hot, 96)) == [99]


def test_memory_is_bounded_and_the_wanted_stay() -> None:
    cache = WireCache(most_bytes=100_000)
    wanted = asked("wanted.good.test")
    keep(cache, wanted)
    for number in range(1000):
        keep(cache, asked(f"n{number}.good.test"))
        assert found(cache, wanted, 0) is not None
        assert cache.bytes <= 100_000
    assert 50 < len(cache) < 200
    assert len(cache.ready) <= len(cache)


def test_flushing_forgets_one_name_or_what_is_below_it_or_all() -> None:
    cache = WireCache()
    for name in ("a.good.test", "b.good.test"):
        for kind in ("A", "HTTPS"):
            keep(cache, asked(name, kind=kind))
    assert cache.flush(dns.cname("a.good.test")) == 2
    assert len(cache) == 2
    assert found(cache, asked("a.good.test"), 0) is None
    keep(cache, asked("x.y.b.good.test"))
    keep(cache, asked("xb.good.test"))
    assert cache.flush(dns.cname("b.good.test"), below=True) == 1
    assert cache.flush(dns.cname("good.test"), below=True) == 3
    assert (len(cache), cache.bytes, len(cache.ready)) == (0, 0, 0)
    keep(cache, asked("a.good.test"))
    assert cache.flush() == 1
    assert cache.bytes == 0


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30), st.booleans()), max_size=60))
def test_its_books_are_right_whatever_happens(steps: list[tuple[int, int, bool]]) -> None:
    cache = WireCache(most_bytes=12_000)
    second = 0
    for name, more, store in steps:
        second += more
        query = asked(f"n{name}.good.test")
        if store:
            keep(cache, query, ttl=40, second=second)
        else:
            found(cache, query, second)
        assert 0 <= cache.bytes <= 12_000
        assert all(raw in ready.entry.ready for raw, ready in cache.ready.items())
    cache.flush(dns.cname("n1.good.test"))
    assert cache.flush() == 0 or not cache.ready
