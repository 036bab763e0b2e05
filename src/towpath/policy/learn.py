"""From what was seen to the smallest policy that allows it: one rule for each name, port and protocol.

A rule is as narrow as what was seen: by name where DNS and the bytes agreed on one, by address where no name led there.
A name that was only looked up gets a rule for port 53, which a run answers itself: it allows the question and nothing
else. Nothing is widened unless that was asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from towpath.errors import ConfigInvalid
from towpath.policy.request import fault_of
from towpath.policy.rule import parse_rule

__all__ = ["Learner", "Seen"]

_BY_EVIDENCE = {"sni": "tls", "host": "http", "quic sni": "quic"}
_LEAST_SIBLINGS = 3
_WIDEST = 44
_REVERSE = (".in-addr.arpa", ".ip6.arpa")


class Seen(NamedTuple):
    """One thing that was allowed: `scheme` is that of a rule, `host` a name or an address, `port` 0 for a ping.

    `method` and `path` are those of a request, or "".
    """

    scheme: str
    host: str
    port: int
    method: str = ""
    path: str = ""

    @property
    def rule(self) -> str:
        """As short as the rule language allows without meaning more."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if not self.port:
            return f"{self.scheme}://{host}"
        if self.method:
            return f"{self.method} http://{host}{'' if self.port == 80 else f':{self.port}'}{self.path}"
        plain = (self.scheme, self.port) == ("http", 80) or (self.scheme == "tcp" and self.port not in (80, 443))
        return f"{host}:{self.port}" if plain else f"{self.scheme}://{host}:{self.port}"


class Learner:
    """Takes flows and questions, and writes the policy.

    >>> learner = Learner()
    >>> learner.flow("tcp", "192.0.2.7", 443, ["news.test"], {"news.test": "sni"}, "curl")
    >>> learner.rules()
    ['tls://news.test:443']
    """

    def __init__(self, *, requests: bool = False) -> None:
        """`requests` narrows what was plain HTTP to its methods and paths."""
        self._requests = requests
        self._seen: dict[Seen, Counter[str]] = {}
        self._asked: dict[str, Counter[str]] = {}

    def flow(
        self,
        transport: str,
        address: str,
        port: int,
        names: Iterable[str],
        said: Mapping[str, str],
        program: str,
        requests: Iterable[str] = (),
    ) -> None:
        """An allowed flow: `names` are those of DNS for its address, `said` what its bytes named, with the evidence.

        `requests` are "METHOD HOST PATH" each.
        """
        known = list(names)
        found = [Seen(_BY_EVIDENCE[how], name, port) for name, how in said.items() if how in _BY_EVIDENCE]
        # A name that the bytes say and DNS did not is no evidence for a rule by name; the address is.
        found = [seen if seen.host in known else seen._replace(host=address) for seen in found]
        if self._requests:
            found = [narrow for seen in found for narrow in _narrowed(seen, said, requests)]
        if not found:
            found = [Seen(transport, known[0] if known else address, port)]
        for seen in found:
            self._seen.setdefault(seen, Counter())[program] += 1

    def question(self, name: str, program: str) -> None:
        """A name that a program had looked up. Names of addresses are left out: programs do without them."""
        if name.endswith(_REVERSE):
            return
        self._asked.setdefault(name, Counter())[program] += 1

    def record(self, record: Mapping[str, Any]) -> None:
        """A line of a report (`towpath run --report json`); refused and inbound flows teach nothing."""
        if record.get("verdict") != "allowed" or record.get("direction") != "out":
            return
        program = str(record.get("program") or "?")
        if record.get("type") == "dns":
            self.question(str(record["name"]), program)
            return
        said = {str(record["name"]): str(record["name_from"])} if record.get("name_from") in _BY_EVIDENCE else {}
        names = record.get("names") or ([record["name"]] if record.get("name_from") == "dns" else [])
        address, port, requests = str(record["address"]), int(record["port"] or 0), record.get("requests") or ()
        self.flow(str(record["transport"]), address, port, names, said, program, requests)

    def rules(self, *, wildcards: bool = False) -> list[str]:
        """The rules alone, by host and port: flows end in any order, and a run learnt twice shall give one file."""
        return [rule for rule, _ in self._lines(wildcards)]

    def text(self, origin: str, *, wildcards: bool = False) -> str:
        """A policy file. `origin` says in its first line where it comes from."""
        lines = self._lines(wildcards)
        width = min(max((len(rule) for rule, _ in lines), default=0) + 3, _WIDEST)
        rules = [f"    {_entry(rule):{width}}  # {_users(users)}" for rule, users in lines]
        return "\n".join([f"# Learnt from {_one_line(origin)}", "allow = [", *rules, "]", ""])

    def _lines(self, wildcards: bool) -> list[tuple[str, Counter[str]]]:
        seen = dict(self._seen)
        reached = {one.host for one in seen}
        for name, users in self._asked.items():
            if name not in reached:
                seen[Seen("udp", name, 53)] = users
        if wildcards:
            seen = _widened(seen)
        return [(one.rule, seen[one]) for one in sorted(seen, key=_by_host)]


def _by_host(seen: Seen) -> tuple[str, int, Seen]:
    return seen.host, seen.port, seen


def _narrowed(seen: Seen, said: Mapping[str, str], requests: Iterable[str]) -> list[Seen]:
    """What was asked of a host of plain HTTP; the host itself where a request cannot be a rule."""
    found = []
    for text in requests if seen.scheme == "http" else ():
        method, host, path = text.split(" ", 2)
        if host != seen.host and host in said and seen.host in said:
            continue  # another host's of the same connection
        if fault_of(path) or "*" in path:
            return [seen]
        found.append(seen._replace(method=method, path=path))
    return found or [seen]


def _widened(seen: dict[Seen, Counter[str]]) -> dict[Seen, Counter[str]]:
    """Three names or more with one parent become one rule for all below it; top-level domains never do."""
    groups: dict[Seen, list[Seen]] = {}
    for one in seen:
        _, _, parent = one.host.partition(".")
        if "." in parent and not one.host.replace(".", "").isdigit() and ":" not in one.host:
            groups.setdefault(one._replace(host=f"*.{parent}"), []).append(one)
    wide: dict[Seen, Seen] = {}
    for group, members in groups.items():
        if len(members) >= _LEAST_SIBLINGS:
            wide.update(dict.fromkeys(members, group))
    out: dict[Seen, Counter[str]] = {}
    for one, users in seen.items():
        out.setdefault(wide.get(one, one), Counter()).update(users)
    return out


def _users(users: Counter[str]) -> str:
    return ", ".join(f"{_one_line(program)} {count}" for program, count in users.most_common())


def _one_line(text: str) -> str:
    """A program may be called anything; in a comment nothing may end the line."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _entry(rule: str) -> str:
    """The rule in TOML; what cannot be one, such as a name with a byte that no host has, stays readable."""
    try:
        parse_rule(rule, "allow", "")
    except ConfigInvalid:
        return f"# no rule can name {_one_line(rule)!r}:"
    return f'"{rule}",'
