"""A tunnel for a whole host, or the server's side of one, while the process of who holds it lives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from towpath.errors import HostFault, Misuse, TowpathError
from towpath.hosting.host_thread import HostThread, new_future, settle, write
from towpath.hosting.name_redirect import FOR_TUNNEL, NameRedirect
from towpath.hosting.system_dns import RESOLV_CONF
from towpath.hosting.tunnel_control import TunnelControl
from towpath.hosting.tunnel_machine import SessionState
from towpath.hosting.tunnel_names import leads_everywhere, plan_names
from towpath.hosting.tunnel_session import TunnelServices, TunnelSession
from towpath.kernel import system
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.reasons import StopReason

if TYPE_CHECKING:
    from towpath.dns_proxy.groups import Group
    from towpath.hosting.bundle import Bundle
    from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["HostTunnel", "Implementation"]

Implementation: TypeAlias = Literal["userspace", "kernel"]
"""Who speaks WireGuard: a confined process of ours, or the kernel, where it can."""


class HostTunnel:
    """The tunnel of `bundle` in this process's network namespace, from `start` to `close`.

    ::

        with HostTunnel(find_bundle("wireguard:wg0.conf", kind="packet-tunnel")) as tunnel:    # connected
            tunnel.status().result()["state"]

    Its routes hang on its device and its rules on a socket: both go with this process, however it ends. `kill_switch`
    lets nothing leave the host but the tunnel's own datagrams, from `start` on. With `on_demand` a session that ended
    by itself is started again. `device` is the name of the interface. `say(level, text)` is called in the tunnel's own
    thread; callbacks of the futures run there too and must not wait.

    With `implementation="kernel"` the kernel speaks WireGuard, where it has it and CAP_SYS_ADMIN is here too; where
    not, the one in user space does, and that is said. Which of them it is, `status` tells. Raises `Misuse` for a
    tunnel of another protocol.

    Where its settings name DNS servers, questions of the host's programs to port 53, whomever they address, are
    redirected to sockets of this process, and asked of these servers by the tunnel's device; names that are not for
    them go to the host's own (see `towpath.hosting.tunnel_names`). Names of one
    label that the host's own search list does not complete are looked for in the settings' search domains. `exempt` are
    user ids whose questions are left alone: that of a resolver on this host. With a proxy of names besides
    (`towpath.hosting.host_dns.HostDns`), the proxy is asked first.

    Make it while this process has one thread: its worker is forked from a copy of it. Raises `Misuse` otherwise,
    `PermissionMissing` without CAP_NET_ADMIN or with a closed /dev/net/tun.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "tun0",
        on_demand: bool = False,
        disconnect_on_sleep: bool = False,
        kill_switch: bool = False,
        implementation: Implementation = "userspace",
        exempt: Sequence[int] = (),
        resolv_conf: str = RESOLV_CONF,
        say: Callable[[str, str], None] | None = None,
    ) -> None:
        kernel = implementation == "kernel"
        if kernel and "kernel-wireguard" not in bundle.manifest.capabilities:
            raise Misuse(f"{bundle.manifest.id} does not claim kernel-wireguard: only its provider can speak it")
        self._say = say or write
        self._thread = HostThread("HostTunnel")
        try:
            self._attachment = system.host_tunnel.HostTunnelDevice(device, kill_switch=kill_switch, kernel=kernel)
        except BaseException:
            self._thread.abandon()
            raise
        if self._attachment.why_not:
            self._say("warning", f"WireGuard is spoken in user space: {self._attachment.why_not}")
        self._loop = self._thread.loop
        self._exempt = tuple(exempt)
        self._resolv_conf = resolv_conf
        self._names: NameRedirect | None = None
        self._names_always = False
        self._told_of_proxy = False
        self._waiting: list[Future[None]] = []
        self._leaving: list[Future[None]] = []
        self._session = TunnelSession(
            self._loop,
            self._thread.nursery,
            bundle,
            self._attachment,
            TunnelServices(self._say, self._changed, self._settled),
            on_demand=on_demand,
            disconnect_on_sleep=disconnect_on_sleep,
        )
        self._control = TunnelControl(self._loop, self._session)
        self._thread.prepare("towpath-host-tunnel", self._end_all, self._clean, self._watch_sleep)

    def _watch_sleep(self) -> None:
        self._sleep = system.sleep_watch.SleepWatch(
            lambda done: self._loop.post(lambda: self._session.sleep(done)), lambda: self._loop.post(self._session.wake)
        )

    def start(self, options: dict[str, str] | None = None) -> Future[None]:
        """Connects; done when it is, or with the `TunnelFailed` that kept it from being so."""
        return self._thread.submit(lambda future: self._begin(options, future))

    def stop(self, reason: StopReason = StopReason.USER_INITIATED) -> Future[None]:
        """Disconnects, within 5 s whatever the provider does."""
        return self._thread.submit(lambda future: self._end(reason, future))

    def status(self) -> Future[dict[str, Any]]:
        """Figures of now, as `towpath tunnel status --json` shows them."""
        return self._thread.submit(lambda future: self._session.status(future.set_result))

    def message(self, data: bytes) -> Future[bytes | None]:
        """Puts a message to the provider, and gives its answer; `None` where it has none within 30 s."""
        return self._thread.submit(lambda future: self._session.app_message(data, future.set_result))

    def close(self) -> Future[None]:
        """`stop`, and the end of the worker, the device and the thread. Further calls give the same future."""
        return self._thread.close()

    def __enter__(self) -> HostTunnel:
        try:
            self.start().result()
        except BaseException:
            self.close().result()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close().result()

    # In the thread of the loop.

    def _end_all(self) -> None:
        stopped = new_future()
        stopped.add_done_callback(lambda _stopped: self._loop.stop())
        self._end(StopReason.NONE, stopped)

    def _clean(self) -> None:
        if self._names is not None:
            self._names.close()
        self._sleep.close()
        self._control.close()
        self._session.close()
        self._attachment.close()
        settle(self._waiting, TowpathError("the tunnel has ended"))
        settle(self._leaving, None)

    def _begin(self, options: dict[str, str] | None, future: Future[None]) -> None:
        self._waiting.append(future)
        self._session.start(options)
        self._changed(self._session.state)

    def _end(self, reason: StopReason, future: Future[None]) -> None:
        self._leaving.append(future)
        self._session.stop(reason)
        self._changed(self._session.state)

    def _changed(self, state: SessionState) -> None:
        if state is SessionState.CONNECTED:
            settle(self._waiting, None)
        elif state in (SessionState.DISCONNECTED, SessionState.INVALID):
            error = self._session.last_error or TunnelFailed(DisconnectCause.CONFIGURATION_FAILED, "it was stopped")
            settle(self._waiting, error)
            settle(self._leaving, None)

    def _settled(self, settings: TunnelSettings | None) -> None:
        if settings is not None and settings.proxy is not None and not self._told_of_proxy:
            self._told_of_proxy = True
            self._say("warning", "the tunnel names a proxy: programs of a host are not told of it, those of a run are")
        wanted = settings is not None and settings.dns is not None and bool(settings.dns.servers)
        always = settings is not None and leads_everywhere(settings)
        if self._names is not None and not (wanted and always is self._names_always):
            self._names.close()
            self._names = None
        if self._names is not None:
            self._names.ask_anew()
        elif wanted:
            self._names_always = always
            try:
                self._names = NameRedirect(
                    self._loop,
                    FOR_TUNNEL,
                    whom=self._whom,
                    interface_of=self._interface_of,
                    search=self._search,
                    always=always,
                    exempt=self._exempt,
                    resolv_conf=self._resolv_conf,
                    say=self._say,
                )
            except OSError as fault:
                raise HostFault("redirect names", fault.errno or 0, str(fault)) from fault

    def _whom(self, servers: list[str]) -> tuple[Group, Sequence[Group]]:
        plan = plan_names(self._session.settings, servers)
        return plan.rest, plan.domains

    def _search(self) -> Sequence[str]:
        dns = self._session.settings.dns if self._session.settings is not None else None
        return dns.search_domains if dns is not None else ()

    def _interface_of(self, address: str) -> str | None:
        """The tunnel's device for a server that it leads to: another route of the host may be more specific."""
        settings = self._session.settings
        covered = settings is not None and "%" not in address and settings.refusal(address) is None
        return self._attachment.name if covered else None
