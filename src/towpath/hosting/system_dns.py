"""Whom the system asks for names: resolv.conf(5), read and watched."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from towpath.dns_proxy.groups import Group
from towpath.errors import HostFault
from towpath.hosting.loop import IN, Loop
from towpath.kernel import system
from towpath.names.upstream import parse_upstream
from towpath.wire.address import pack

if TYPE_CHECKING:
    from towpath.providers.dns import SystemDNSSettings

__all__ = ["RESOLV_CONF", "SystemDns", "behind_stub", "resolvers", "system_group", "system_settings"]

RESOLV_CONF = "/etc/resolv.conf"
_BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
_STUBS = ("127.0.0.53", "127.0.0.54")
_SETTLE = 0.1
_BEGIN = 0.5
"""Seconds until it is watched: closing a watch waits for the kernel for some 15 ms, as long as a short run takes."""


def resolvers(path: str = RESOLV_CONF) -> list[str]:
    """The name servers of resolv.conf(5); without any, the local one."""
    return _servers(path) or ["127.0.0.1"]


def system_settings(path: str = RESOLV_CONF) -> SystemDNSSettings:
    """What resolv.conf(5) says, as a DNS proxy sees it."""
    from towpath.providers.dns import SystemDNSSettings

    return SystemDNSSettings(*_asked(path))


def _asked(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Servers and search domains."""
    return tuple(resolvers(path)), tuple(_words(path, "search") or _words(path, "domain"))


def system_group(servers: list[str]) -> Group:
    """The servers of the system, for every name."""
    usable = [server for server in servers if pack(server.partition("%")[0]) is not None]
    return Group(tuple(parse_upstream(server, RESOLV_CONF) for server in usable or ["127.0.0.1"]))


def behind_stub(servers: list[str], path: str = _BEHIND_STUB) -> list[str]:
    """The servers that systemd-resolved itself asks, where the system asks nobody but its stub."""
    if servers and all(server in _STUBS for server in servers) and os.path.exists(path):
        return resolvers(path)
    return servers


def _servers(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            words = [line.split() for line in file]
    except OSError:
        return []
    return [line[1] for line in words if len(line) > 1 and line[0] == "nameserver"]


def _words(path: str, key: str) -> list[str]:
    """What stands behind the last line that begins with a word."""
    found: list[str] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for words in (line.split() for line in file):
                if words and words[0] == key:
                    found = words[1:]
    except OSError:
        pass
    return found


class SystemDns:
    """Calls `changed(servers)` when the system begins to ask others, or to search elsewhere.

    `say(level, text)` hears of it where that cannot be watched.
    """

    def __init__(
        self,
        loop: Loop,
        changed: Callable[[list[str]], None],
        say: Callable[[str, str], None],
        path: str = RESOLV_CONF,
    ) -> None:
        self._loop = loop
        self._changed = changed
        self._say = say
        self._path = path
        self._known = _asked(path)
        self._make_watch = system.watch.FileWatch  # now, for code is not loaded later
        self._watch: system.watch.FileWatch | None = None
        self._timer = loop.later(_BEGIN, self._begin)

    def _begin(self) -> None:
        try:
            self._watch = watch = self._make_watch({self._path, os.path.realpath(self._path)})
        except HostFault as fault:
            self._say("info", f"changes of {self._path} are not seen: {fault}")
            return
        self._loop.watch(watch.fileno(), IN, lambda _events: self._ready(watch))
        self._look()

    def _ready(self, watch: system.watch.FileWatch) -> None:
        watch.drain()
        self._loop.later(_SETTLE, self._look)

    def _look(self) -> None:
        found = _asked(self._path)
        if found != self._known:
            self._known = found
            self._changed(list(found[0]))

    def close(self) -> None:
        self._timer.cancel()
        if self._watch is not None:
            self._loop.forget(self._watch.fileno())
            self._watch.close()
