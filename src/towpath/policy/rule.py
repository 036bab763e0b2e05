"""One rule, read with messages that say where and what to write instead.

``[METHODS] [SCHEME://]HOST[:PORT][/PATH] [by PROGRAM] [under PARENT] [running COMMAND]``; methods and a path for http.
"""

from __future__ import annotations

from typing import NamedTuple, NoReturn

from towpath.errors import ConfigInvalid
from towpath.policy.host import ADDRESS, ANY, NAME, SUFFIX, Host, bracketed
from towpath.policy.program import By
from towpath.policy.request import METHOD_LETTERS, Request, as_read, fault_of
from towpath.wire.address import pack

__all__ = ["SCHEMES", "Rule", "parse_rule", "quoted", "readable_slots", "scheme_at", "slots"]

SCHEMES = ("tls", "quic", "http", "tcp", "udp", "icmp")
TRANSPORTS = {"tls": "tcp", "quic": "udp", "http": "tcp", "tcp": "tcp", "udp": "udp", "icmp": "icmp"}
DEFAULT_PORTS = {"tls": 443, "quic": 443, "http": 80}
BY_PORT = {("tcp", 443): "tls", ("udp", 443): "quic", ("tcp", 80): "http"}
"""What is spoken at a port unless a rule says otherwise; also the ports where the bytes say a name."""

ANY_PORT, OTHER_PORT = 0, -1

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
_FOREIGN_SCHEMES = {"https": "tls", "wss": "tls", "ws": "http", "h3": "quic", "http3": "quic", "ping": "icmp"}


class Rule(NamedTuple):
    """A rule as understood. `schemes` is `None` where the port decides; `where` is what a user would look at.

    `request` and `by` narrow it to requests of plain HTTP and to programs.

    >>> parse_rule("*.Example.test:443", "allow", "--allow").host.text
    '*.example.test'
    """

    action: str
    schemes: frozenset[str] | None
    host: Host
    port: int | None
    text: str
    where: str
    request: Request | None = None
    by: By | None = None

    @property
    def shown(self) -> str:
        """As its author would look for it: ``--allow HOST``, or ``allow HOST (FILE:LINE:COLUMN)``."""
        if self.where.startswith("--"):
            return f"{self.where} {quoted(self.text) if ' ' in self.text else self.text}"
        return f"{self.action} {self.text} ({self.where})"

    @property
    def scope(self) -> str:
        """What it is for, its host left out: "tls port 443 and quic port 443", "every tcp port", "GET over http…"."""
        narrow = []
        if self.request is not None:
            narrow.append(", ".join(sorted(self.request.methods)) if self.request.methods else "every method")
            narrow.append(f"of {self.request.path}" if self.request.path else "")
            narrow.append("over")
        after = [self.by.text] if self.by is not None else []
        return " ".join(filter(None, (*narrow, self._ports, *after)))

    @property
    def _ports(self) -> str:
        if self.schemes is None and self.port is None:
            if self.action == "deny":
                return "everything"
            return "tls and quic port 443, http port 80, every other tcp port"
        slots_here = [(transport, port) for transport, port in slots(self) if scheme_at(self, transport, port)]
        words = []
        for transport, port in slots_here:
            scheme = scheme_at(self, transport, port)
            words.append(f"{scheme} port {port}" if port else scheme if scheme == "icmp" else f"every {scheme} port")
        return " and ".join(words)

    @property
    def meaning(self) -> str:
        """The rule in words, without its action."""
        hosts = {ANY: "any host", SUFFIX: f"every name below {self.host.name}"}
        return f"{self.scope}, {hosts.get(self.host.kind, self.host.text)}"


def scheme_at(rule: Rule, transport: str, port: int) -> str:
    """What the rule is about at a port: "tls", "http", "quic" (the bytes must be so), the transport itself, or ""."""
    if rule.port is not None and (rule.port != port or transport == "icmp"):
        return ""
    if rule.schemes is None:
        if rule.action == "deny":
            return transport
        return BY_PORT.get((transport, port)) or ("tcp" if transport == "tcp" else "")
    for scheme in rule.schemes:
        if TRANSPORTS[scheme] == transport and (rule.port or DEFAULT_PORTS.get(scheme, port)) == port:
            return scheme
    return ""


