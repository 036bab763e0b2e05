"""What encrypted DNS and DNSSEC need: loaded before a run's command is executed, and only what its settings ask for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from towpath.errors import ConfigInvalid
from towpath.hosting.dns_exchange import Dial, Exchanges
from towpath.names.carriers import Carrier, StreamCarrier

if TYPE_CHECKING:
    from towpath.hosting.dns_provider import DnsProvider
    from towpath.hosting.loop import Loop
    from towpath.names.upstream import Upstream

__all__ = ["Carriers", "asking", "check_anchors", "check_files", "load"]

_rehearsed: set[str] = set()
_NEEDED = {
    "tls": ("towpath.names.tls_carrier",),
    "https": ("towpath.names.tls_carrier", "towpath.names.https_carrier"),
    "quic": ("towpath.names.tls_carrier", "towpath.names.quic_carrier"),
    "dnssec": ("towpath.names.dnssec.validator",),
}


def load(protocols: Iterable[str], where: str) -> None:
    """Imports what these protocols need. Raises `ConfigInvalid` where it is too late for that."""
    for protocol in protocols:
        for module in _NEEDED.get(protocol, ()):
            try:
                loaded = importlib.import_module(module)
                if hasattr(loaded, "rehearse") and module not in _rehearsed:
                    loaded.rehearse()
                    _rehearsed.add(module)
            except ImportError:
                hint = "a server of each protocol, and DNSSEC, has to be named when the run begins"
                raise ConfigInvalid(where, f"{protocol}: nothing is loaded while a command runs", hint) from None


def check_files(files: tuple[str, str], where: str) -> None:
    """Raises `ConfigInvalid` for authorities or an identity that cannot be used."""
    from towpath.names.tls_carrier import tls_context

    try:
        tls_context(*files)
    except OSError as error:
        shown = " and ".join(path for path in files if path)
        raise ConfigInvalid(where, f"{shown}: {error.strerror or error}", "PEM files are wanted") from None


def check_anchors(texts: Iterable[str], where: str) -> None:
    """Raises `ConfigInvalid` for a trust anchor that is none."""
    from towpath.names.dnssec.anchors import parse_anchors

    parse_anchors(texts, where)


class Carriers:
    """Makes carriers for the servers of a proxy, with the files that their settings name."""

    def __init__(self, proxy: DnsProvider) -> None:
        self._proxy = proxy
        self._contexts: dict[tuple[str, str, str], Any] = {}
        self._sessions: Any = None

    def tls(self, upstream: Upstream) -> Carrier:
        """DNS over TLS."""
        return self._within(upstream, StreamCarrier(), "dot", wanted="")

    def https(self, upstream: Upstream) -> Carrier:
        """DNS over HTTPS."""
        from towpath.names.https_carrier import HttpsCarrier

        host = upstream.certificate_name
        host = f"[{host}]" if ":" in host else host
        authority = host if upstream.port == 443 else f"{host}:{upstream.port}"
        return self._within(upstream, HttpsCarrier(authority, upstream.path), "h2", wanted="h2")

    def quic(self, upstream: Upstream, address: str) -> Any:
        """DNS over QUIC."""
        from towpath.names.quic_carrier import QuicCarrier

        authority, identity = self._proxy.tls_files.get(upstream.unlocated, ("", ""))
        return QuicCarrier(upstream.certificate_name, (address, upstream.port), authority, identity)

    def _within(self, upstream: Upstream, inner: Carrier, protocol: str, *, wanted: str) -> Carrier:
        from towpath.names.tls_carrier import Sessions, TlsCarrier, tls_context

        self._sessions = self._sessions or Sessions()
        files = self._proxy.tls_files.get(upstream.unlocated, ("", ""))
        context = self._contexts.get((protocol, *files))
        if context is None:
            context = self._contexts[(protocol, *files)] = tls_context(*files, (protocol,))
        return TlsCarrier(context, upstream.certificate_name, inner, wanted, self._sessions, upstream.unlocated)


def asking(loop: Loop, proxy: DnsProvider | None, dial: Dial | None) -> Exchanges:
    """What asks servers; those of a proxy may be encrypted ones."""
    if proxy is None:
        return Exchanges(loop, dial=dial)
    carriers = Carriers(proxy)
    return Exchanges(loop, dial=dial, carriers={"tls": carriers.tls, "https": carriers.https}, quic=carriers.quic)
