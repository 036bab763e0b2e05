"""Policy files: TOML with `allow` and `deny` lists at the top and in `[[rule]]` tables, each a place of its own."""

from __future__ import annotations

import os
import tomllib
from typing import Any

from towpath.errors import ConfigInvalid
from towpath.policy.locate import Locator
from towpath.policy.policy import Place
from towpath.policy.profile import PREFIX, path_of
from towpath.policy.program import By
from towpath.policy.rule import Rule, parse_rule

__all__ = ["load_file"]

_Path = tuple[str | int, ...]
_TYPES = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "a table"}


_MOST_NESTED = 8


def load_file(path: str, above: tuple[str, ...] = ()) -> list[Place]:
    """The places of one file: what stands at its top, then each `[[rule]]` table, then the files that it includes.

    An included path is relative to the file; `above` are the files that include this one.

    Raises `ConfigInvalid` whose `where` is ``FILE:LINE:COLUMN`` (``FILE`` when it cannot be read).

        allow = ["good.test:443"]

        [[rule]]
        comment = "news, but not their trackers"
        deny = ["*.ads.test"]
        allow = ["*.news.test"]

        [[rule]]
        program = "/usr/bin/git"   # or parent = "npm", command = "pip install *": narrows the rules of this table
        allow = ["git.test:22"]

    With ``include = ["base.toml"]`` the rules of another file follow, so that its own are asked first. A path
    ``profile:NAME`` is a policy that is shipped (`towpath.policy.profile`).
    """
    try:
        with open(path_of(path) if path.startswith(PREFIX) else path, "rb") as file:
            text = file.read().decode("utf-8")
    except OSError as error:
        raise ConfigInvalid(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigInvalid(path, f"byte {error.start + 1} is not UTF-8", "save the file as UTF-8") from error
    return _File(path, text, above).places()


class _File:
    __slots__ = ("_above", "_locator", "_path", "_text")

    def __init__(self, path: str, text: str, above: tuple[str, ...]) -> None:
        self._path = path
        self._above = above
        self._text = text.replace("\r\n", "\n")
        self._locator: Locator | None = None

    def places(self) -> list[Place]:
        try:
            tree = tomllib.loads(self._text)
        except tomllib.TOMLDecodeError as error:
            reason, _, position = str(error).partition(" (at ")
            raise ConfigInvalid(self._position(position), f"this is not TOML: {reason}") from error
        self._keys(tree, (), ("allow", "deny", "rule", "include", "description"))
        if not isinstance(tree.get("description", ""), str):
            raise self._fault(("description",), f"description is a string, not {_kind(tree['description'])}")
        places = []
        if "allow" in tree or "deny" in tree:
            allow, deny = self._rules(tree, "allow", ()), self._rules(tree, "deny", ())
            places.append(Place(allow, deny, self._path, "allow" in tree))
        tables = tree.get("rule", [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self._fault(("rule",), "rule is a list of tables", "begin each with [[rule]]")
        for at, table in enumerate(tables):
            here: _Path = ("rule", at)
            self._keys(table, here, ("allow", "deny", "comment", "program", "parent", "command"))
            if "allow" not in table and "deny" not in table:
                raise self._fault(here, "this rule table has neither allow nor deny", 'allow = ["example.test:443"]')
            if not isinstance(table.get("comment", ""), str):
                raise self._fault((*here, "comment"), f"comment is a string, not {_kind(table['comment'])}")
            by = self._by(table, here)
            allow, deny = self._rules(table, "allow", here, by), self._rules(table, "deny", here, by)
            places.append(Place(allow, deny, self._where(here), "allow" in table))
        places += self._included(tree)
        if not places:
            raise ConfigInvalid(self._path, "there is no rule in it", "allow = [] refuses everything")
        return places

    def _included(self, tree: dict[str, Any]) -> list[Place]:
        paths = tree.get("include", [])
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise self._fault(("include",), "include is a list of paths", 'include = ["base.toml"]')
        places = []
        for at, path in enumerate(paths):
            whole = path if path.startswith(PREFIX) else os.path.join(os.path.dirname(self._path), path)
            above = (*self._above, _identity(self._path))
            if _identity(whole) in above:
                raise self._fault(("include", at), f"{path} includes this file, which includes it")
            if len(above) > _MOST_NESTED:
                raise self._fault(("include", at), f"more than {_MOST_NESTED} files include each other in a row")
            try:
                places += load_file(whole, above)
            except ConfigInvalid as error:
                if error.where in (whole, "--profile"):
                    raise self._fault(("include", at), f"{path} {error.reason}", error.hint) from error
                raise
        return places

    def _keys(self, table: dict[str, Any], here: _Path, known: tuple[str, ...]) -> None:
        for key in table:
            if key not in known:
                raise self._fault((*here, key), f"unknown key {key!r}", f"known here: {', '.join(known)}")

    def _by(self, table: dict[str, Any], here: _Path) -> By | None:
        """What narrows all rules of a table to programs."""
        words = {key: table.get(key, "") for key in ("program", "parent", "command")}
        for key, word in words.items():
            if key in table and (not isinstance(word, str) or not word):
                raise self._fault((*here, key), f"{key} is a string that is not empty", f'{key} = "git"')
            if key != "command" and " " in word:
                raise self._fault(
                    (*here, key), f"{key} is a name or a path, without spaces", 'command = "pip install *"'
                )
        by = By(**words)
        return by if any(by) else None

    def _rules(self, table: dict[str, Any], action: str, here: _Path, by: By | None = None) -> tuple[Rule, ...]:
        texts = table.get(action, [])
        here = (*here, action)
        if not isinstance(texts, list):
            hint = f'{action} = ["{texts}"]' if isinstance(texts, str) else f'{action} = ["example.test:443"]'
            raise self._fault(here, f"{action} is a list of rules, not {_kind(texts)}", hint)
        rules = []
        for at, text in enumerate(texts):
            if not isinstance(text, str):
                raise self._fault((*here, at), f"a rule is a string, not {_kind(text)}", '"example.test:443"')
            rule = parse_rule(text, action, self._where((*here, at)))
            if by is not None:
                if rule.by is not None:
                    raise self._fault((*here, at), f"{text!r} names a program, and its table does so for all its rules")
                rule = rule._replace(text=f"{text} {by.text}", by=by)
            rules.append(rule)
        return tuple(rules)

    def _fault(self, path: _Path, reason: str, hint: str | None = None) -> ConfigInvalid:
        return ConfigInvalid(self._where(path), reason, hint)

    def _where(self, path: _Path) -> str:
        if self._locator is None:
            self._locator = Locator(self._text)
        line, column = self._locator.position(path)
        return f"{self._path}:{line}:{column}"

    def _position(self, words: str) -> str:
        """FILE:LINE:COLUMN of what tomllib writes: "line 3, column 9)" or "end of document)"."""
        numbers = [word.strip("),") for word in words.split() if word.strip("),").isdigit()]
        if len(numbers) != 2:
            lines = self._text.split("\n")
            numbers = [str(len(lines)), str(len(lines[-1]) + 1)]
        return ":".join((self._path, *numbers))


def _identity(path: str) -> str:
    return path if path.startswith(PREFIX) else os.path.realpath(path)


def _kind(value: object) -> str:
    return _TYPES.get(type(value), "a date or time")
