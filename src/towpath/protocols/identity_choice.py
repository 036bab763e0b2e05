"""Which identity a client shows, decided at the one moment when the server's list of authorities is known.

OpenSSL asks by its certificate callback (SSL_CTX_set_cert_cb(3)), which the library binds and gives no method for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from towpath.protocols.credentials import Files, Identities, choose_files

__all__ = ["IdentityChoice"]


class IdentityChoice:
    """Sets what the chosen identity needs on a connection; what went wrong meanwhile is in `error`."""

    def __init__(self, offered: Identities, context_for: Callable[[Files], SSL.Context]) -> None:
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
                chosen = choose_files(self._offered, [name.public_bytes() for name in names])
                if chosen is not None:
                    connection.set_context(self._context_for(chosen))
        except Exception as error:  # none can pass through OpenSSL
            self.error = error
            return 0
        return 1
