"""Whom to ask for which name: groups of servers, and how each of them has done lately."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from towpath.names.upstream import Upstream

__all__ = ["Group", "Groups", "Standing"]


class Group(NamedTuple):
    """Servers that are asked for the same names.

    `match_domains`: only these names and what is below them; () is every name. `mode`: "failover" asks the first that
    is well, the next when it does not answer; "race" asks two at once. `allow_failover`: when none of them answers, the
    group for every name is asked. `requires_dnssec`: what they answer is validated, under `trust_anchors` (records as
    zone files have them) and the root's.
    """

    upstreams: tuple[Upstream, ...]
    match_domains: tuple[str, ...] = ()
    mode: Literal["failover", "race"] = "failover"
    allow_failover: bool = False
    requires_dnssec: bool = False
    trust_anchors: tuple[str, ...] = ()


class Groups:
    """The most specific group for a name, in one look-up for each of its labels.

    >>> from towpath.names.upstream import parse_upstream
    >>> home = Group((parse_upstream("192.0.2.1"),), ("home.test",))
    >>> groups = Groups([Group((parse_upstream("192.0.2.53"),)), home])
    >>> groups.of("printer.home.test") is home, groups.of("homes.test") is home
    (True, False)
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.all = tuple(groups)
        self._by_domain: dict[str, Group] = {}
        for group in groups:
            for domain in group.match_domains or ("",):
                self._by_domain.setdefault(domain.strip(".").lower(), group)

    @property
    def default(self) -> Group | None:
        """The group for names that no other names."""
        return self._by_domain.get("")

    def of(self, name: str) -> Group | None:
        """The group that is asked for a name (lower case, no last dot)."""
        while name:
            found = self._by_domain.get(name)
            if found is not None:
                return found
            name = name.partition(".")[2]
        return self.default


class Standing:
    """How a server has done: failures in a row, when to try it again, and how long its answers take."""

    __slots__ = ("failures", "seconds", "until")

    def __init__(self) -> None:
        self.failures = 0
        self.until = 0.0
        self.seconds = 0.0

    def answered(self, seconds: float) -> None:
        self.failures = 0
        self.until = 0.0
        self.seconds = seconds if not self.seconds else self.seconds * 0.875 + seconds * 0.125

    def failed(self, now: float) -> None:
        self.failures += 1
        if self.failures >= 2:
            self.until = now + min(60.0, 2.0 ** min(self.failures, 6))

    def well(self, now: float) -> bool:
        """Not known to be broken, or due for another try."""
        return now >= self.until
