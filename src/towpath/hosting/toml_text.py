"""TOML that a user wrote, with the places of its keys, and values made of it or an error that points at the key."""

from __future__ import annotations

import re
import tomllib
from typing import Any, TypeVar

import msgspec

from towpath.errors import ConfigInvalid
from towpath.policy.locate import Locator

__all__ = ["MOST_TEXT", "TomlText", "fault_of", "read_text"]

MOST_TEXT = 1 << 20
"""The most bytes of a file that is read for a manifest or a config."""

Path = tuple[str | int, ...]
T = TypeVar("T")

_POSITION = re.compile(r"(.*) \(at line (\d+), column (\d+)\)")
_FAULT = re.compile(r"(.*) - at `(?:key in )?\$?(.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def read_text(path: str) -> str:
    """A file of the user's as text with plain line ends. Raises `ConfigInvalid`."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_TEXT + 1)
    except (OSError, ValueError) as error:
        raise ConfigInvalid(path, f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_TEXT:
        raise ConfigInvalid(path, f"is longer than {MOST_TEXT >> 20} MB")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigInvalid(path, f"byte {error.start + 1} is not UTF-8", "save the file as UTF-8") from None


class TomlText:
    """A text that was parsed. `where` names the file, `line` the line of the file before its first."""

    def __init__(self, text: str, where: str, line: int = 0) -> None:
        self._text = text
        self._where = where
        self._line = line
        try:
            self.document: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = _POSITION.fullmatch(str(error))
            reason = found[1] if found else str(error).partition(" (at ")[0]
            at = int(found[2]) if found else text.count("\n") + 1
            raise ConfigInvalid(f"{where}:{at + line}", f"this is not TOML: {reason}") from None
        except RecursionError:
            raise ConfigInvalid(where, "this TOML is nested too deeply") from None

    def at(self, path: Path) -> str:
        """``FILE:LINE`` of a key, or of what holds it."""
        return f"{self._where}:{Locator(self._text).position(path)[0] + self._line}"

    def convert(self, value: Any, path: Path, to: type[T]) -> T:
        """`value`, which stands at `path`, as a `to`; unknown keys and wrong values raise `ConfigInvalid`."""
        try:
            return msgspec.convert(value, to)
        except msgspec.ValidationError as error:
            reason, inner = fault_of(error)
            raise ConfigInvalid(self.at(path + inner), f"{dotted(inner)}{reason}") from None


def fault_of(error: msgspec.ValidationError) -> tuple[str, Path]:
    """What is wrong and the path of the key, from the words of msgspec.

    >>> fault_of(msgspec.ValidationError("Expected `int`, got `str` - at `$.a[1].b`"))
    ('expected an integer, not a string', ('a', 1, 'b'))
    """
    found = _FAULT.fullmatch(str(error))
    words, place = (found[1], found[2]) if found else (str(error), "")
    path: Path = tuple(name or int(index) for name, index in _STEP.findall(place))
    expected = re.fullmatch(r"Expected `(\w+)`, got `(\w+)`", words)
    if expected:
        words = f"expected {_TYPES.get(expected[1], expected[1])}, not {_TYPES.get(expected[2], expected[2])}"
    return words, path


def dotted(path: Path) -> str:
    """`a[1].b: `, or nothing for the whole."""
    words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")
    return f"{words}: " if words else ""


_TYPES = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "null": "nothing",
    "object": "a table",
    "str": "a string",
}
