"""What interfaces cost, as their owner says: Linux knows no "expensive" and no "low data mode" by itself.

NetworkManager knows which of its devices are metered (`org.freedesktop.NetworkManager.Device`), and that is what is
expensive unless the file says otherwise. The file, `paths.toml`::

    [types.cellular]
    expensive = true

    [interfaces.usb0]           # wins over its type
    expensive = true
    constrained = true          # use as little data as possible
    management = true           # for running the machine, not for its users: no path leads over it
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Literal

from towpath.errors import ConfigInvalid
from towpath.kernel.network import Metered
from towpath.path.interface import Interface
from towpath.path.medium import InterfaceType

__all__ = ["Mark", "MarkName", "PathPolicy"]

MarkName = Literal["expensive", "constrained", "management"]
_NAMES: tuple[MarkName, ...] = ("expensive", "constrained", "management")
_SYSTEM = FilePath("/etc/towpath/paths.toml")


@dataclass(frozen=True, slots=True)
class Mark:
    """Yes or no, and why; true in a condition when it is yes.

    >>> bool(Mark(False, "no policy file"))
    False
    """

    value: bool
    reason: str

    def __bool__(self) -> bool:
        return self.value


@dataclass(frozen=True, slots=True)
class PathPolicy:
    """The marks that a user gives to interfaces by name and by type, which overrule what NetworkManager says.

    Where nobody says anything, everything is free.

    >>> PathPolicy.parse('[types.cellular]\\nexpensive = true', "paths.toml").source
    'paths.toml'
    """

    source: str = ""
    interfaces: Mapping[str, Mapping[MarkName, bool]] = field(default_factory=dict)
    types: Mapping[str, Mapping[MarkName, bool]] = field(default_factory=dict)

    @classmethod
    def default(cls) -> PathPolicy:
        """The policy of ``$XDG_CONFIG_HOME/towpath/paths.toml``, else of ``/etc/towpath/paths.toml``, else none.

        Raises `ConfigInvalid`.
        """
        home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        for path in (FilePath(home) / "towpath" / "paths.toml", _SYSTEM):
            if path.is_file():
                return cls.load(path)
        return cls()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PathPolicy:
        """The policy in a file. Raises `ConfigInvalid`."""
        try:
            text = FilePath(path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ConfigInvalid(os.fspath(path), "not UTF-8 text") from None
        except OSError as error:
            raise ConfigInvalid(os.fspath(path), str(error.strerror)) from None
        return cls.parse(text, os.fspath(path))

    @classmethod
    def parse(cls, text: str, where: str) -> PathPolicy:
        """The policy in a text that comes from `where`. Raises `ConfigInvalid`."""
        try:
            found = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigInvalid(where, str(error)) from None
        for name in found.keys() - {"interfaces", "types"}:
            raise ConfigInvalid(where, f"no such table: {name}", "there are [interfaces.NAME] and [types.TYPE]")
        types = _marks(found.get("types", {}), f"{where}: types")
        for name in types.keys() - set(InterfaceType):
            raise ConfigInvalid(where, f"no such type: {name}", f"there are {', '.join(InterfaceType)}")
        return cls(where, _marks(found.get("interfaces", {}), f"{where}: interfaces"), types)

    def mark(self, interface: Interface, name: MarkName) -> Mark:
        """Whether `interface` has the mark "expensive", "constrained" or "management", and who says so."""
        for table, key in ((self.interfaces, interface.name), (self.types, interface.type.value)):
            value = table.get(key, {}).get(name)
            if value is not None:
                return Mark(value, f"{self.source} says so of {key}")
        if name == "expensive" and interface.metered is not None:
            return _METERED[interface.metered]
        return Mark(False, f"{self.source} does not say" if self.source else "there is no policy file")


_METERED = {
    Metered.YES: Mark(True, "NetworkManager says it is metered"),
    Metered.NO: Mark(False, "NetworkManager says it is not metered"),
    Metered.GUESSED_YES: Mark(True, "NetworkManager guesses that it is metered"),
    Metered.GUESSED_NO: Mark(False, "NetworkManager guesses that it is not metered"),
}


def _marks(found: object, where: str) -> dict[str, dict[MarkName, bool]]:
    if not isinstance(found, dict):
        raise ConfigInvalid(where, "must be a table of tables")
    for key, marks in found.items():
        if not isinstance(marks, dict):
            raise ConfigInvalid(f"{where}.{key}", "must be a table")
        for name, value in marks.items():
            if name not in _NAMES:
                raise ConfigInvalid(f"{where}.{key}", f"no such mark: {name}", f"there are {', '.join(_NAMES)}")
            if not isinstance(value, bool):
                raise ConfigInvalid(f"{where}.{key}", f"{name} must be true or false")
    return found
