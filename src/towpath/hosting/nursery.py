"""Orders workers from the zygote and says what each of them may read."""

from __future__ import annotations

import errno
import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from towpath.errors import HostFault
from towpath.hosting import messages
from towpath.hosting.loop import IN
from towpath.hosting.zygote import Spawned
from towpath.providers.dns import NO_SYSTEM_DNS, SystemDNSSettings

if TYPE_CHECKING:
    from towpath.hosting.bundle import Bundle
    from towpath.hosting.link import WorkerLink
    from towpath.hosting.loop import Loop
    from towpath.hosting.zygote import Zygote

__all__ = ["Nursery", "named_files", "python_folders", "readable_by"]

_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/etc/ld.so.cache")
_OPTIONS = {"content-filter": "--filter", "dns-proxy": "--dns", "packet-tunnel": "--tunnel"}
_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")


def python_folders() -> list[str]:
    """Where the standard library, installed packages and Towpath itself lie; not whatever else `sys.path` names."""
    packages = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    own = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    known = {*packages, *site.getsitepackages(), own, f"{sysconfig.get_path('stdlib')}/lib-dynload"}
    if site.ENABLE_USER_SITE:
        known.add(site.getusersitepackages())
    return [folder for folder in sys.path if folder in known]


def named_files(config: Any, folder: str) -> Iterator[str]:
    """The files that a config names, anywhere in it: naming them is how a user lets a filter read them."""
    if isinstance(config, str):
        path = os.path.join(folder, config)
        if config and os.path.isfile(path):
            yield path
    elif isinstance(config, dict):
        for value in config.values():
            yield from named_files(value, folder)
    elif isinstance(config, list):
        for value in config:
            yield from named_files(value, folder)


def readable_by(bundle: Bundle) -> tuple[str, ...]:
    """What a worker may read besides Python: libraries, its bundle, the files that its config names."""
    own = bundle.folder or bundle.file
    return (*_LIBRARIES, *_DEVICES, own, *named_files(bundle.config, bundle.home))


class Nursery:
    """One for all filters of a run."""

    def __init__(self, loop: Loop, zygote: Zygote) -> None:
        self._zygote = zygote
        self._loop = loop
        self._path = tuple(python_folders())
        self._made = 0
        self._expected: dict[int, WorkerLink] = {}
        loop.watch(zygote.fileno(), IN, lambda _events: self._hear())

    def make(self, link: WorkerLink, bundle: Bundle, system_dns: SystemDNSSettings = NO_SYSTEM_DNS) -> None:
        """Orders a worker for `link` and tells it what to load; `link` hears of it."""
        self._made += 1
        self._expected[self._made] = link
        readable = (*self._path, *readable_by(bundle))
        memory = bundle.manifest.memory << 20
        try:
            self._zygote.order(self._made, link.theirs.fileno(), link.output, readable, memory)
        except OSError:
            self._loop.soon(self._tell_all)
        link.send(
            messages.Begin(
                file=bundle.file,
                class_name=bundle.class_name,
                config=bundle.config,
                config_where=bundle.config_file or f"{_OPTIONS[bundle.manifest.kind]} {bundle.manifest.id}:CONFIG.toml",
                capabilities=tuple(bundle.manifest.capabilities),
                path=(bundle.folder, *self._path) if bundle.folder else self._path,
                kind=bundle.manifest.kind,
                system_dns=system_dns,
                home=bundle.home,
            )
        )

    def _hear(self) -> None:
        spawned = self._zygote.receive()
        if spawned is None:
            self._loop.forget(self._zygote.fileno())
            self._tell_all()
            return
        if spawned.number in self._expected:
            self._expected.pop(spawned.number).made(spawned)

    def _tell_all(self) -> None:
        """Nobody makes workers any more: whoever waits for one is told so."""
        fault = HostFault("make a worker", errno.EPIPE, "the process that workers come from was killed")
        expected, self._expected = self._expected, {}
        for number, link in expected.items():
            link.made(Spawned(number, 0, None, fault))
