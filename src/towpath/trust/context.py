"""An `ssl.SSLContext` whose handshakes are judged by a policy: for asyncio and whatever stands on it.

OpenSSL verifies first and sends the alert; then the whole chain is judged. Where either refuses, the handshake ends
in `HandshakeRefused`, which is an `ssl.SSLCertVerificationError` as well, so clients treat it as they should.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from towpath.errors import TowpathError
from towpath.trust.anchors import Anchors
from towpath.trust.evidence import NOTHING, Evidence
from towpath.trust.handshake import Presented, ShowsChain, judge
from towpath.trust.identities import ClientPolicy
from towpath.trust.policy import Policy
from towpath.trust.result import TrustRefused, TrustResult

__all__ = ["HandshakeRefused", "TrustContext", "client_judge", "server_context", "ssl_context"]

FORWARD_SECRET = "ECDHE+AESGCM:ECDHE+AES"
"""Ephemeral key exchange with AES, in the words of OpenSSL; TLS 1.3 has nothing else."""
ANY_EXCHANGE = FORWARD_SECRET + ":RSA+AESGCM:RSA+AES"
MAX_REMEMBERED = 256
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
    _remembered: OrderedDict[tuple[Presented, str | None], tuple[TrustResult, datetime]]

    def judge(self, peer: ShowsChain | ssl.SSLObject | ssl.SSLSocket, hostname: str | None) -> TrustResult:
        """The verdict on what the peer presented; raises `HandshakeRefused`.

        A server that shows the same chain again is not judged again before something in it begins or ends.
        """
        presented, now = Presented.from_ssl(peer), datetime.now(UTC)
        key = presented, hostname
        known = self._remembered.get(key)
        if known is not None and known[0].at <= now < known[1]:
            return known[0]
        result = judge(presented, hostname, self.policy, self.anchors, evidence=self.evidence, now=lambda: now)
        if not result.accepted:
            raise HandshakeRefused(result)
        self._remembered[key] = result, result.unchanged_before() or now
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)
        return result

    def forget(self) -> None:
        """Judges every server anew, as after a change of the anchors or of the evidence."""
        self._remembered.clear()


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


def server_context(chain: Path, key: Path, clients: ClientPolicy | None = None) -> ssl.SSLContext:
    """A server's context with its chain and key (PEM files); with `clients` every client must show a good certificate.

    The standard library sends clients no list of acceptable authorities: `ClientPolicy.acceptable_authorities()` is for
    libraries that can, as `towpath.protocols.Tls` does. ::

        asyncio.start_server(handle, port=443, ssl=server_context(chain, key, ClientPolicy(anchors)))
    """
    context = client_judge(clients) if clients is not None else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(FORWARD_SECRET)
    context.load_cert_chain(chain, key)
    return context


def client_judge(clients: ClientPolicy) -> TrustContext:
    """A server's context that demands good certificates, without one of its own."""
    context = TrustContext(ssl.PROTOCOL_TLS_SERVER)
    _equip(context, clients.policy, clients.anchors, NOTHING)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _equip(context: TrustContext, policy: Policy, anchors: Anchors, evidence: Evidence) -> None:
    context.policy, context.anchors, context.evidence = policy, anchors, evidence
    context._remembered = OrderedDict()
    context.verify_flags |= _STRICT
    for anchor in anchors.certificates():
        context.load_verify_locations(cadata=anchor.der)


def ssl_context(
    policy: Policy = Policy.apple,
    anchors: Anchors | None = None,
    *,
    evidence: Evidence = NOTHING,
) -> TrustContext:
    """A client's context: TLS 1.2 or later with forward secrecy, every server judged under `policy`.

    `anchors` are the system's by default. No network is used in a handshake unless `evidence.fetch` is given. ::

        reader, writer = await asyncio.open_connection("www.example.com", 443, ssl=ssl_context())
        writer.get_extra_info("ssl_object").trust.until()
    """
    anchors = anchors if anchors is not None else Anchors.system()
    context = TrustContext(ssl.PROTOCOL_TLS_CLIENT)
    _equip(context, policy, anchors, evidence)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.hostname_checks_common_name = False
    context.set_ciphers(FORWARD_SECRET)
    return context