def slots(rule: Rule) -> list[tuple[str, int]]:
    """Every (transport, port) at which `scheme_at` is not empty, with `ANY_PORT`, and `OTHER_PORT` for those without
    a scheme of their own."""
    if rule.schemes is not None:
        return [(TRANSPORTS[scheme], rule.port or DEFAULT_PORTS.get(scheme, ANY_PORT)) for scheme in rule.schemes]
    if rule.action == "deny":
        if rule.port is None:
            return [("tcp", ANY_PORT), ("udp", ANY_PORT), ("icmp", ANY_PORT)]
        return [("tcp", rule.port), ("udp", rule.port)]
    if rule.port is None:
        return [*BY_PORT, ("tcp", OTHER_PORT)]
    return [("tcp", rule.port), ("udp", rule.port)] if rule.port == 443 else [("tcp", rule.port)]


def readable_slots(rule: Rule) -> list[tuple[str, int]]:
    """The slots of a rule at which the bytes say a name."""
    if rule.schemes is None:
        return [slot for slot in BY_PORT if rule.port in (None, slot[1])]
    return [] if rule.schemes & {"tcp", "udp", "icmp"} else slots(rule)


_LIKELY_PORTS = frozenset(("22", "53", "80", "443", "8080", "8443"))


def parse_rule(text: str, action: str, where: str) -> Rule:
    """Reads one rule; `action` is "allow" or "deny". Raises `ConfigInvalid`: column, and what to write."""
    return _Parser(text, action, where).rule()


def quoted(text: str) -> str:
    """A rule as a shell takes it for one word."""
    return text if not set(text) & set(" *'\"?;&()$") else "'" + text.replace("'", "'\\''") + "'"


