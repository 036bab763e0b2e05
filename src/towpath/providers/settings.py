"""Which flows a filter is asked about at all, decided by plain rules before its code is called."""

from __future__ import annotations

from functools import cached_property
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
        _ = self._matchers

    @cached_property
    def _matchers(self) -> tuple[_Matcher, ...]:
        return tuple(_Matcher(at, rule) for at, rule in enumerate(self.rules))

    def decide(self, transport: Transport, direction: Direction, ip: str, port: int) -> FilterAction:
        """What becomes of a flow with this remote address. An `ip` that is none raises `Misuse`."""
        try:
            address = ip_address(ip)
        except ValueError:
            raise Misuse(f"decide: {ip!r} is not an IP address") from None
        inner = address if address.version == 4 else address.ipv4_mapped or address
        version, value = inner.version, int(inner)
        loopback = inner.is_loopback and direction == "outbound"  # inbound it is the host, through a published port
        for matcher in self._matchers:
            if matcher.matches(transport, direction, version, value, port, loopback):
                return matcher.action
        return "allow" if loopback else self.default


_ACTIONS = ("allow", "drop", "filter")
_TRANSPORTS = ("any", "tcp", "udp")
_DIRECTIONS = ("any", "outbound", "inbound")


class _Matcher:
    """A rule with its prefix as numbers."""

    __slots__ = ("_bits", "_direction", "_loopback", "_port", "_shift", "_transport", "_version", "action")

    def __init__(self, at: int, rule: NetworkRule) -> None:
        where = f"rules[{at}]"
        for name, value, known in (
            ("action", rule.action, _ACTIONS),
            ("transport", rule.transport, _TRANSPORTS),
            ("direction", rule.direction, _DIRECTIONS),
        ):
            if value not in known:
                raise ConfigInvalid(where, f"{name} is {value!r}", f"one of {_named(known)}")
        if not 0 <= rule.port <= 65535:
            raise ConfigInvalid(where, f"port is {rule.port}", "0 (any) to 65535")
        self.action: FilterAction = rule.action
        self._transport = rule.transport
        self._direction = rule.direction
        self._port = rule.port
        self._version, self._shift, self._bits, self._loopback = 0, 0, 0, False
        if rule.remote:
            network = _network(where, rule.remote)
            self._version = network.version
            self._shift = network.max_prefixlen - network.prefixlen
            self._bits = int(network.network_address) >> self._shift
            self._loopback = network.is_loopback

    def matches(
        self, transport: Transport, direction: Direction, version: int, value: int, port: int, loopback: bool
    ) -> bool:
        return (
            self._transport in ("any", transport)
            and self._direction in ("any", direction)
            and self._port in (0, port)
            and (not loopback or self._loopback)
            and (not self._version or (self._version == version and value >> self._shift == self._bits))
        )


def _network(where: str, text: str) -> IPv4Network | IPv6Network:

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
