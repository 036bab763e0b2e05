"""The manifest of an extension: `[tool.towpath.extension]` in a pyproject.toml or in the metadata of a script.

    # /// script
    # [tool.towpath.extension]
    # id = "no-ads"
    # version = "1.0"
    # kind = "content-filter"
    # capabilities = ["content-filter-provider", "prompt"]
    # ///

The vocabulary of capabilities is that of Apple's `com.apple.developer.networking.networkextension` entitlement, with
three of our own: a filter may besides `prompt` (ask the person) and `output` (append to files that its config names), a
tunnel `listen` (be a server).
"""

from __future__ import annotations

import re
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from msgspec import Struct

from towpath.errors import ConfigInvalid
from towpath.hosting.toml_text import Path, TomlText

__all__ = ["Capability", "Inline", "Kind", "Manifest", "default_manifest", "inline_metadata", "read_manifest"]

Kind: TypeAlias = Literal["content-filter", "dns-proxy", "packet-tunnel"]
Capability: TypeAlias = Literal[
    "content-filter-provider", "dns-proxy", "packet-tunnel-provider", "prompt", "output", "listen", "kernel-wireguard"
]

_PROVIDERS: dict[str, Capability] = {
    "content-filter": "content-filter-provider",
    "dns-proxy": "dns-proxy",
    "packet-tunnel": "packet-tunnel-provider",
}
_TABLE: Path = ("tool", "towpath", "extension")
_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_CLASS = re.compile(r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*:)?[^\W\d]\w*")
_MEMORY = (32, 65536)


class Manifest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"class_name": "class"}):
    """What an extension says of itself. `memory` is the most that its process may use, in MB, 32 to 65536.

    `class_name` (`class` in TOML) is `Class` or, in a folder, `module:Class`; without it the module has only one.
    """

    id: str
    version: str = "0"
    kind: Kind = "content-filter"
    capabilities: tuple[Capability, ...] = ("content-filter-provider",)
    class_name: str | None = None
    memory: int = 256


class Inline(NamedTuple):
    """The metadata block of a script: its TOML and the line of the file that comes before its first."""

    text: str
    line: int


def default_manifest(name: str, version: str = "0", kind: Kind = "content-filter") -> Manifest:
    """The manifest of a module that has none: its name as the id, and a provider that may do nothing else."""
    id = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:64].strip("-") or "filter"
    return Manifest(id=id, version=version, kind=kind, capabilities=(_PROVIDERS[kind],))


def inline_metadata(source: str, where: str) -> Inline | None:
    """The `script` block of a Python source, or `None` where it has none (PEP 723).

    Raises `ConfigInvalid` for a second block, and for one that never ends, which the PEP ignores: then the manifest
    would be ignored as well, and nobody would be told.
    """
    found: Inline | None = None
    lines = source.split("\n")
    at = 0
    while at < len(lines):
        if lines[at].rstrip() != "# /// script":
            at += 1
            continue
        start = at
        end = 0
        at += 1
        while at < len(lines) and (lines[at].rstrip() == "#" or lines[at].startswith("# ")):
            if lines[at].rstrip() == "# ///":
                # The last such line of the comment ends the block: TOML may hold one in a text of several lines.
                end = at
            elif end and lines[at].rstrip() == "# /// script":
                break
            at += 1
        if not end:
            raise ConfigInvalid(f"{where}:{start + 1}", "this metadata block never ends", "close it by a line '# ///'")
        if found:
            raise ConfigInvalid(f"{where}:{start + 1}", "a second script metadata block", "one is the most (PEP 723)")
        found = Inline("\n".join(line[2:] for line in lines[start + 1 : end]), start + 1)
    return found


def read_manifest(text: TomlText) -> Manifest | None:
    """The manifest in a TOML text, or `None` where it has no `[tool.towpath.extension]`. Raises `ConfigInvalid`."""
    table: Any = text.document
    for at, key in enumerate(_TABLE):
        if key not in table:
            return None
        table = table[key]
        if not isinstance(table, dict):
            raise ConfigInvalid(text.at(_TABLE[: at + 1]), f"{key} is a table", "[tool.towpath.extension]")
    _Reader(text, table).check()
    claimed = [_PROVIDERS[table.get("kind", "content-filter")]]
    return text.convert({"capabilities": claimed, **table}, _TABLE, Manifest)


class _Reader:
    """Checks what msgspec would refuse in fewer words than a person needs."""

    def __init__(self, text: TomlText, table: dict[str, Any]) -> None:
        self._text = text
        self._table = table

    def check(self) -> None:
        known = ("id", "version", "kind", "capabilities", "class", "memory")
        for key in self._table:
            if key not in known:
                import difflib

                close = difflib.get_close_matches(key, known, 1)
                hint = f"is it {close[0]}?" if close else f"known here: {', '.join(known)}"
                raise self._fault((key,), f"unknown key {key!r}", hint)
        if "id" not in self._table:
            raise self._fault((), "there is no id", 'id = "my-filter"')
        self._matches("id", _ID, "small letters, digits, '.', '_' and '-', at most 64")
        self._matches("version", re.compile(r"[!-~]{1,64}"), 'for example version = "1.0"')
        self._matches("class", _CLASS, '"MyFilter", or "module:MyFilter" in a folder')
        kind = self._table.get("kind", "content-filter")
        self._one_of(("kind",), kind, get_args(Kind))
        self._table.setdefault("capabilities", [_PROVIDERS[kind]])
        claimed = self._table.get("capabilities", [_PROVIDERS[kind]])
        if not isinstance(claimed, list):
            raise self._fault(("capabilities",), "capabilities is a list", f'["{_PROVIDERS[kind]}"]')
        for at, capability in enumerate(claimed):
            self._one_of(("capabilities", at), capability, get_args(Capability))
        if _PROVIDERS[kind] not in claimed:
            hint = f'add "{_PROVIDERS[kind]}" to capabilities'
            raise self._fault(("capabilities",), f"a {kind} needs the capability {_PROVIDERS[kind]}", hint)
        memory = self._table.get("memory", 256)
        if type(memory) is not int or not _MEMORY[0] <= memory <= _MEMORY[1]:
            raise self._fault(("memory",), f"memory is a number of MB, not {memory!r}", f"{_MEMORY[0]} to {_MEMORY[1]}")

    def _matches(self, key: str, pattern: re.Pattern[str], hint: str) -> None:
        value = self._table.get(key)
        if key in self._table and not (isinstance(value, str) and pattern.fullmatch(value)):
            raise self._fault((key,), f"{key} cannot be {value!r}", hint)

    def _one_of(self, path: Path, value: object, known: tuple[str, ...]) -> None:
        if not isinstance(value, str) or value not in known:
            raise self._fault(path, f"{path[0]}: {value!r} is not known", f"one of {', '.join(known)}")

    def _fault(self, path: Path, reason: str, hint: str) -> ConfigInvalid:
        return ConfigInvalid(self._text.at(_TABLE + path), reason, hint)
