"""How this system resolves: resolv.conf(5) and hosts(5), read again when they change."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from towpath.names.client import QuerySettings, Server
from towpath.wire.address import pack, unpack

__all__ = ["HostsFile", "ResolverConfiguration", "SystemFiles", "parse_hosts", "parse_resolver_configuration"]

T = TypeVar("T")

_MAX_SERVERS = 3
_MAX_SEARCH = 32
_MAX_OCTETS = 16 << 20
_LIMITS = {"ndots": 15, "timeout": 30, "attempts": 5}


@dataclass(frozen=True, slots=True)
class ResolverConfiguration:
    """What resolv.conf says. `ndots`: a name with fewer dots is tried in the `search` domains first."""

    servers: tuple[Server, ...] = (Server("127.0.0.1"),)
    search: tuple[str, ...] = ()
    ndots: int = 1
    rotate: bool = False
    query: QuerySettings = QuerySettings()


@dataclass(frozen=True, slots=True)
class HostsFile:
    """What the hosts file says: names, also aliases, in lower case without a final dot, to addresses."""

    addresses: dict[str, tuple[str, ...]]


def parse_resolver_configuration(text: str) -> ResolverConfiguration:
    """Reads resolv.conf as the C library does: what it does not understand is passed over; the last search list wins.

    EDNS is on whether or not the file asks for it; ``options no-edns0`` switches it off.

    >>> parse_resolver_configuration("nameserver 192.0.2.53\\nsearch corp.test\\noptions ndots:2").search
    ('corp.test',)
    """
    servers: list[Server] = []
    search: tuple[str, ...] = ()
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    flags: set[str] = set()
    for line in text.splitlines():
        if line.startswith(("#", ";")):
            continue
        word, *values = line.split() or [""]
        if word == "nameserver" and values and len(servers) < _MAX_SERVERS:
            address = _address(values[0])
            if address is not None:
                servers.append(Server(address))
        elif word == "domain" and values:
            search = _domains(values[:1])
        elif word == "search":
            search = _domains(values)
        elif word == "options":
            for option in values:
                key, colon, number = option.partition(":")
                if not colon:
                    flags.add(option)
                elif key in numbers and number.isascii() and number.isdigit() and len(number) < 6:
                    numbers[key] = min(int(number), _LIMITS[key])
    settings = QuerySettings(
        timeout=float(max(1, numbers["timeout"])),
        attempts=max(1, numbers["attempts"]),
        edns="no-edns0" not in flags,
        trust_ad="trust-ad" in flags,
    )
    found = tuple(servers) or ResolverConfiguration().servers
    return ResolverConfiguration(found, search, numbers["ndots"], "rotate" in flags, settings)


def parse_hosts(text: str) -> HostsFile:
    """Reads a hosts file; lines that are not an address and names are passed over.

    >>> parse_hosts("192.0.2.7 www.example.test www  # ours").addresses["www"]
    ('192.0.2.7',)
    """
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        normal = _address(address)
        if normal is None:
            continue
        for name in names:
            known = found.setdefault(name.lower().removesuffix("."), [])
            if normal not in known:
                known.append(normal)
    return HostsFile({name: tuple(addresses) for name, addresses in found.items()})


def _domains(words: list[str]) -> tuple[str, ...]:
    return tuple(word.lower().strip(".") for word in words[:_MAX_SEARCH] if word.strip("."))


def _address(text: str) -> str | None:
    """The one text of an address, with its zone; `None` for what is not one."""
    plain, percent, zone = text.partition("%")
    packed = pack(plain)
    if packed is None or (percent and (not zone or len(packed) != 16)):
        return None
    return unpack(packed) + percent + zone


class _Watched(Generic[T]):
    """A file's meaning, read again when the file is another one than before."""

    def __init__(self, path: Path, read: Callable[[str], T]) -> None:
        self._path = path
        self._read = read
        self._seen: tuple[int, int, int] | None = None
        self._value = read("")

    def current(self) -> T:
        try:
            status = os.stat(self._path)
            seen = status.st_mtime_ns, status.st_size, status.st_ino
            if seen != self._seen:
                with open(self._path, encoding="utf-8", errors="replace") as file:
                    self._value = self._read(file.read(_MAX_OCTETS))
                self._seen = seen
        except OSError:
            # A file that is not there says nothing, as the C library has it.
            self._seen, self._value = None, self._read("")
        return self._value


class SystemFiles:
    """The two files, as they are now. A missing file is an empty one."""

    def __init__(
        self, resolver: str | os.PathLike[str] = "/etc/resolv.conf", hosts: str | os.PathLike[str] = "/etc/hosts"
    ) -> None:
        self._resolver = _Watched(Path(resolver), parse_resolver_configuration)
        self._hosts = _Watched(Path(hosts), parse_hosts)

    @property
    def configuration(self) -> ResolverConfiguration:
        return self._resolver.current()

    @property
    def hosts(self) -> HostsFile:
        return self._hosts.current()
