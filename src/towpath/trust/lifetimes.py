"""How long a certificate may live, by the day it was issued (Apple 103769, 102028; CA/B ballot SC-081v3, BR 6.3.2).

A day is 86,400 seconds; one second more is another day. Both ends of the validity count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

__all__ = [
    "AFTER_JULY_2019",
    "APPLE_ANY_ROOT",
    "PUBLIC",
    "SHORT_LIVED",
    "Limit",
    "days",
    "limit_at",
    "refused_when_reissued",
]

DAY = 86_400


@dataclass(frozen=True, slots=True)
class Limit:
    """Certificates issued from `since` may be valid for at most `days`."""

    since: datetime
    days: int
    source: str


AFTER_JULY_2019 = datetime(2019, 7, 1, tzinfo=UTC) + timedelta(seconds=1)
"""Apple's first limit is for certificates issued *after* 1 July 2019, so the first second of that day is not meant."""

PUBLIC = (
    Limit(AFTER_JULY_2019, 825, "Apple 103769"),
    Limit(datetime(2020, 9, 1, tzinfo=UTC), 398, "Apple 102028, BR 6.3.2"),
    Limit(datetime(2026, 3, 15, tzinfo=UTC), 200, "BR 6.3.2 (ballot SC-081v3)"),
    Limit(datetime(2027, 3, 15, tzinfo=UTC), 100, "BR 6.3.2 (ballot SC-081v3)"),
    Limit(datetime(2029, 3, 15, tzinfo=UTC), 47, "BR 6.3.2 (ballot SC-081v3)"),
)
"""For anchors that come with the system."""

APPLE_ANY_ROOT = (Limit(AFTER_JULY_2019, 825, "Apple 103769"),)
"""For every anchor."""

SHORT_LIVED = (
    Limit(datetime(2023, 7, 15, tzinfo=UTC), 10, "BR 1.6.1"),
    Limit(datetime(2026, 3, 15, tzinfo=UTC), 7, "BR 1.6.1"),
)
"""Certificates that need no revocation pointer."""


def days(seconds: int) -> int:
    """Whole days, an excess second being another."""
    return -(-seconds // DAY)


def limit_at(limits: tuple[Limit, ...], issued: datetime) -> Limit | None:
    """The limit for a certificate issued then."""
    return next((limit for limit in reversed(limits) if issued >= limit.since), None)


def refused_when_reissued(limits: tuple[Limit, ...], lifetime: int, after: datetime) -> Limit | None:
    """The first limit in force later than `after` that a certificate of the same lifetime would break."""
    return next((limit for limit in limits if limit.since > after and days(lifetime) > limit.days), None)
