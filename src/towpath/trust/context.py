"""An `ssl.SSLContext` whose handshakes are judged by a policy: for asyncio and whatever stands on it.

OpenSSL verifies first and sends the alert; then the whole chain is judged. Where either refuses, the handshake ends
in `HandshakeRefused`, which is an `ssl.SSLCertVerificationError` as well, so clients treat it as they should.
"""

from __future__ import annotations

import ssl
from typing import Any

from towpath.errors import TowpathError
from towpath.trust.anchors import Anchors
from towpath.trust.evidence import Evidence
from towpath.trust.handshake import Presented, judge
from towpath.trust.policy import Policy
from towpath.trust.result import TrustRefused, TrustResult

__all__ = ["HandshakeRefused", "TrustContext", "ssl_context"]

FORWARD_SECRET = "ECDHE+AESGCM:ECDHE+AES"
"""Ephemeral key exchange with AES, in the words of OpenSSL; TLS 1.3 has nothing else."""
ANY_EXCHANGE = FORWARD_SECRET + ":RSA+AESGCM:RSA+AES"
_STRICT = ssl.VerifyFlags.VERIFY_X509_TRUSTED_FIRST | ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN


class HandshakeRefused(TrustRefused, ssl.SSLCertVerificationError):
    """A handshake was refused for the peer's certificate; `result` says why, rule by rule."""

    def __str__(self) -> str:
        return str(self.args[0])


class TrustContext(ssl.SSLContext):
    """Made by `ssl_context()`. The verdict is the attribute `trust` of each connection's ssl object."""

    policy: Policy
    anchors: Anchors
    evidence: Evidence

    def judge(self, peer: ssl.SSLObject | ssl.SSLSocket, hostname: str | None) -> TrustResult:
        """The verdict on what the peer presented; raises `HandshakeRefused`."""
        result = judge(Presented.from_ssl(peer), hostname, self.policy, self.anchors, evidence=self.evidence)
        if not result.accepted:
            raise HandshakeRefused(result)
        return result


def _judged(peer: Any, handshake: Any) -> None:
    context: TrustContext = peer.context
    try:
        handshake()
    except ssl.SSLCertVerificationError:
        # OpenSSL has refused and alerted the peer; our own verdict on the same chain says it better.
        try:
            context.judge(peer, peer.server_hostname)
        except HandshakeRefused as refused:
            raise refused from None
        except TowpathError:
            pass
        raise
    peer.trust = context.judge(peer, peer.server_hostname)


class _JudgedObject(ssl.SSLObject):
    trust: TrustResult

    def do_handshake(self) -> None:
        _judged(self, super().do_handshake)


class _JudgedSocket(ssl.SSLSocket):
    trust: TrustResult

    def do_handshake(self, block: bool = False) -> None:
        _judged(self, lambda: super(_JudgedSocket, self).do_handshake(block))


TrustContext.sslobject_class = _JudgedObject
TrustContext.sslsocket_class = _JudgedSocket


def ssl_context(
    policy: Policy = Policy.apple,
    anchors: Anchors | None = None,
    *,
    evidence: Evidence = Evidence(),  # noqa: B008
) -> TrustContext:
    """A client's context: TLS 1.2 or later with forward secrecy, every server judged under `policy`.

    `anchors` are the system's by default. No network is used in a handshake unless `evidence.fetch` is given. ::

        reader, writer = await asyncio.open_connection("www.example.com", 443, ssl=ssl_context())
        writer.get_extra_info("ssl_object").trust.until()
    """
    anchors = anchors if anchors is not None else Anchors.system()
    context = TrustContext(ssl.PROTOCOL_TLS_CLIENT)
    context.policy, context.anchors, context.evidence = policy, anchors, evidence
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.verify_flags |= _STRICT
    context.set_ciphers(FORWARD_SECRET)
    for anchor in anchors.certificates():
        context.load_verify_locations(cadata=anchor.der)
    return context
