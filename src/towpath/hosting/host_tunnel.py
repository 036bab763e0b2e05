"""A tunnel for a whole host, or the server's side of one, while the process of who holds it lives."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from towpath.errors import TowpathError
from towpath.hosting.host_thread import HostThread, new_future, settle, write
from towpath.hosting.tunnel_control import TunnelControl
from towpath.hosting.tunnel_machine import SessionState
from towpath.hosting.tunnel_session import TunnelServices, TunnelSession
from towpath.kernel import system
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.reasons import StopReason

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.providers.tunnel_settings import TunnelSettings

__all__ = ["HostTunnel"]


class HostTunnel:
    """The tunnel of `bundle` in this process's network namespace, from `start` to `close`.

    ::

        with HostTunnel(find_bundle("wireguard:wg0.conf", kind="packet-tunnel")) as tunnel:    # connected
            tunnel.status().result()["state"]

    Its routes hang on its device and its rules on a socket: both go with this process, however it ends. `kill_switch`
    lets nothing leave the host but the tunnel's own datagrams, from `start` on. With `on_demand` a session that ended
    by itself is started again. `device` is the name of the interface. `say(level, text)` is called in the tunnel's own
    thread; callbacks of the futures run there too and must not wait. DNS settings are not put in force.

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
        say: Callable[[str, str], None] | None = None,
    ) -> None:
        self._say = say or write
        self._thread = HostThread("HostTunnel")
        try:
            self._attachment = system.host_tunnel.HostTunnelDevice(device, kill_switch=kill_switch)
        except BaseException:
            self._thread.abandon()
            raise
        self._loop = self._thread.loop
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
        self._sleep = system.sleep_watch.SleepWatch(
            lambda done: self._loop.post(lambda: self._session.sleep(done)), lambda: self._loop.post(self._session.wake)
        )
        self._thread.begin("towpath-host-tunnel", self._end_all, self._clean)

    def start(self, options: dict[str, str] | None = None) -> Future[None]:
        """Connects; done when it is, or with the `TunnelFailed` that kept it from being so."""
        return self._thread.submit(lambda future: self._begin(options, future))

    def stop(self, reason: StopReason = StopReason.USER_INITIATED) -> Future[None]:
        """Disconnects, within 5 s whatever the provider does."""
        return self._thread.submit(lambda future: self._end(reason, future))

    def status(self) -> Future[dict[str, Any]]:
        """Figures of now, as `towpath tunnel status --json` shows them."""
        future: Future[dict[str, Any]] = Future()
        self._loop.post(lambda: self._session.status(future.set_result))
        return future

    def message(self, data: bytes) -> Future[bytes | None]:
        """Puts a message to the provider, and gives its answer; `None` where it has none within 30 s."""
        future: Future[bytes | None] = Future()
        self._loop.post(lambda: self._session.app_message(data, future.set_result))
        return future

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

    def _settled(self, _settings: TunnelSettings | None) -> None:
        pass