class _Parser:
    """`text` is the rule without its methods and programs, `whole` all of it, `offset` where the one begins in it."""

    __slots__ = ("action", "offset", "text", "where", "whole")

    def __init__(self, text: str, action: str, where: str) -> None:
        self.text = self.whole = text
        self.offset = 0
        self.action = action
        self.where = where

    def fail(self, at: int, reason: str, hint: str | None = None) -> NoReturn:
        raise ConfigInvalid(self.where, f"{self.whole!r}, column {self.offset + at + 1}: {reason}", hint)

    def rule(self) -> Rule:
        for at, letter in enumerate(self.text):
            if letter != " " and (letter.isspace() or not letter.isprintable()):
                self.fail(at, "a rule has no spaces", "one rule each: repeat the option, or list them one by one")
        by = self.by()
        methods = self.methods()
        path = self.path(methods)
        rule = self.destination()
        narrow = Request(methods, path) if methods is not None or path is not None else None
        if narrow is not None and (rule.schemes is None or "http" not in rule.schemes):
            self.fail(0, "methods and paths are judged of plain HTTP alone", f"http://{self.text.partition('://')[2]}")
        return rule._replace(text=self.whole, request=narrow, by=by)

    def by(self) -> By | None:
        """Takes ``by PROGRAM under PARENT running COMMAND`` off the end."""
        found = {"by": "", "under": "", "running": ""}
        for word in ("running", "under", "by"):
            before, mark, what = self.text.partition(f" {word} ") if word == "running" else self._last(word)
            if not mark:
                continue
            if not what:
                self.fail(len(before) + len(mark), f"something is missing behind {word}", f"{word} git")
            found[word] = what
            self.text = before
        return By(found["by"], found["under"], found["running"]) if any(found.values()) else None

    def _last(self, word: str) -> tuple[str, str, str]:
        before, mark, what = self.text.rpartition(f" {word} ")
        return (before, mark, what) if mark and " " not in what else (self.text, "", "")

    def methods(self) -> frozenset[str] | None:
        first, space, rest = self.text.partition(" ")
        if not space:
            return None
        if " " in rest or "://" not in rest or not rest:
            self.fail(len(first), "a rule has no spaces", "one rule each: repeat the option, or list them one by one")
        names = first.split(",")
        if not all(name and METHOD_LETTERS.issuperset(name) for name in names):
            self.fail(
                0, f"{first!r} is no list of methods", f"{first.upper()} {rest}" if first.isalpha() else "GET,HEAD"
            )
        self.text, self.offset = rest, len(first) + 1
        return frozenset(names)

    def path(self, methods: frozenset[str] | None) -> str | None:
        """Takes the path off an http rule."""
        scheme, mark, rest = self.text.partition("://")
        if not mark or scheme.lower() != "http":
            return None
        at = _path_start(rest)
        if at < 0:
            return None
        path, start = rest[at:], len(scheme) + 3 + at
        for letter in "?#":
            if letter in path:
                place = path.index(letter)
                self.fail(start + place, "a rule's path has no query and no fragment", f"leave out {path[place:]}")
        fault = fault_of(path)
        if fault:
            self.fail(start, f"{path!r} cannot be a rule's path: {fault}", "as servers have it, such as /simple/*")
        self.text = self.text[:start]
        return as_read(path)

    def destination(self) -> Rule:
        text = self.text
        start = 0
        schemes = None
        if "://" in text:
            start = text.index("://") + 3
            schemes = frozenset((self.scheme(text[: start - 3], start),))
        if start == len(text):
            self.fail(start, "a host is missing", "[SCHEME://]HOST[:PORT], such as example.test:443")
        if "@" in text:
            self.fail(text.index("@"), "a rule has no user name", "leave out what stands before the @")
        host, port = self.host_and_port(start)
        if port is not None and schemes is not None and "icmp" in schemes:
            self.fail(text.rindex(":"), "icmp has no ports", f"icmp://{bracketed(host.text)}")
        return Rule(self.action, schemes, host, port, text, self.where)

    def scheme(self, word: str, start: int) -> str:
        scheme = word.lower()
        if scheme not in SCHEMES:
            self.fail_scheme(word, start)
        return scheme

    def fail_scheme(self, word: str, start: int) -> NoReturn:
        meant = _FOREIGN_SCHEMES.get(word.lower())
        host = self.text[start:].split("/")[0] or "HOST"
        hint = None
        if meant == "tls" and ":" not in host:
            hint = f"tls://{host} for TLS only, or {host}:443 for TLS and QUIC"
        elif meant:
            hint = f"{meant}://{host}"
        self.fail(0, f"a scheme is one of {', '.join(SCHEMES)}, not {word!r}", hint)

    def host_and_port(self, start: int) -> tuple[Host, int | None]:
        text = self.text
        if text[start] == "[":
            return self.in_brackets(start)
        if text.count(":", start) > 1:
            address, _, last = text[start:].rpartition(":")
            if last in _LIKELY_PORTS:
                self.fail(start, f"is {last} a port?", f"[{address}]:{last} if so, [{text[start:]}] if not")
            return self.address(text[start:], start, version=6), None
        colon = text.find(":", start)
        end = len(text) if colon < 0 else colon
        slash = text.find("/", end)
        if slash >= 0:
            self.fail(slash, "only http rules have a path", self.without_path(slash))
        host = self.host(text[start:end], start)
        return host, None if colon < 0 else self.port(colon + 1)

    def without_path(self, slash: int) -> str:
        whole = f"whole hosts are allowed or denied: {self.text[:slash]}"
        return whole if "://" in self.text else f"{whole}; or plain HTTP: http://{self.text}"

    def in_brackets(self, start: int) -> tuple[Host, int | None]:
        text = self.text
        end = text.find("]", start)
        if end < 0:
            self.fail(start, "this bracket is not closed", "[2001:db8::1]:443")
        inner, rest = text[start + 1 : end], text[end + 1 :]
        if rest.startswith("/") and ":" not in rest and "/" not in inner:
            return self.address(inner + rest, start + 1, version=6), None
        host = self.address(inner, start + 1, version=6)
        if not rest:
            return host, None
        if not rest.startswith(":"):
            self.fail(end + 1, "a port was expected, as in [2001:db8::/32]:22")
        return host, self.port(end + 2)

    def port(self, at: int) -> int:
        word = self.text[at:]
        if word == "*":
            self.fail(at, "a port is a number", f"without one every port is meant: {self.text[: at - 1]}")
        if not (word.isascii() and word.isdigit()):
            self.fail(at, f"a port is a number from 1 to 65535, not {word!r}")
        if len(word) > 5 or not 0 < int(word) <= 0xFFFF:
            self.fail(at, f"a port is a number from 1 to 65535, {word} is out of range")
        return int(word)

    def host(self, word: str, at: int) -> Host:
        if word == "*":
            return Host(ANY)
        if not word:
            self.fail(at, "a host is missing", "* stands for any host")
        if "/" in word:
            address, _, _bits = word.partition("/")
            if pack(address) is None:
                path = at + len(address)
                self.fail(path, "only http rules have a path", self.without_path(path))
            return self.address(word, at, version=4)
        if word.startswith("*."):
            return Host(SUFFIX, self.name(word[2:], at + 2))
        if "*" in word:
            self.fail(at + word.index("*"), "* stands alone or first, as in *.example.test")
        if _is_numeric(word.removesuffix(".").rpartition(".")[2]):
            return self.address(word, at, version=4)
        return Host(NAME, self.name(word, at))

    def name(self, word: str, at: int) -> str:
        if "*" in word:
            self.fail(at + word.index("*"), "* stands alone or first, as in *.example.test")
        name = word.removesuffix(".").lower()
        if not name.isascii():
            name = self.international(name, at)
        offset = at
        for label in name.split("."):
            if not label:
                self.fail(offset, "a name has no empty label", "two dots in a row, or a dot at an end")
            wrong = next((letter for letter in label if letter not in _LETTERS), None)
            if wrong is not None:
                self.fail(offset + label.index(wrong), f"{wrong!r} cannot stand in a host name")
            if len(label) > 63 or label[0] == "-" or label[-1] == "-":
                self.fail(offset, f"{label!r} is no label: 1 to 63 letters, digits, - and _, no - at an end")
            offset += len(label) + 1
        if len(name) > 253:
            self.fail(at, f"a name has at most 253 characters, this one {len(name)}")
        if _is_numeric(name.rpartition(".")[2]):
            self.fail(at, f"{word!r} is neither a name nor an address")
        return name

    def international(self, name: str, at: int) -> str:
        import idna

        try:
            return idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            self.fail(at, f"not an internationalized name: {error}")

    def address(self, word: str, at: int, *, version: int) -> Host:
        text, slash, bits_word = word.partition("/")
        if "%" in text:
            self.fail(at + text.index("%"), "a rule has no zone", f"leave it out: {text.partition('%')[0]}")
        packed = pack(text)
        if packed is None or len(packed) != (4 if version == 4 else 16):
            hint = "an IPv6 address with a port stands in brackets: [2001:db8::1]:443" if version == 6 else None
            self.fail(at, f"{text!r} is not an IPv{version} address", hint)
        size = 8 * len(packed)
        value = int.from_bytes(packed, "big")
        if not slash:
            return Host(ADDRESS, "", version, value, size)
        bits_at = at + len(text) + 1
        if not (bits_word.isascii() and bits_word.isdigit()) or len(bits_word) > 3 or int(bits_word) > size:
            self.fail(bits_at, f"a prefix length is a number from 0 to {size}, not {bits_word!r}")
        bits = int(bits_word)
        network = Host(ADDRESS, "", version, value >> (size - bits) << (size - bits), bits)
        if network.value != value:
            self.fail(
                at, f"{text} has bits set behind the first {bits}", f"{network.text}, or {text} for the one address"
            )
        return network


def _path_start(rest: str) -> int:
    """Where the path begins in ``HOST[:PORT][/PATH]``, or -1: the slash of a prefix length is none."""
    after = 0
    if rest.startswith("["):
        after = rest.find("]") + 1
    else:
        address, slash, _ = rest.partition("/")
        packed = pack(address) if slash else None
        if packed is None:
            return rest.find("/")
        after = len(address)
    digits = rest[after + 1 :].partition(":")[0].partition("/")[0]
    if rest[after : after + 1] == "/" and digits.isdigit():
        after += 1 + len(digits)
    return rest.find("/", after)


def _is_numeric(label: str) -> bool:
    """Whether a program would take a name that ends so for an address (WHATWG URL, section 3.5)."""
    if label[:2].lower() == "0x":
        return True
    return label.isascii() and label.isdigit()
