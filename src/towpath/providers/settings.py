"""Which flows a filter is asked about at all, decided by plain rules before its code is called."""

from __future__ import annotations

from functools import cached_property, lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal, TypeAlias

from msgspec import Struct

from towpath.errors import ConfigInvalid, Misuse
from towpath.providers.flow import Direction, Transport

__all__ = ["MOST_RULES", "FilterAction", "FilterSettings", "NetworkRule"]

FilterAction: TypeAlias = Literal["allow", "drop", "filter"]
"""`filter` asks the filter's hooks."""

MOST_RULES = 1000


class NetworkRule(Struct, frozen=True):
    """Flows to one address or prefix, and what becomes of them.

    >>> NetworkRule("allow", "192.0.2.0/24", port=443, transport="tcp").port
    443

    `remote` is an IP address, a prefix, or "" for any; `port` 0 is any port of the remote side. A rule matches an
    outbound flow to a loopback address only if it names nothing else: neither "" nor "0.0.0.0/0" does.
    """

    action: FilterAction
    remote: str = ""
    port: int = 0
    transport: Literal["any", "tcp", "udp"] = "any"
    direction: Literal["any", "outbound", "inbound"] = "any"


class FilterSettings(Struct, frozen=True, dict=True):
    """At most `MOST_RULES` rules in order, the first that matches wins, and what happens where none does.

    >>> settings = FilterSettings((NetworkRule("drop", port=25, transport="tcp"),))
    >>> settings.decide("tcp", "outbound", "192.0.2.7", 25), settings.decide("tcp", "outbound", "127.0.0.1", 25)
    ('drop', 'allow')

    Without any settings each flow is `filter`. A `default` of "allow" or "drop" needs at least one rule. Loopback that
    no rule names is allowed, whatever the default.

    Raises `ConfigInvalid` for a rule that cannot be used (`where` is ``rules[INDEX]``) and `Misuse` for the rest.
    """

    rules: tuple[NetworkRule, ...] = ()
    default: FilterAction = "filter"

    def __post_init__(self) -> None:
        if len(self.rules) > MOST_RULES:
            raise Misuse(f"FilterSettings: {len(self.rules)} rules, and {MOST_RULES} is the most")
        if self.default not in _ACTIONS:
            raise Misuse(f"FilterSettings: default is one of {_named(_ACTIONS)}, not {self.default!r}")
        if self.default != "filter" and not self.rules:
            raise Misuse(f"FilterSettings: default={self.default!r} needs at least one rule")
        _ = self._index

    @cached_property
    def _index(self) -> _Index:
        return _Index(self.rules)

    def decide(self, transport: Transport, direction: Direction, ip: str, port: int) -> FilterAction:
        """What becomes of a flow with this remote address. An `ip` that is none raises `Misuse`."""
        version, value, is_loopback = _parsed(ip)
        loopback = is_loopback and direction == "outbound"  # inbound it is the host, through a published port
        at = self._index.first(transport, direction, port, loopback, version, value)
        if at is not None:
            return self.rules[at].action
        return "allow" if loopback else self.default


@lru_cache(maxsize=4096)
def _parsed(ip: str) -> tuple[int, int, bool]:
    """Version, number, and whether it is loopback; IPv4 in its mapped form is IPv4."""
    try:
        address = ip_address(ip)
    except ValueError:
        raise Misuse(f"decide: {ip!r} is not an IP address") from None
    inner = address if address.version == 4 else address.ipv4_mapped or address
    return inner.version, int(inner), inner.is_loopback


_ACTIONS = ("allow", "drop", "filter")
_TRANSPORTS = ("any", "tcp", "udp")
_DIRECTIONS = ("any", "outbound", "inbound")
_Kind: TypeAlias = tuple[str, str, int, bool]


class _Index:
    """The first rule that matches, in a look-up for each length of prefix, however many rules there are."""

    def __init__(self, rules: tuple[NetworkRule, ...]) -> None:
        self._tables: dict[_Kind, dict[tuple[int, int], dict[int, int]]] = {}
        for at, rule in enumerate(rules):
            _check(f"rules[{at}]", rule)
            prefixes = _prefixes(f"rules[{at}]", rule.remote)
            for transport in _TRANSPORTS[1:] if rule.transport == "any" else (rule.transport,):
                for direction in _DIRECTIONS[1:] if rule.direction == "any" else (rule.direction,):
                    for version, shift, bits, named in prefixes:
                        for loopback in (False, True) if named else (False,):
                            tables = self._tables.setdefault((transport, direction, rule.port, loopback), {})
                            tables.setdefault((version, shift), {}).setdefault(bits, at)

    def first(self, transport: str, direction: str, port: int, loopback: bool, version: int, value: int) -> int | None:
        """The number of that rule."""
        found = [
            at
            for wanted in {port, 0}
            for (of, shift), table in self._tables.get((transport, direction, wanted, loopback), {}).items()
            if of == version and (at := table.get(value >> shift)) is not None
        ]
        return min(found, default=None)


def _check(where: str, rule: NetworkRule) -> None:
    for name, value, known in (
        ("action", rule.action, _ACTIONS),
        ("transport", rule.transport, _TRANSPORTS),
        ("direction", rule.direction, _DIRECTIONS),
    ):
        if value not in known:
            raise ConfigInvalid(where, f"{name} is {value!r}", f"one of {_named(known)}")
    if not 0 <= rule.port <= 65535:
        raise ConfigInvalid(where, f"port is {rule.port}", "0 (any) to 65535")


def _prefixes(where: str, remote: str) -> list[tuple[int, int, int, bool]]:
    """Version, how far to shift an address, what must be left then, and whether it is of loopback addresses alone."""
    if not remote:
        return [(4, 32, 0, False), (6, 128, 0, False)]
    network = parse_network(where, remote)
    shift = network.max_prefixlen - network.prefixlen
    return [(network.version, shift, int(network.network_address) >> shift, network.is_loopback)]


def parse_network(where: str, text: str) -> IPv4Network | IPv6Network:
    """The prefix that a rule's `remote` names; IPv4 in its mapped form is IPv4. Raises `ConfigInvalid`."""
    try:
        network = ip_network(text)
    except ValueError as error:
        hint = "an address (192.0.2.7), a prefix (192.0.2.0/24, 2001:db8::/32), or empty for any"
        raise ConfigInvalid(where, f"remote: {error}", hint) from None
    if network.version == 6 and network.prefixlen >= 96 and network.network_address.ipv4_mapped:
        return IPv4Network((int(network.network_address.ipv4_mapped), network.prefixlen - 96))
    return network


def _named(words: tuple[str, ...]) -> str:
    return ", ".join(words)
