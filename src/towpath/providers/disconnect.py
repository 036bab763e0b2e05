"""Why a tunnel session ended: what is kept as its last error."""

from __future__ import annotations

from enum import IntEnum

from towpath.errors import TowpathError

__all__ = ["DisconnectCause", "TunnelFailed"]


class DisconnectCause(IntEnum):
    """Numbers are those of Apple's NEVPNConnectionError, so that logs can be compared."""

    OVERSLEPT = 1
    """The machine slept for longer than the tunnel could bear."""
    NO_NETWORK_AVAILABLE = 2
    UNRECOVERABLE_NETWORK_CHANGE = 3
    CONFIGURATION_FAILED = 4
    SERVER_ADDRESS_RESOLUTION_FAILED = 5
    SERVER_NOT_RESPONDING = 6
    SERVER_DEAD = 7
    """It answered once, and does no more."""
    AUTHENTICATION_FAILED = 8
    CLIENT_CERTIFICATE_INVALID = 9
    CLIENT_CERTIFICATE_NOT_YET_VALID = 10
    CLIENT_CERTIFICATE_EXPIRED = 11
    PLUGIN_FAILED = 12
    """The provider's process died."""
    CONFIGURATION_NOT_FOUND = 13
    PLUGIN_DISABLED = 14
    """The provider is missing, or is being updated."""
    NEGOTIATION_FAILED = 15
    SERVER_DISCONNECTED = 16
    SERVER_CERTIFICATE_INVALID = 17
    SERVER_CERTIFICATE_NOT_YET_VALID = 18
    SERVER_CERTIFICATE_EXPIRED = 19

    @property
    def words(self) -> str:
        """As people read it."""
        return self.name.lower().replace("_", " ")


class TunnelFailed(TowpathError):
    """A tunnel could not be started, or ended by itself. `cause` is a `DisconnectCause`.

    >>> str(TunnelFailed(DisconnectCause.SERVER_NOT_RESPONDING, "no answer from vpn.test:51820"))
    'no answer from vpn.test:51820'
    """

    def __init__(self, cause: DisconnectCause, reason: str = "", hint: str | None = None) -> None:
        super().__init__(reason or cause.words)
        self.cause = cause
        self.hint = hint
