"""The tunnel of one run: found and given its network before anything else, connected before the command starts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from msgspec import structs

from towpath.hosting import imports, worker
from towpath.hosting.bundle import find_tunnel
from towpath.hosting.nursery import Nursery
from towpath.hosting.tunnel_control import TunnelControl
from towpath.hosting.tunnel_machine import SessionState
from towpath.hosting.tunnel_session import TunnelServices, TunnelSession
from towpath.hosting.zygote import Zygote
from towpath.kernel import system
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.reasons import StopReason
from towpath.sandbox.tunnel_names import TunnelNames
from towpath.sandbox.uplink import TunnelUplink

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from towpath.dns_proxy.groups import Group
    from towpath.hosting.loop import Loop
    from towpath.providers.tunnel_settings import TunnelSettings
    from towpath.sandbox.report import Ledger

__all__ = ["TunnelRun"]

_WORDS_AFTER = 2.0
_STOP_PATIENCE = 2.0
_DEVICE_NAME = 15


class TunnelRun:
    """To be made first of all, while the process holds nothing; `begin` needs the loop.

    Raises `ConfigInvalid`, and `PermissionMissing` where no TUN device can be made.
    """

    def __init__(self, text: str) -> None:
        found = find_tunnel(text)
        # Whatever its manifest claims: the tunnel of a run listens to nobody, and sends to the servers that it names.
        kept = tuple(one for one in found.manifest.capabilities if one != "listen")
        self._bundle = structs.replace(found, manifest=structs.replace(found.manifest, capabilities=kept))
        self._where = str(self._bundle.config.get("name") or self._bundle.manifest.id)
        stem = os.path.splitext(os.path.basename(self._bundle.config_given or "tun0"))[0]
        name = "".join(one for one in stem if one.isascii() and (one.isalnum() or one in "-_"))[:_DEVICE_NAME]
        self._zygote = Zygote(worker.live, imports.close)
        try:
            self._scope = system.tunnel_scope.TunnelScope(name or "tun0")
        except BaseException:
            self._zygote.close()
            raise
        self.uplink = TunnelUplink(self._scope, self._where)
        self.names = TunnelNames(self.uplink, lambda text: self._ledger.say("warning", text))
        self.session: TunnelSession | None = None
        self.settings_changed: Callable[[], None] = lambda: None
        self._control: TunnelControl | None = None
        self._waiting = False
        self._state = SessionState.DISCONNECTED

    @property
    def files(self) -> list[str]:
        """What the command must not be able to change: the next worker loads it again."""
        return [self._bundle.folder or self._bundle.file, self._bundle.given]

    @property
    def secrets(self) -> list[str]:
        """What the command must not be able to read: the configuration holds keys."""
        return [path for path in (self._bundle.config_file, self._bundle.config_given) if path]

    def begin(self, loop: Loop, ledger: Ledger) -> None:
        """Connects, and waits for it. Raises `TunnelFailed` with why it could not."""
        self._loop = loop
        self._ledger = ledger
        services = TunnelServices(ledger.say, self._changed, self._settled)
        session = self.session = TunnelSession(loop, Nursery(loop, self._zygote), self._bundle, self._scope, services)
        patience = loop.later(_WORDS_AFTER, self._say_waiting)
        self._waiting = True
        session.start()
        loop.run()
        self._waiting = False
        patience.cancel()
        if session.state is not SessionState.CONNECTED:
            raise session.last_error or TunnelFailed(DisconnectCause.NEGOTIATION_FAILED)
        session.keep_connected()
        self._control = TunnelControl(loop, session)

    def _say_waiting(self) -> None:
        sys.stderr.write(f"towpath: connecting {self._where} ...\n")
        sys.stderr.flush()

    def _changed(self, state: SessionState) -> None:
        self._state = state
        if self._waiting:
            if state in (SessionState.CONNECTED, SessionState.DISCONNECTED):
                self._loop.stop()
            return
        session = self.session
        if session is not None and state is SessionState.DISCONNECTED and session.last_error is not None:
            self._ledger.say(
                "warning", f"the tunnel is down: {session.last_error}; nothing leaves until it is up again"
            )
        elif state is SessionState.REASSERTING:
            self._ledger.say("warning", "the tunnel's peer does not answer; nothing leaves by another way")
        elif state is SessionState.CONNECTED:
            self._ledger.say("info", "the tunnel is up")

    def _settled(self, settings: TunnelSettings | None) -> None:
        self.uplink.use(settings)
        self.settings_changed()

    def whom(self, servers: list[str]) -> tuple[Group, Sequence[Group]]:
        """Whom to ask for names, where the host asks `servers`: for every name, and for some domains."""
        plan = self.names.use(self.session.settings if self.session is not None else None, servers)
        return plan.rest, plan.domains

    @property
    def search(self) -> list[str]:
        settings = self.session.settings if self.session is not None else None
        return list(settings.dns.search_domains) if settings is not None and settings.dns is not None else []

    @property
    def environment(self) -> dict[str, str]:
        """What programs are told of proxies behind the tunnel."""
        settings = self.session.settings if self.session is not None else None
        return settings.proxy.environment() if settings is not None and settings.proxy is not None else {}

    def stop(self) -> None:
        """Tells the provider that the run is over, gives it a moment, and ends it."""
        session = self.session
        if session is None:
            return
        self._waiting = True
        timer = self._loop.later(_STOP_PATIENCE, self._loop.stop)
        session.stop(StopReason.NONE)
        if session.state is SessionState.DISCONNECTING:
            self._loop.run()
        timer.cancel()
        if self._control is not None:
            self._control.close()
        session.close()
        self.session = None

    def close(self) -> None:
        """Nothing is left of it afterwards."""
        if self.session is not None:
            self.session.close()
        self._scope.close()
        self._zygote.close()
