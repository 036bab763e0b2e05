"""The TLS 1.3 handshake inside QUIC, judged by `towpath.trust` as soon as the peer has proved that it holds its key.

The library's own verification is off: a chain is judged once, by one judge, and the alert says why it is refused.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import IntEnum

from aioquic import tls
from aioquic._buffer import Buffer

from towpath.errors import PeerViolation
from towpath.protocols.credentials import Credentials, choose_files
from towpath.protocols.quic import Quic
from towpath.trust.anchors import Anchors
from towpath.trust.evidence import NOTHING
from towpath.trust.handshake import Presented, alert_for, judge
from towpath.trust.policy import Policy
from towpath.trust.result import TrustRefused, TrustResult

__all__ = ["Guard", "JudgedTls", "authorities"]

_AUTHORITIES = 47
"""The extension certificate_authorities (RFC 8446 section 4.2.4)."""


class _Told(IntEnum):
    CERTIFICATE_UNKNOWN = 46
    INTERNAL_ERROR = 80
    CERTIFICATE_REQUIRED = 116


class _Refusal(tls.Alert):
    def __init__(self, alert: IntEnum, words: str) -> None:
        super().__init__(words)
        self.description = alert  # type: ignore[assignment]


class Guard:
    """Judges the peer of one handshake, and remembers why it was refused."""

    def __init__(self, options: Quic, name: str, *, is_server: bool) -> None:
        self.trust: TrustResult | None = None
        self.refused: Exception | None = None
        self.demands = is_server and options.clients is not None
        self._options = options
        self._name = name
        self._is_server = is_server

    def check(self, presented: Presented) -> None:
        """Raises the alert for a peer that is refused."""
        try:
            self.trust = self._verdict(presented)
        except TrustRefused as refused:
            self.refused = refused
            failure = refused.result.failure
            raise _Refusal(alert_for(failure) if failure else _Told.CERTIFICATE_UNKNOWN, str(refused)) from refused
        except PeerViolation as violation:
            self.refused = violation
            raise _Refusal(_Told.CERTIFICATE_UNKNOWN, str(violation)) from violation

    def _verdict(self, presented: Presented) -> TrustResult:
        options = self._options
        if self._is_server and options.clients is not None:
            result = options.clients.judge(presented.chain, datetime.now(UTC))
        else:
            result = judge(
                presented,
                self._name,
                options.policy or Policy.apple,
                options.anchors if options.anchors is not None else Anchors.system(),
                evidence=options.evidence or NOTHING,
            )
        if not result.accepted:
            raise TrustRefused(result)
        return result

    def demand(self) -> None:
        """Raises the alert for a client that showed nothing."""
        self.refused = PeerViolation("certificate", "the client presented none")
        raise _Refusal(_Told.CERTIFICATE_REQUIRED, str(self.refused))

    def choose(self, acceptable: list[bytes]) -> Credentials | None:
        """The identity that a client shows."""
        offered = self._options.identities or ((self._options.identity,) if self._options.identity else ())
        chosen = choose_files(offered, acceptable)
        return Credentials.load(*chosen) if chosen is not None else None


class JudgedTls(tls.Context):
    """The library's handshake with our judgement in its two places: after CertificateVerify of either side."""

    guard: Guard

    @classmethod
    def adopt(cls, context: tls.Context, guard: Guard) -> None:
        """Makes a context of the library one of ours; it makes its own, and takes no class for it."""
        context.__class__ = cls
        assert isinstance(context, cls)
        context.guard = guard
        context._request_client_certificate = guard.demands

    def _client_handle_certificate_request(self, input_buf: Buffer) -> None:
        super()._client_handle_certificate_request(input_buf)
        request = self._certificate_request
        extensions = request.other_extensions if request is not None else []
        try:
            acceptable = [name for kind, data in extensions if kind == _AUTHORITIES for name in authorities(data)]
        except PeerViolation as violation:
            raise tls.AlertDecodeError(str(violation)) from violation
        try:
            chosen = self.guard.choose(acceptable)
        except Exception as error:  # the chooser is a program's own
            self.guard.refused = error
            raise _Refusal(_Told.INTERNAL_ERROR, str(error)) from error
        if chosen is not None:
            self.certificate, *self.certificate_chain = chosen.certificates
            self.certificate_private_key = chosen.key

    def _client_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._client_handle_certificate_verify(input_buf)
        self.guard.check(Presented.from_aioquic(self))

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate(input_buf)
        if self._peer_certificate is None:
            self.guard.demand()

    def _server_handle_certificate_verify(self, input_buf: Buffer) -> None:
        super()._server_handle_certificate_verify(input_buf)
        self.guard.check(Presented.from_aioquic(self))


def authorities(data: bytes) -> list[bytes]:
    """The DER names in the extension certificate_authorities (RFC 8446 section 4.2.4). Raises `PeerViolation`."""
    if len(data) < 2 or int.from_bytes(data[:2], "big") != len(data) - 2:
        raise PeerViolation("certificate-authorities", "a list of a length that lies")
    found, at = [], 2
    while at < len(data):
        begin = at + 2
        end = begin + int.from_bytes(data[at:begin], "big")
        if begin > len(data) or not begin < end <= len(data):
            raise PeerViolation("certificate-authorities", "a name of a length that lies")
        found.append(data[begin:end])
        at = end
    return found
