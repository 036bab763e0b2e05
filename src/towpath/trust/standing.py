"""What one source of revocation says about one certificate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

__all__ = ["Standing", "Status", "lateness"]


class Status(StrEnum):
    """What a source says about a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNUSABLE = "unusable"
    """The source concerns the certificate and cannot be relied on."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One source's word on one certificate; `until` is when it must be renewed."""

    status: Status
    detail: str
    until: datetime | None = None


def lateness(at: datetime, this_update: datetime, next_update: datetime | None) -> str:
    """Why a source cannot be relied on at that time, or an empty text."""
    if at < this_update:
        return f"it is from {this_update:%Y-%m-%d %H:%M:%S} UTC, which is later than the time of the evaluation"
    if next_update is not None and at > next_update:
        return f"it was to be renewed by {next_update:%Y-%m-%d %H:%M:%S} UTC"
    return ""
