"""Lists of a million names: read in a second or two, a few bytes each, looked up once for each label of a name.

A name is kept as 56 bits of its hash, which is keyed anew in each process, and 8 bits that say which list it is from: 8
bytes in a sorted array. That two names share a hash happens once in 10^10 questions to a list of a million.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

__all__ = ["MOST_LISTS", "BlockList"]

MOST_LISTS = 256
_LOW = 0xFF
_REST = 0xFFFFFFFFFFFFFF00
_PLAIN = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_WORD = re.compile(r"(?:\*\.)?[^\s|/*^$!#\[\]:@,()]+")
_ADBLOCK = re.compile(r"(@@)?\|\|?(\*\.)?([^\s|/*^$:]+)\^?(\$.*)?")
_KNOWN_OPTIONS = frozenset(("$important", "$all", "$document", "$doc", "$popup", "$third-party", "$3p"))
_LOCAL = frozenset(
    ("localhost", "localhost.localdomain", "local", "broadcasthost", "ip6-localhost", "ip6-loopback", "0.0.0.0")
)


class BlockList:
    """Names that are blocked, and those that are allowed all the same.

    >>> names = BlockList.of("mine", ["ads.example"])
    >>> names.find("banner.ads.example"), names.find("ads.example.org")
    ('mine', None)
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._exact, self._below = array("Q"), array("Q")
        self._allowed_exact, self._allowed_below = array("Q"), array("Q")

    @classmethod
    def of(cls, name: str, domains: Iterable[str]) -> BlockList:
        """A sealed list of these domains and all below them."""
        made = cls()
        made.add_domains(name, domains)
        made.seal()
        return made

    def __len__(self) -> int:
        return len(self._exact) + len(self._below)

    def add_domains(self, name: str, domains: Iterable[str], *, allow: bool = False) -> None:
        """Adds domains with all below them, under the name that `find` gives."""
        number = self._number(name)
        target = self._allowed_below if allow else self._below
        target.extend(_key(domain.strip(".").lower().removeprefix("*."), number) for domain in domains)

    def add_lines(self, name: str, lines: Iterable[bytes], *, allow: bool = False) -> tuple[int, int]:
        """Adds a list; gives how many names it has, and how many lines are of a kind that is not for names.

        A line is that of a hosts file (the very name), a domain (with all below it), ``*.domain`` (all below it), or
        AdBlock's ``||domain^`` and ``@@||domain^``.
        """
        number = self._number(name)
        exact = self._allowed_exact if allow else self._exact
        below = self._allowed_below if allow else self._below
        count = skipped = 0
        plain = _PLAIN.fullmatch
        for raw in lines:
            line = raw.decode("utf-8", "replace").strip().lower()
            # The two kinds of line that long lists are made of.
            if line[:8] == "0.0.0.0 " and plain(line, 8):
                if line[8:] not in _LOCAL:
                    exact.append(hash(line[8:]) & _REST | number)
                    count += 1
                continue
            if line[:2] == "||" and line[-1] == "^" and plain(line, 2, len(line) - 1):
                below.append(hash(line[2:-1]) & _REST | number)
                count += 1
                continue
            if not line or line[0] in "#![;":
                continue
            if line[0] in "|@":
                found = _ADBLOCK.fullmatch(line)
                if found is None or (found[4] and not _KNOWN_OPTIONS.issuperset(_options(found[4]))):
                    skipped += 1
                    continue
                whole = line.startswith(("||", "@@||"))
                target = self._allowed_below if found[1] else below
                if not whole and not found[2]:
                    target = self._allowed_exact if found[1] else exact
                target.append(_key(found[3].strip("."), number))
                count += 1
                continue
            words = line.split()
            comment = next((at for at, word in enumerate(words) if word[0] == "#"), len(words))
            del words[comment:]
            if len(words) > 1:
                hosts = words[1:] if _is_address(words[0]) else []
                if not hosts:
                    skipped += 1
                for host in hosts:
                    if host not in _LOCAL:
                        exact.append(_key(host.rstrip("."), number))
                        count += 1
            elif words and _WORD.fullmatch(words[0]):
                below.append(_key(words[0].strip(".").removeprefix("*."), number))
                count += 1
            else:
                skipped += 1
        return count, skipped

    def seal(self) -> None:
        """Nothing is added any more; from here on `find` may be asked."""
        self._exact, self._below = _sorted(self._exact), _sorted(self._below)
        self._allowed_exact, self._allowed_below = _sorted(self._allowed_exact), _sorted(self._allowed_below)

    def find(self, name: str) -> str | None:
        """The list that blocks a name (lower case, no last dot); `None` when none does, or one allows it."""
        number = _find(self._exact, name)
        suffixes = list(_suffixes(name))
        if number is None:
            number = _first(self._below, suffixes)
        if number is None:
            return None
        if _find(self._allowed_exact, name) is not None or _first(self._allowed_below, suffixes) is not None:
            return None
        return self._names[number]

    def _number(self, name: str) -> int:
        if len(self._names) == MOST_LISTS:
            raise ValueError(f"more than {MOST_LISTS} lists")
        self._names.append(name)
        return len(self._names) - 1


def _key(name: str, number: int) -> int:
    return hash(name) & _REST | number


def _sorted(keys: array[int]) -> array[int]:
    return array("Q", sorted(keys))


def _suffixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.partition(".")[2]


def _first(keys: array[int], names: list[str]) -> int | None:
    if keys:
        for name in names:
            number = _find(keys, name)
            if number is not None:
                return number
    return None


def _find(keys: array[int], name: str) -> int | None:
    wanted = hash(name) & _REST
    at = bisect_left(keys, wanted)
    if at < len(keys) and keys[at] & _REST == wanted:
        return keys[at] & _LOW
    return None


def _options(text: str) -> list[str]:
    return [f"${option}" for option in text[1:].split(",")]


def _is_address(word: str) -> bool:
    return word[0].isdigit() or ":" in word
