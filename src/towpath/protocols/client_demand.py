"""What a TLS server demands of clients, judged inside the handshake: only there can OpenSSL still send the alert.

After a handshake of TLS 1.3 nobody but OpenSSL can write to the peer, and it has no call for an alert. It asks by its
verify callback (SSL_CTX_set_verify(3)), of which the library gives single certificates alone.
"""

from __future__ import annotations

from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL, crypto
from OpenSSL._util import ffi, lib

from towpath.trust.context import TrustContext
from towpath.trust.handshake import Alert, alert_for
from towpath.trust.result import TrustRefused

__all__ = ["ClientDemand"]

_CODES = {
    Alert.BAD_CERTIFICATE: 28,
    Alert.UNSUPPORTED_CERTIFICATE: 26,
    Alert.CERTIFICATE_REVOKED: 23,
    Alert.CERTIFICATE_EXPIRED: 10,
    Alert.UNKNOWN_CA: 20,
}
"""The error of a verification (X509_STORE_CTX_get_error(3)) that OpenSSL tells the peer by each alert."""
_CERTIFICATE_UNKNOWN = 0


class ClientDemand:
    """The judgement of all connections of one server context; `refusal` gives what it said of one."""

    def __init__(self, judge: TrustContext) -> None:
        self._judge = judge
        self._accepted: dict[int, bool] = {}
        self._refused: dict[int, Exception] = {}
        # It has to live as long as a connection may call it.
        self._callback: Any = ffi.callback("int (*)(int, X509_STORE_CTX *)", self._asked)

    def install(self, context: SSL.Context) -> None:
        """Has clients asked for a certificate, and names the authorities of the judge to them."""
        store = context.get_cert_store()
        for anchor in self._judge.anchors.certificates():
            certificate = x509.load_der_x509_certificate(anchor.der)
            context.add_client_ca(certificate)
            if store is not None:
                store.add_cert(crypto.X509.from_cryptography(certificate))
        if store is not None:
            # The chain that is judged is the one that reaches an anchor, where there are several.
            store.set_flags(crypto.X509StoreFlags.PARTIAL_CHAIN)
        lib.SSL_CTX_set_verify(context._context, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, self._callback)

    def refusal(self, connection: SSL.Connection) -> Exception | None:
        """Why the peer of a connection was refused; said once."""
        key = _key(connection._ssl)
        self._accepted.pop(key, None)
        return self._refused.pop(key, None)

    def _asked(self, ok: int, store: Any) -> int:
        """Called for each certificate and each fault OpenSSL finds; the whole chain is known from the first call on."""
        key = _key(lib.X509_STORE_CTX_get_ex_data(store, lib.SSL_get_ex_data_X509_STORE_CTX_idx()))
        if key not in self._accepted:
            try:
                self._judge.judge(_Chain(_presented(store)), None)
                self._accepted[key] = True
            except Exception as error:  # none can pass through OpenSSL
                self._accepted[key] = False
                self._refused[key] = error
                failure = error.result.failure if isinstance(error, TrustRefused) else None
                alert = alert_for(failure) if failure is not None else Alert.CERTIFICATE_UNKNOWN
                lib.X509_STORE_CTX_set_error(store, _CODES.get(alert, _CERTIFICATE_UNKNOWN))
        return int(self._accepted[key])


class _Chain:
    def __init__(self, der: list[bytes]) -> None:
        self._der = der

    def get_unverified_chain(self) -> list[bytes]:
        return self._der


def _presented(store: Any) -> list[bytes]:
    """The chain that OpenSSL made of what the peer sent, DER, leaf first."""
    stack = lib.X509_STORE_CTX_get1_chain(store)
    count = lib.sk_X509_num(stack)
    # The references are ours (get1), and go with the objects.
    owned = [crypto.X509._from_raw_x509_ptr(lib.sk_X509_value(stack, place)) for place in range(count)]
    lib.sk_X509_free(stack)
    return [certificate.to_cryptography().public_bytes(Encoding.DER) for certificate in owned]


def _key(pointer: Any) -> int:
    return int(ffi.cast("uintptr_t", pointer))
