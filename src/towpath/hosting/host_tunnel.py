"""A tunnel for a whole host, or the server's side of one, while the process of who holds it lives."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from towpath.errors import Misuse, TowpathError
from towpath.hosting import imports, worker
from towpath.hosting.loop import Loop
from towpath.hosting.nursery import Nursery
from towpath.hosting.tunnel_control import TunnelControl
from towpath.hosting.tunnel_machine import SessionState
from towpath.hosting.tunnel_session import TunnelServices, TunnelSession
from towpath.hosting.zygote import Zygote
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
        if len(os.listdir("/proc/self/task")) > 1:
            raise Misuse("HostTunnel: to be made before this process starts threads, for it forks")
        self._say = say or _write
        self._zygote = Zygote(worker.live, imports.close)
        try:
            self._attachment = system.host_tunnel.HostTunnelDevice(device, kill_switch=kill_switch)
        except BaseException:
            self._zygote.close()
            raise
        self._loop = Loop()
        self._waiting: list[Future[None]] = []
        self._leaving: list[Future[None]] = []
        self._closing: Future[None] | None = None
        self._lock = threading.Lock()
        self._session = TunnelSession(
            self._loop,
            Nursery(self._loop, self._zygote),
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
        self._thread = threading.Thread(target=self._run, name="towpath-host-tunnel", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def start(self, options: dict[str, str] | None = None) -> Future[None]:
        """Connects; done when it is, or with the `TunnelFailed` that kept it from being so."""
        return self._submit(lambda future: self._begin(options, future))

    def stop(self, reason: StopReason = StopReason.USER_INITIATED) -> Future[None]:
        """Disconnects, within 5 s whatever the provider does."""
        return self._submit(lambda future: self._end(reason, future))

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
        with self._lock:
            if self._closing is None:
                self._closing = Future()
                stopped: Future[None] = Future()
                stopped.add_done_callback(lambda _stopped: self._loop.stop())
                self._loop.post(lambda: self._end(StopReason.NONE, stopped))
            return self._closing

    def __enter__(self) -> HostTunnel:
        try:
            self.start().result()
        except BaseException:
            self.close().result()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close().result()

    def _submit(self, operation: Callable[[Future[None]], None]) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if self._closing is None:
                self._loop.post(lambda: operation(future))
                return future
        future.set_exception(Misuse("this HostTunnel is closed"))
        return future

    def _at_exit(self) -> None:
        self.close().result(10)

    # In the thread of the loop.

    def _run(self) -> None:
        try:
            self._loop.run()
        finally:
            with self._lock:
                closing = self._closing = self._closing or Future()
            self._sleep.close()
            self._control.close()
            self._session.close()
            self._attachment.close()
            self._zygote.close()
            self._loop.close()
            self._settle(self._waiting, TowpathError("the tunnel has ended"))
            self._settle(self._leaving, None)
            atexit.unregister(self._at_exit)
            closing.set_result(None)

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
            self._settle(self._waiting, None)
        elif state in (SessionState.DISCONNECTED, SessionState.INVALID):
            error = self._session.last_error or TunnelFailed(DisconnectCause.CONFIGURATION_FAILED, "it was stopped")
            self._settle(self._waiting, error)
            self._settle(self._leaving, None)

    def _settle(self, futures: list[Future[None]], error: TowpathError | None) -> None:
        waiting = futures[:]
        futures.clear()
        for future in waiting:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    def _settled(self, _settings: TunnelSettings | None) -> None:
        pass


def _write(level: str, text: str) -> None:
    if level in ("warning", "error"):
        sys.stderr.write(f"towpath: {text}\n")
