"""Where in a TOML text each key and each array element stands, for messages that point at it."""

from __future__ import annotations

__all__ = ["Locator"]

_Path = tuple[str | int, ...]


class Locator:
    """Walks a text that `tomllib` has accepted, so that it only has to follow the structure, never to judge it.

    >>> Locator('allow = ["a.test", "b.test"]').position(("allow", 1))
    (1, 20)
    """

    __slots__ = ("_at", "_found", "_tables", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._found: dict[_Path, int] = {}
        self._tables: dict[_Path, int] = {}
        self._document()

    def position(self, path: _Path) -> tuple[int, int]:
        """Line and column from 1 of a key, an array element or a table; of what holds it where it has none."""
        while path and path not in self._found:
            path = path[:-1]
        at = self._found.get(path, 0)
        return self._text.count("\n", 0, at) + 1, at - self._text.rfind("\n", 0, at)

    def _document(self) -> None:
        table: _Path = ()
        while self._blank():
            start = self._at
            if self._text.startswith("[[", start):
                self._at += 2
                name = self._key((), start)
                self._tables[name] = self._tables.get(name, -1) + 1
                table = (*name, self._tables[name])
                self._found.setdefault(table, start)
                self._at = self._text.index("]]", self._at) + 2
            elif self._text[start] == "[":
                self._at += 1
                table = self._key((), start)
                self._at = self._text.index("]", self._at) + 1
            else:
                self._pair(table)

    def _blank(self) -> bool:
        """Skips white space, commas and comments; false at the end."""
        text = self._text
        while self._at < len(text):
            if text[self._at] == "#":
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            elif text[self._at] in " \t\n,":
                self._at += 1
            else:
                return True
        return False

    def _pair(self, table: _Path) -> None:
        path = self._key(table, self._at)
        self._at = self._text.index("=", self._at) + 1
        self._blank()
        self._value(path)

    def _key(self, table: _Path, start: int) -> _Path:
        """The path of a key with its dots; each part of it is found where the key begins."""
        path = table
        while True:
            self._blank()
            if self._text[self._at] in "\"'":
                opening = self._at
                self._string()
                path = (*path, self._text[opening + 1 : self._at - 1])
            else:
                opening = self._at
                while self._text[self._at] not in " \t.=]":
                    self._at += 1
                path = (*path, self._text[opening : self._at])
            self._found.setdefault(path, start)
            self._blank()
            if self._text[self._at] != ".":
                return path
            self._at += 1

    def _value(self, path: _Path) -> None:
        letter = self._text[self._at]
        if letter == "[":
            self._at += 1
            count = 0
            while self._blank() and self._text[self._at] != "]":
                self._found.setdefault((*path, count), self._at)
                self._value((*path, count))
                count += 1
            self._at += 1
        elif letter == "{":
            self._at += 1
            while self._blank() and self._text[self._at] != "}":
                self._pair(path)
            self._at += 1
        elif letter in "\"'":
            self._string()
        else:
            while self._at < len(self._text) and self._text[self._at] not in ",]}\n#":
                self._at += 1

    def _string(self) -> None:
        quote = self._text[self._at]
        if self._text.startswith(quote * 3, self._at):
            self._at = self._end_of(quote * 3, self._at + 3)
            # Up to two more quotes may belong to the text itself.
            while self._text.startswith(quote, self._at):
                self._at += 1
        else:
            self._at = self._end_of(quote, self._at + 1)

    def _end_of(self, quote: str, at: int) -> int:
        while True:
            end = self._text.index(quote, at)
            if quote[0] == '"':
                escape = self._text.find("\\", at, end)
                if escape >= 0:
                    at = escape + 2
                    continue
            return end + len(quote)
