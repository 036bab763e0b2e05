"""A DNS proxy for a whole host: what its programs ask of port 53, whatever server they address, comes here."""

from __future__ import annotations

import atexit
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Literal, cast

from towpath.errors import HostFault, Misuse, PeerViolation, TowpathError
from towpath.hosting import imports, worker
from towpath.hosting.dns_carriers import Carriers
from towpath.hosting.dns_exchange import Exchanges
from towpath.hosting.dns_listen import Asked, DnsListener
from towpath.hosting.dns_provider import DnsProvider
from towpath.hosting.dns_service import NameService
from towpath.hosting.host_filter import new_future, nobody, write
from towpath.hosting.loop import Loop, Timer
from towpath.hosting.nursery import Nursery
from towpath.hosting.outputs import Outputs
from towpath.hosting.owners import as_seen, host_owners
from towpath.hosting.system_dns import RESOLV_CONF, SystemDns, behind_stub, resolvers, system_group, system_settings
from towpath.hosting.zygote import Zygote
from towpath.kernel import system
from towpath.providers.flow import Address, Owner, Question
from towpath.providers.reasons import StopReason
from towpath.wire import dns, dns_scan
from towpath.wire.ip import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from towpath.hosting.bundle import Bundle
    from towpath.hosting.session import OnFailure

__all__ = ["MARK", "TABLE", "HostDns"]

TABLE = "towpath_dns"
MARK = 0x800000
"""Of the marks of packets; what the proxy itself sends has it, and is not brought back to it."""
_ALIVE = "alive"
_PATIENCE = 2
_RENEW = 0.5
_FLUSHED = 2.0
"""Seconds that systemd-resolved has to forget what this proxy answered."""
_PREPARING = 1.0
"""Seconds that a proxy has before the machine sleeps."""
_TRIES = 64
_PROTOCOLS = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}
_NO_OWNER = "its process hides its descriptors, or had ended already"


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
    it runs; systemd-resolved, where it runs, forgets its answers at the start and the end. `say(level, text)` is called
    in a thread of its own.

    Make it while this process has one thread, for it forks. Raises `Misuse` otherwise. Needs the right to change the
    namespace's nftables (CAP_NET_ADMIN).
    """

    def __init__(
        self,
        bundle: Bundle,
        on_failure: OnFailure = "block",
        *,
        exempt: Sequence[int] = (),
        say: Callable[[str, str], None] | None = None,
        resolv_conf: str = RESOLV_CONF,
    ) -> None:
        if len(os.listdir("/proc/self/task")) > 1:
            raise Misuse("HostDns: to be made before this process starts threads, for it forks")
        self._bundle = bundle
        self._on_failure: OnFailure = on_failure
        self._exempt = tuple(exempt)
        self._say = say or write
        self._resolv_conf = resolv_conf
        self._attachment: _Attachment | None = None
        self._provider: DnsProvider | None = None
        self._outputs = Outputs()
        self._flushing: threading.Thread | None = None
        self._closing: Future[None] | None = None
        self._lock = threading.Lock()
        self._zygote = Zygote(worker.live, imports.close)
        self._loop = Loop()
        self._nursery = Nursery(self._loop, self._zygote)
        self._sleep_watch = system.sleep_watch.SleepWatch(
            lambda done: self._loop.post(lambda: self._asleep(done)), self.wake
        )
        self._thread = threading.Thread(target=self._run, name="towpath-host-dns", daemon=True)
        self._thread.start()
        atexit.register(lambda: self.close().result(10))

    def start(self) -> Future[None]:
        """Starts the proxy and, when it has started, redirects to it. Fails with what kept it from that."""
        future = new_future()
        self._loop.post(lambda: self._start(future))
        return future

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
        future: Future[int] = Future()

        def flush() -> None:
            system.resolved.flush()
            try:
                future.set_result(self._provider.flush(names) if self._provider else 0)
            except (Misuse, PeerViolation) as error:
                future.set_exception(error)

        self._loop.post(flush)
        return future

    def rates(self) -> Future[dict[str, int]]:
        """How many questions the cache has answered, see `WireCache.rates`."""
        future: Future[dict[str, int]] = Future()
        self._loop.post(lambda: future.set_result(self._attachment.rates() if self._attachment else {}))
        return future

    def close(self) -> Future[None]:
        """Redirects no more, and ends the proxy. Further calls give the same future."""
        with self._lock:
            if self._closing is None:
                self._closing = new_future()
                self._loop.post(self._stop)
            return self._closing

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
            self._nursery,
            self._bundle,
            self._on_failure,
            system_settings(self._resolv_conf),
            say=self._say,
            prompt=nobody,
            output=self._outputs.open,
            started=started,
        )

    def _attach(self, provider: DnsProvider) -> None:
        self._attachment = _Attachment(self._loop, provider, self._exempt, self._resolv_conf, self._say)
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

    def _run(self) -> None:
        try:
            self._loop.run()
        finally:
            with self._lock:
                closing = self._closing = self._closing or new_future()
            if self._attachment is not None:
                self._attachment.close()
            self._sleep_watch.close()
            if self._flushing is not None:
                self._flushing.join(_FLUSHED)
            self._outputs.close()
            self._zygote.close()
            self._loop.close()
            closing.set_result(None)


class _Marked:
    """Makes sockets whose packets are left alone."""

    def dial_datagram(self, version: int, address: str, port: int) -> socket.socket:
        return system.sockets.dial_datagram(version, address, port, mark=MARK)

    def dial_stream(self, version: int, address: str, port: int) -> tuple[socket.socket, int]:
        return system.sockets.dial_stream(version, address, port, MARK)


def host_dns_lines(port: int, exempt: Sequence[int]) -> list[str]:
    """The table: questions of the host's programs are redirected to `port` while the set has an element."""
    return [
        f"set {_ALIVE} timeout {_PATIENCE}",
        "chain output type nat hook output priority -110 policy accept",
        "udp dport 53 goto names",
        "tcp dport 53 goto names",
        "chain names",
        f"meta mark & {MARK:#x} == {MARK:#x} accept",
        *(f"meta skuid {uid} accept" for uid in exempt),
        f"meta mark & 0x0 == @{_ALIVE} redirect to :{port}",
    ]


