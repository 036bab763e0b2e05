"""Rules narrowed to methods and paths of plain HTTP, and the ways in which a server may read a path.

A path that servers read differently is never repaired: an allow holds only if every reading of it matches, a deny if
one does. What no client sends, because it resolves it first (RFC 3986 section 5.2.4), has no reading at all: then no
narrowed allow holds, and every narrowed deny does.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["METHOD_LETTERS", "Asked", "Request", "Unclear", "as_read", "fault_of", "readings"]

METHOD_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ-_")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_-.~@+,=:!$&'()")
_HEX = frozenset("0123456789abcdefABCDEF")
_KEPT = {ord(letter): f"%{ord(letter):02X}" for letter in "/%*?#"}
"""Bytes that mean something else when they are decoded: they stay encoded, and a ``*`` that was sent becomes so."""
_MOST_LAYERS = 3


class Unclear(ValueError):
    """A path that servers may take for another one; its text says why."""


class Asked(NamedTuple):
    """What a request asks for: its method, its path as it was sent (without the query), and the name of a header that
    asks the server to take another method or path instead, or `None`."""

    method: str
    path: str
    override: str | None = None


class Request(NamedTuple):
    """The methods and the path that a rule is narrowed to; `None` for any.

    In a path, ``*`` as a whole segment is one segment; at the very end it is whatever follows, slashes too.

    >>> Request(frozenset({"GET"}), "/simple/*").excludes(Asked("GET", "/simple/six/"), "allow")
    ''
    >>> Request(None, "/public/*").excludes(Asked("GET", "/public/%2e%2e/secret"), "allow")
    'its path holds a dot segment'
    """

    methods: frozenset[str] | None
    path: str | None

    def excludes(self, asked: Asked | None, action: str) -> str:
        """Why a rule with this `action` does not hold for a request; "" if it does."""
        if asked is None:
            return "" if action == "deny" else "the request could not be read"
        if self.methods is not None and asked.method not in self.methods and not (action == "deny" and asked.override):
            return f"it is for {', '.join(sorted(self.methods))}, not for {asked.method}"
        if asked.override and action == "allow":
            return f"the request has {asked.override}, which asks for another method or path"
        if self.path is None or (asked.override and action == "deny"):
            return ""
        try:
            ways = readings(asked.path)
        except Unclear as unclear:
            return "" if action == "deny" else f"its path {unclear}"
        found = [_fits(self.path, way) for way in ways]
        if any(found) if action == "deny" else all(found):
            return ""
        if any(found):
            return f"{asked.path} may be read as {ways[found.index(False)]}, which {self.path} does not cover"
        return f"{asked.path} is not {self.path}"


def _fits(pattern: str, path: str) -> bool:
    wanted, given = pattern.removesuffix("*").split("/"), path.split("/")
    if pattern.endswith("*"):
        last = len(wanted) - 1
        if len(given) <= last or not "/".join(given[last:]).startswith(wanted[last]):
            return False
        wanted, given = wanted[:last], given[:last]
    if len(wanted) != len(given):
        return False
    return all(one == other or (one == "*" and other != "") for one, other in zip(wanted, given, strict=True))


def readings(path: str) -> tuple[str, ...]:
    """What servers may take a path for: with its slashes as they stand, with those in a row as one, with everything
    decoded and parameters (``;``) left out. One if they all agree. Raises `Unclear`.

    >>> readings("/a/b")
    ('/a/b',)
    >>> readings("/a%2fb")
    ('/a%2Fb', '/a/b')
    """
    if _PLAIN.issuperset(path) and "//" not in path and "/." not in path:
        return (path,)
    plain = _decoded(path)
    opened = path
    for _ in range(_MOST_LAYERS):
        further = _decoded(opened, whole=True)
        if further == opened:
            break
        opened = further
        if not _escaped(opened):
            break
    else:
        raise Unclear("is encoded many times over")
    opened = opened.partition("?")[0].partition("#")[0]
    opened = _merged("/".join(segment.partition(";")[0] for segment in opened.split("/"))).replace("*", "%2A")
    ways = tuple(dict.fromkeys((plain, _merged(plain), opened)))
    for way in ways:
        if not {".", ".."}.isdisjoint(way.split("/")):
            raise Unclear("holds a dot segment")
    return ways


def fault_of(path: str) -> str:
    """Why a path cannot stand in a rule, or ""."""
    try:
        ways = readings(path.replace("*", "x"))
    except Unclear as unclear:
        return f"it {unclear}"
    if len(ways) > 1:
        return f"it may be read as {ways[-1]} too"
    inner = path.removesuffix("*").split("/")
    if any("*" in segment and segment != "*" for segment in inner):
        return "* stands for a whole segment, or at the very end"
    return ""


def as_read(path: str) -> str:
    """A rule's path, its escapes resolved, its ``*`` kept."""
    return "*".join(_decoded(part) for part in path.split("*"))


def _merged(path: str) -> str:
    while "//" in path:
        path = path.replace("//", "/")
    return path


def _escaped(path: str) -> bool:
    return any({*two} <= _HEX and len(two) == 2 for two in (part[:2] for part in path.split("%")[1:]))


def _decoded(path: str, *, whole: bool = False) -> str:
    """Escapes resolved (RFC 3986 section 2.1), but for `_KEPT`, unless `whole`."""
    if "\\" in path:
        raise Unclear("holds a backslash")
    out = bytearray()
    at = 0
    while at < len(path):
        letter = path[at]
        if letter == "%":
            digits = path[at + 1 : at + 3]
            if len(digits) < 2 or not _HEX.issuperset(digits):
                raise Unclear("holds a % that is no escape")
            byte = int(digits, 16)
            if byte < 0x20 or byte == 0x7F or byte == 0x5C:
                raise Unclear(f"holds %{digits.upper()}, a control character or a backslash")
            if byte in _KEPT and not whole:
                out += _KEPT[byte].encode()
            else:
                out.append(byte)
            at += 3
            continue
        out += b"%2A" if letter == "*" and not whole else letter.encode()
        at += 1
    try:
        text = out.decode("utf-8")
    except UnicodeDecodeError:
        raise Unclear("is not UTF-8 when it is decoded") from None
    if any(not one.isprintable() for one in text):
        raise Unclear("holds a control character")
    return text
