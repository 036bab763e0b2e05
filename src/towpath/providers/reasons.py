"""Why a provider is stopped. Numbers are those of Apple's NEProviderStopReason, so that logs can be compared."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["StopReason"]


class StopReason(IntEnum):
    """The argument of `stop`. Numbers that have no meaning for the kinds of providers that exist are left out."""

    NONE = 0
    """Nothing in particular: the command of the run has ended."""
    USER_INITIATED = 1
    PROVIDER_FAILED = 2
    """A hook raised, or left a question unanswered for too long."""
    PROVIDER_DISABLED = 5
    CONFIGURATION_FAILED = 7
    CONFIGURATION_DISABLED = 9
    CONFIGURATION_REMOVED = 10
    SUPERSEDED = 11
    """Another filter took this one's place."""
    USER_LOGOUT = 12
    USER_SWITCH = 13
    EXTENSION_UPDATE = 16
    """New code was loaded; its instance has already started."""
    INTERNAL_ERROR = 17
