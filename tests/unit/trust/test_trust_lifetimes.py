"""Limits on validity by the day of issue: SC-081v3's steps, Apple's 825 and 398 days, to the second."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from towpath.testing.pki import Pki, Recipe
from towpath.trust import Anchors, Policy, Verdict, evaluate, lifetimes

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
HOST = "www.example.com"


def verdict(issued: datetime, lasts: timedelta, *, public: bool, policy: Policy = Policy.apple) -> Verdict:
    pki = Pki(issued)
    leaf = pki.intermediate.issue(Recipe(names=(HOST,), starts=timedelta(0), lasts=lasts))
    anchors = Anchors.of(pki.root.certificate, public=public)
    return evaluate(leaf.chain, HOST, policy, issued, anchors)["policy.lifetime"].verdict


@pytest.mark.parametrize(
    ("issued", "days"),
    [
        (datetime(2019, 7, 1, 0, 0, 1, tzinfo=UTC), 825),
        (datetime(2020, 8, 31, 23, 59, 59, tzinfo=UTC), 825),
        (datetime(2020, 9, 1, tzinfo=UTC), 398),
        (datetime(2026, 3, 14, 23, 59, 59, tzinfo=UTC), 398),
        (datetime(2026, 3, 15, tzinfo=UTC), 200),
        (datetime(2027, 3, 14, 23, 59, 59, tzinfo=UTC), 200),
        (datetime(2027, 3, 15, tzinfo=UTC), 100),
        (datetime(2029, 3, 14, 23, 59, 59, tzinfo=UTC), 100),
        (datetime(2029, 3, 15, tzinfo=UTC), 47),
        (datetime(2035, 1, 1, tzinfo=UTC), 47),
    ],
)
def test_a_public_certificate_may_live_so_many_days_and_not_a_second_more(issued: datetime, days: int) -> None:
    assert verdict(issued, days * DAY, public=True) is Verdict.PASS
    assert verdict(issued, days * DAY + SECOND, public=True) is Verdict.FAIL


def test_a_private_authority_has_825_days_whatever_the_year() -> None:
    for year in (2020, 2026, 2028, 2030):
        issued = datetime(year, 4, 1, tzinfo=UTC)
        assert verdict(issued, 825 * DAY, public=False) is Verdict.PASS
        assert verdict(issued, 825 * DAY + SECOND, public=False) is Verdict.FAIL


def test_the_web_profile_has_no_limit_for_private_authorities() -> None:
    issued = datetime(2026, 4, 1, tzinfo=UTC)
    assert verdict(issued, 900 * DAY, public=False, policy=Policy.web) is Verdict.NOT_APPLICABLE
    assert verdict(issued, 201 * DAY, public=True, policy=Policy.web) is Verdict.FAIL


def test_certificates_from_before_any_limit_are_left_alone() -> None:
    issued = datetime(2019, 7, 1, tzinfo=UTC)
    assert verdict(issued, 3000 * DAY, public=True) is Verdict.NOT_APPLICABLE
    assert verdict(issued, 3000 * DAY, public=False) is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(("seconds", "days"), [(1, 1), (86_399, 1), (86_400, 1), (86_401, 2), (398 * 86_400, 398)])
def test_an_excess_second_is_another_day(seconds: int, days: int) -> None:
    assert lifetimes.days(seconds) == days


def test_a_renewal_of_the_same_lifetime_is_refused_from_the_next_step_that_is_shorter() -> None:
    now = datetime(2026, 11, 1, tzinfo=UTC)
    limit = lifetimes.refused_when_reissued(lifetimes.PUBLIC, 90 * 86_400, now)
    assert limit is not None
    assert limit.since == datetime(2029, 3, 15, tzinfo=UTC)
    assert lifetimes.refused_when_reissued(lifetimes.PUBLIC, 47 * 86_400, now) is None


POINT = x509.CRLDistributionPoints(
    [x509.DistributionPoint([x509.UniformResourceIdentifier("http://crl.test/1")], None, None, None)]
)


@pytest.mark.parametrize(
    ("issued", "days", "pointer", "public", "expected"),
    [
        (datetime(2026, 3, 14, 23, 59, 59, tzinfo=UTC), 10, False, True, Verdict.PASS),
        (datetime(2026, 3, 14, 23, 59, 59, tzinfo=UTC), 11, False, True, Verdict.FAIL),
        (datetime(2026, 3, 15, tzinfo=UTC), 7, False, True, Verdict.PASS),
        (datetime(2026, 3, 15, tzinfo=UTC), 8, False, True, Verdict.FAIL),
        (datetime(2026, 3, 15, tzinfo=UTC), 90, True, True, Verdict.PASS),
        (datetime(2026, 3, 15, tzinfo=UTC), 90, False, False, Verdict.NOT_APPLICABLE),
    ],
)
def test_only_short_lived_certificates_need_no_revocation_pointer(
    issued: datetime, days: int, pointer: bool, public: bool, expected: Verdict
) -> None:
    pki = Pki(issued)
    extra = ((POINT, False),) if pointer else ()
    leaf = pki.intermediate.issue(Recipe(names=(HOST,), starts=timedelta(0), lasts=days * DAY, extra=extra))
    anchors = Anchors.of(pki.root.certificate, public=public)
    assert evaluate(leaf.chain, HOST, Policy.web, issued, anchors)["web.revocation-pointer"].verdict is expected
