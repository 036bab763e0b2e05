"""A DNS proxy for a whole host: what its programs ask of port 53, whatever server they address, comes here."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from towpath.errors import HostFault, Misuse, PeerViolation, TowpathError
from towpath.hosting.dns_provider import DnsProvider
from towpath.hosting.host_thread import HostThread, nobody, write
from towpath.hosting.name_redirect import FOR_PROXY, NameRedirect
from towpath.hosting.outputs import Outputs
from towpath.hosting.system_dns import RESOLV_CONF, system_settings
from towpath.kernel import system
from towpath.providers.reasons import StopReason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from towpath.hosting.bundle import Bundle
    from towpath.hosting.session import OnFailure

__all__ = ["HostDns"]

_FLUSHED = 2.0
"""Seconds that systemd-resolved has to forget what this proxy answered."""
_PREPARING = 1.0
"""Seconds that a proxy has before the machine sleeps."""


class HostDns:
    """The DNS proxy of `bundle` for all programs in this process's network namespace, from `start` to `close`.

    ::

        with HostDns(find_bundle("secure_dns:ads.toml", "--dns", "dns-proxy")):
            ...     # names are resolved by it

    Questions of the host's own programs to port 53, over UDP and TCP and both families, are redirected to sockets on
    the loopback; what the proxy forwards has a mark and leaves. The redirection belongs to a socket of this process, so
    it goes however the process ends, and it holds only while a set has an element that is renewed every half second and
    lasts for 2: a process that hangs is passed by. `exempt` are user ids whose questions are left alone: that of a
    resolver on this host which the system's resolv.conf names, for its own questions would come back to it. Where that
    is systemd-resolved's stub, the servers behind it are asked instead, and nothing has to be exempt.

    `start` and `close` may be called from any thread and give futures. `on_failure` is for a proxy that fails: "pass"
    forwards, "block" answers SERVFAIL. `sleep` and `wake` tell the proxy of the machine's sleep, as logind does where
    it runs; systemd-resolved, where it runs, forgets its answers at the start and the end. `asked(pid, name)` hears of
    every question whose program is known, which costs a look at the program of each. `asked` and `say(level, text)` are
    called in a thread of its own.

    Make it while this process has one thread, for it forks. Raises `Misuse` otherwise. The thread begins with `start`.
    Needs the right to change the namespace's nftables (CAP_NET_ADMIN).

    With a filter of the same host, which then knows which of the names of an address a program meant::

        host_filter = HostFilter([find_bundle("no_ads.py")], "pass")
        host_dns = HostDns(find_bundle("secure_dns:ads.toml", "--dns", "dns-proxy"), asked=host_filter.asked)
        with host_filter, host_dns:
            ...
    """

    def __init__(
        self,
        bundle: Bundle,
        on_failure: OnFailure = "block",
        *,
        exempt: Sequence[int] = (),
        asked: Callable[[int, str], object] | None = None,
        say: Callable[[str, str], None] | None = None,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        self._bundle = bundle
        self._on_failure: OnFailure = on_failure
        self._exempt = tuple(exempt)
        self._asked = asked
        self._say = say or write
        self._resolv_conf = resolv_conf
        self._attachment: NameRedirect | None = None
        self._provider: DnsProvider | None = None
        self._outputs = Outputs()
        self._flushing: threading.Thread | None = None
        self._thread = HostThread("HostDns")
        self._loop = self._thread.loop
        self._thread.prepare("towpath-host-dns", self._stop, self._clean, self._watch_sleep)

    def _watch_sleep(self) -> None:
        self._sleep_watch = system.sleep_watch.SleepWatch(
            lambda done: self._loop.post(lambda: self._asleep(done)), self.wake
        )

    def start(self) -> Future[None]:
        """Starts the proxy and, when it has started, redirects to it. Fails with what kept it from that."""
        return self._thread.submit(self._start)

    def sleep(self) -> None:
        """The machine is about to sleep. logind says so too, where it runs."""
        self._loop.post(lambda: self._asleep(lambda: None))

    def wake(self) -> None:
        """The machine was asleep: what was kept is forgotten."""
        self._loop.post(lambda: self._provider.power(asleep=False) if self._provider else None)

    def flush(self, *names: str) -> Future[int]:
        """Forgets the answers that are kept for these names, without any all; "*.domain" is all below it.

        The future gives how many that were, or fails with `Misuse` for what is no name.
        """

        def flush(future: Future[int]) -> None:
            system.resolved.flush()
            try:
                future.set_result(self._provider.flush(names) if self._provider else 0)
            except (Misuse, PeerViolation) as error:
                future.set_exception(error)

        return self._thread.submit(flush)

    def rates(self) -> Future[dict[str, int]]:
        """How many questions the cache has answered, see `WireCache.rates`."""
        return self._thread.submit(
            lambda future: future.set_result(self._attachment.rates() if self._attachment else {})
        )

    def close(self) -> Future[None]:
        """Redirects no more, and ends the proxy. Further calls give the same future."""
        return self._thread.close()

    def __enter__(self) -> HostDns:
        try:
            self.start().result()
        except BaseException:
            self.close().result()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close().result()

    # In the thread of the loop.

    def _asleep(self, done: Callable[[], object]) -> None:
        if self._provider is not None:
            self._provider.power(asleep=True)

        def prepared() -> None:
            done()

        self._loop.later(_PREPARING, prepared)

    def _start(self, future: Future[None]) -> None:
        if self._provider is not None:
            future.set_exception(Misuse("this HostDns was started already"))
            return

        def started(error: TowpathError | None) -> None:
            if error is None and self._attachment is None and self._provider is not None:
                try:
                    self._attach(self._provider)
                except (HostFault, OSError) as fault:
                    known = isinstance(fault, TowpathError)
                    error = fault if known else HostFault("redirect names", fault.errno or 0, str(fault))  # type: ignore[assignment]
            if not future.done():
                future.set_result(None) if error is None else future.set_exception(error)

        self._provider = DnsProvider(
            self._loop,
            self._thread.nursery,
            self._bundle,
            self._on_failure,
            system_settings(self._resolv_conf),
            say=self._say,
            prompt=nobody,
            output=self._outputs.open,
            started=started,
        )

    def _attach(self, provider: DnsProvider) -> None:
        self._attachment = NameRedirect(
            self._loop,
            FOR_PROXY,
            proxy=provider,
            exempt=self._exempt,
            asked=self._asked,
            resolv_conf=self._resolv_conf,
            say=self._say,
        )
        system.resolved.flush(self._told_by_resolved)

    def _told_by_resolved(self, over_tls: str) -> None:
        if over_tls != "no":
            self._say(
                "warning",
                f"systemd-resolved asks its servers over TLS (DNSOverTLS={over_tls}): those questions are not seen "
                "here, and are with DNSOverTLS=no in resolved.conf(5)",
            )

    def _stop(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is not None:
            attachment.close()
            self._flushing = system.resolved.flush()
        if self._provider is None:
            self._loop.stop()
        else:
            self._provider.session.disable(StopReason.NONE, self._loop.stop)

    def _clean(self) -> None:
        if self._attachment is not None:
            self._attachment.close()
        self._sleep_watch.close()
        if self._flushing is not None:
            self._flushing.join(_FLUSHED)
        self._outputs.close()
