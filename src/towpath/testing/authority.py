"""The Lab's certificate authority: made anew for each Lab, trusted by its hosts alone."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from towpath.errors import ConfigInvalid

if TYPE_CHECKING:
    import ssl

    from towpath.testing.plan import Https

__all__ = ["Authority"]


class Authority:
    """Issues the certificates of the Lab's services. `pem` is its own, to be trusted.

    Raises `ConfigInvalid` when the package trustme is not there.
    """

    def __init__(self) -> None:
        try:
            import trustme
        except ModuleNotFoundError:
            raise ConfigInvalid(
                "https service", "it needs the Python package trustme", "pip install 'towpath[testing]'"
            ) from None
        self._authority = trustme.CA(organization_name="Towpath Lab")
        self._stranger = trustme.CA(organization_name="Nobody's authority")
        self.pem: bytes = self._authority.cert_pem.bytes()

    def context(self, service: Https, names: tuple[str, ...]) -> ssl.SSLContext:
        """A server's context with a certificate for `names` (host names and addresses), flawed as the service asks."""
        import ssl

        from towpath.testing.streams import AskedTls

        flaw = service.certificate
        issuer = self._stranger if flaw == "untrusted" else self._authority
        now = datetime.datetime.now(datetime.UTC)
        certificate = issuer.issue_cert(
            *(("wrong.invalid",) if flaw == "wrong-name" else names),
            not_before=now - datetime.timedelta(days=30),
            not_after=now + datetime.timedelta(days=-1 if flaw == "expired" else 30),
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        context.sslobject_class = AskedTls
        context.sni_callback = AskedTls.remember
        context.set_alpn_protocols(["http/1.1"])
        return context
