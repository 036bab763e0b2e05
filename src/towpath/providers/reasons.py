"""Why a provider is stopped. Numbers are those of Apple's NEProviderStopReason, so that logs can be compared."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["StopReason"]


class StopReason(IntEnum):
    """The argument of `stop`. Never read `USER_INITIATED` as the proof of a human act."""

    NONE = 0
    """Nothing in particular: the command of the run has ended."""
    USER_INITIATED = 1
    PROVIDER_FAILED = 2
    """A hook raised, or left a question unanswered for too long."""
    NO_NETWORK_AVAILABLE = 3
    UNRECOVERABLE_NETWORK_CHANGE = 4
    PROVIDER_DISABLED = 5
    AUTHENTICATION_CANCELED = 6
    CONFIGURATION_FAILED = 7
    IDLE_TIMEOUT = 8
    CONFIGURATION_DISABLED = 9
    CONFIGURATION_REMOVED = 10
    SUPERSEDED = 11
    """Another took this one's place."""
    USER_LOGOUT = 12
    USER_SWITCH = 13
    CONNECTION_FAILED = 14
    SLEEP = 15
    """The machine goes to sleep, and the configuration says that the tunnel ends then."""
    EXTENSION_UPDATE = 16
    """New code was loaded; its instance has already started."""
    INTERNAL_ERROR = 17