class _Attachment:
    """The sockets and the table, made together and gone together."""

    def __init__(
        self,
        loop: Loop,
        provider: DnsProvider,
        exempt: Sequence[int],
        resolv_conf: str,
        say: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._provider = provider
        self._say = say
        carriers = Carriers(provider)
        self._exchanges = Exchanges(
            loop,
            dial=_Marked(),
            carriers={"tls": carriers.tls, "https": carriers.https},
            quic=carriers.quic,
        )
        group = system_group(behind_stub(resolvers(resolv_conf)))
        self._names = NameService(loop, group, self._exchanges, _admit, proxy=provider, say=say)
        self._listener = DnsListener(loop, self._names.cache, self._ask, direct=lambda: self._names.direct)
        port, self._sockets = _listen()
        for one in self._sockets:
            is_stream = one.type == socket.SOCK_STREAM
            (self._listener.listen_stream if is_stream else self._listener.listen)(one)
        self._owners = host_owners()
        self._resolv_conf = resolv_conf
        self._system = SystemDns(loop, self._system_changed, resolv_conf)
        try:
            self._table = system.host_table.HostTable(TABLE, host_dns_lines(port, exempt))
        except BaseException:
            self._close_all()
            raise
        self._timer: Timer | None = None
        self._keep()

    def _keep(self) -> None:
        """This process does not hang."""
        try:
            self._table.keep(_ALIVE, 0)
        except HostFault as fault:
            self._say("error", f"names are not redirected any more: {fault}")
        self._timer = self._loop.later(_RENEW, self._keep)

    def _system_changed(self, servers: list[str]) -> None:
        self._names.use_system(system_group(behind_stub(servers)))
        self._provider.system_changed(system_settings(self._resolv_conf))

    def _ask(self, asked: Asked) -> None:
        try:
            question = dns.parse_query(asked.data)
        except PeerViolation as violation:
            answer = dns_scan.not_a_question(asked.data, violation)
            if answer is not None:
                asked.reply(answer)
            return

        def describe() -> Question:
            owner, unknown = self._owner(asked)
            return Question(
                number=self._provider.number(),
                name=question.name,
                type=dns.type_name(question.type),
                transport=cast('Literal["tcp", "udp"]', asked.transport),
                server=Address(text_of(asked.address), 53),
                owner=owner,
                owner_unknown=unknown,
                scope="host",
            )

        self._names.answer(
            asked, question, describe, lambda reason: self._say("info", f"refused {question.name} (dns): {reason}")
        )

    def _owner(self, asked: Asked) -> tuple[Owner | None, str | None]:
        found = self._owners.find_local(_PROTOCOLS[asked.transport], asked.source, asked.source_port)
        return (None, _NO_OWNER) if found is None else (as_seen(found.owner), None)

    def rates(self) -> dict[str, int]:
        return self._names.cache.rates()

    def close(self) -> None:
        """The table is gone first, so that no question is brought to sockets that are closed."""
        self._table.close()
        if self._timer is not None:
            self._timer.cancel()
        self._close_all()

    def _close_all(self) -> None:
        self._listener.close()
        self._exchanges.close()
        self._owners.close()
        self._system.close()
        for one in self._sockets:
            one.close()


def _admit(_name: str, data: bytes, end: int) -> dns_scan.Scanned:
    plain = dns_scan.plain_answer(data, end)
    return plain.scanned if plain is not None else dns_scan.scan(data)


def _listen() -> tuple[int, list[socket.socket]]:
    """Sockets on one port of the loopback of both families. Raises `HostFault`."""
    versions = [(4, "127.0.0.1"), *([(6, "::1")] if system.addresses.has_ipv6() else [])]
    for _ in range(_TRIES):
        made: list[socket.socket] = []
        port = 0
        try:
            for version, address in versions:
                made.append(system.sockets.dns_intake(version, address, port))
                port = made[0].getsockname()[1]
                made.append(system.sockets.tcp_listener(version, address, port, transparent=False))
        except OSError as error:
            for one in made:
                one.close()
            fault = error
            continue
        return port, made
    raise HostFault("listen for questions", fault.errno or 0, str(fault))
