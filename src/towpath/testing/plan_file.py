"""Plans in TOML files; the format is told in docs/guides/lab.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Any, TypeVar, get_args

from towpath.errors import ConfigInvalid
from towpath.testing.plan import (
    INTERNET,
    Banner,
    Certificate,
    Command,
    Dns,
    Host,
    Http,
    Https,
    LabPlan,
    NameRecord,
    RecordType,
    Router,
    Service,
    Switch,
    TcpEcho,
    UdpEcho,
)

__all__ = ["parse_plan", "read_plan"]

_SERVICES: dict[str, type[Service]] = {
    service.kind: service for service in (Http, Https, TcpEcho, UdpEcho, Banner, Dns, Command)
}
_RECORD_TYPES: dict[str, RecordType] = {kind: kind for kind in get_args(RecordType)}
_POSITION = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)")

T = TypeVar("T")


def read_plan(path: Path) -> LabPlan:
    """Reads a plan. Raises `ConfigInvalid` naming the file, and the line or the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigInvalid(str(path), str(error.strerror).lower()) from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid(str(path), f"no UTF-8 at byte {error.start}") from None
    return parse_plan(text, str(path), path.stem)


def parse_plan(text: str, where: str, name: str = "lab") -> LabPlan:
    """The plan that `text` describes; `where` names the text in errors, `name` the Lab where the text does not."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _POSITION.fullmatch(str(error))
        if found is None:
            raise ConfigInvalid(where, str(error)) from None
        reason, line, column = found.groups()
        place = f"{line}:{column}" if line else str(text.count("\n") + 1)
        raise ConfigInvalid(f"{where}:{place}", reason[0].lower() + reason[1:]) from None
    top = _Table(where, "", document)
    plan = LabPlan(
        name=top.text("name", name),
        hosts=tuple(_host(table) for table in top.named_tables("hosts")),
        routers=tuple(_router(table) for table in top.named_tables("routers")),
        switches=tuple(_switch(table) for table in top.named_tables("switches")),
        records=tuple(_record(table) for table in top.tables("names")),
        ipv4=top.value("ipv4", IPv4Network) or LabPlan().ipv4,
        ipv6=top.value("ipv6", IPv6Network) or LabPlan().ipv6,
    )
    top.finish()
    return plan


class _Table:
    """A TOML table whose keys are taken out one by one, so that what is left over is a mistake."""

    def __init__(self, where: str, path: str, entries: object, name: str = "") -> None:
        self._where = where
        self._path = path
        self.name = name
        if not isinstance(entries, dict):
            raise ConfigInvalid(where, f"{path} must be a table")
        self._entries: dict[str, Any] = dict(entries)
        self._known: list[str] = []

    def wrong(self, key: str, reason: str) -> ConfigInvalid:
        return ConfigInvalid(self._where, f"{self._key(key)} {reason}")

    def _key(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key

    def take(self, key: str) -> Any:
        self._known.append(key)
        return self._entries.pop(key, None)

    def typed(self, key: str, kind: type[T], default: T, called: str) -> T:
        found = self.take(key)
        if found is None:
            return default
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
            raise self.wrong(key, f"must be {called}, not {found!r}")
        return found

    def text(self, key: str, default: str = "") -> str:
        return self.typed(key, str, default, "a string")

    def number(self, key: str, default: int) -> int:
        return self.typed(key, int, default, "a whole number")

    def real(self, key: str) -> float | None:
        found = self.take(key)
        if found is not None and (isinstance(found, bool) or not isinstance(found, int | float) or found < 0):
            raise self.wrong(key, f"must be a number, not {found!r}")
        return None if found is None else float(found)

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.typed(key, list, [], "a list of strings")
        if not all(isinstance(word, str) for word in found):
            raise self.wrong(key, "must be a list of strings")
        return tuple(found)

    def value(self, key: str, make: Callable[[str], T]) -> T | None:
        found = self.text(key)
        if not found:
            return None
        try:
            return make(found)
        except ValueError as error:
            raise self.wrong(key, f"is wrong: {error}") from None

    def named_tables(self, key: str) -> list[_Table]:
        found = self.typed(key, dict, {}, "a table of tables")
        return [_Table(self._where, f"{self._key(key)}.{name}", entries, name) for name, entries in found.items()]

    def tables(self, key: str) -> list[_Table]:
        found = self.typed(key, list, [], "a list of tables")
        return [_Table(self._where, f"{self._key(key)}[{number}]", entries) for number, entries in enumerate(found)]

    def finish(self) -> None:
        for key in self._entries:
            raise ConfigInvalid(
                self._where, f"{self._key(key)} is not known", f"what may stand there: {', '.join(self._known)}"
            )


def _host(table: _Table) -> Host:
    on = table.take("on")
    if isinstance(on, str):
        on = [on]
    if on is not None and not (isinstance(on, list) and all(isinstance(word, str) for word in on)):
        raise table.wrong("on", "must be the name of a router or switch, or a list of such")
    host = Host(
        name=table.name,
        on=(INTERNET,) if on is None else tuple(on),
        names=_names(table),
        serves=tuple(_service(entry) for entry in table.tables("serves")),
        ipv4=table.value("ipv4", IPv4Address),
        ipv6=table.value("ipv6", IPv6Address),
        delay=table.real("delay"),
        rate=table.text("rate") or None,
        loss=table.real("loss") or 0.0,
    )
    table.finish()
    return host


def _names(table: _Table) -> tuple[str, ...]:
    return tuple(name.rstrip(".").lower() for name in table.texts("names"))


def _service(table: _Table) -> Service:
    kind = table.text("kind")
    found = _SERVICES.get(kind)
    if found is None:
        raise table.wrong("kind", f"must be one of {', '.join(_SERVICES)}, not {kind!r}")
    fields: dict[str, Any] = {"names": _names(table)}
    if port := table.number("port", 0):
        fields["port"] = port
    if issubclass(found, Http):
        fields["bytes_per_second"] = table.number("bytes_per_second", 0) or None
        fields["folder"] = table.text("folder", "") or None
    if issubclass(found, Https):
        fields["certificate"] = table.text("certificate", "good")
        if fields["certificate"] not in get_args(Certificate):
            raise table.wrong("certificate", f"must be one of {', '.join(get_args(Certificate))}")
    if issubclass(found, Banner) and (line := table.text("line")):
        fields["line"] = line
    if issubclass(found, Command):
        fields["command"] = table.texts("command")
        if not fields["command"]:
            raise table.wrong("command", "must be a list of at least one string")
    try:
        service = found(**fields)
    except ConfigInvalid as error:
        raise table.wrong("port", f"is wrong: {error.reason}") from None
    table.finish()
    return service


def _router(table: _Table) -> Router:
    router = Router(
        name=table.name,
        on=table.text("on", INTERNET),
        ipv4=table.value("ipv4", IPv4Network),
        ipv6=table.value("ipv6", IPv6Network),
    )
    table.finish()
    return router


def _switch(table: _Table) -> Switch:
    switch = Switch(
        name=table.name,
        on=table.text("on", INTERNET),
        ipv4=table.value("ipv4", IPv4Network),
        ipv6=table.value("ipv6", IPv6Network),
    )
    table.finish()
    return switch


def _record(table: _Table) -> NameRecord:
    kind = _RECORD_TYPES.get(table.text("type"))
    if kind is None:
        raise table.wrong("type", f"must be one of {', '.join(_RECORD_TYPES)}")
    record = NameRecord(
        name=table.text("name").rstrip(".").lower(),
        type=kind,
        value=table.text("value"),
        ttl=table.number("ttl", 60),
    )
    table.finish()
    return record
