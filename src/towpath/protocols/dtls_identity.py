"""Which identity a DTLS client shows, decided at the one moment when the server's list of authorities is known.

OpenSSL asks by its certificate callback (SSL_CTX_set_cert_cb(3)), which the library binds and gives no method for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from towpath.protocols.credentials import Credentials
from towpath.trust.identities import choose

__all__ = ["IdentityChoice"]


class IdentityChoice:
    """Sets what the chosen identity needs on a connection; what went wrong meanwhile is in `error`."""

    def __init__(
        self, offered: Sequence[tuple[Path, Path]], context_for: Callable[[tuple[Path, Path]], SSL.Context]
    ) -> None:
        self.error: Exception | None = None
        self._offered = offered
        self._context_for = context_for
        self._connection: SSL.Connection | None = None
        # It has to live as long as the connection may call it.
        self._callback: Any = ffi.callback("int (*)(SSL *, void *)", self._asked)

    def install(self, context: SSL.Context) -> None:
        """Before a connection is made of the context."""
        lib.SSL_CTX_set_cert_cb(context._context, self._callback, ffi.NULL)

    def serve(self, connection: SSL.Connection) -> None:
        """The connection that the context was for."""
        self._connection = connection

    def _asked(self, ssl: object, argument: object) -> int:
        try:
            connection = self._connection
            if connection is not None:
                names = connection.get_client_ca_list(as_cryptography=True)
                chosen = self._chosen([name.public_bytes() for name in names])
                if chosen is not None:
                    connection.set_context(self._context_for(chosen))
        except Exception as error:  # none can pass through OpenSSL
            self.error = error
            return 0
        return 1

    def _chosen(self, acceptable: list[bytes]) -> tuple[Path, Path] | None:
        loaded = [(Credentials.load(*files), files) for files in self._offered]
        chosen = choose([credentials for credentials, _ in loaded], acceptable, datetime.now(UTC))
        return next((files for credentials, files in loaded if credentials is chosen), None)
