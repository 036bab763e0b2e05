"""Transport policy: which connections must be encrypted, how well, and what exceptions a file makes.

The semantics are those of Apple's transport security keys, the file is TOML::

    behaves_as = 17                      # the generation whose rules for local names and addresses apply

    [domains."legacy.example.com"]
    include_subdomains = true
    minimum_tls = "1.1"                  # default "1.2"
    forward_secrecy = false              # default true; false also waives the size of keys

    [domains."192.0.2.0/24"]
    insecure_http = true

    [domains."strict.example.com"]       # an empty table: no global key applies here

    [pins."bank.example.com"]
    authorities = ["47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="]
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from towpath.errors import ConfigInvalid, Misuse
from towpath.trust.anchors import Anchors
from towpath.trust.pins import Pins
from towpath.trust.policy import Policy

__all__ = ["TLS_VERSIONS", "DomainException", "Requirements", "TransportPolicy"]

TLS_VERSIONS = ("1.0", "1.1", "1.2", "1.3")
MAX_OCTETS = 1 << 20
NO_LOCAL_ADDRESSES = 17
"""The generation since which IP addresses are no longer exempt by themselves, and may be entries of the file."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class DomainException:
    """What a file says about one domain, address or network."""

    include_subdomains: bool = False
    insecure_http: bool = False
    """Cleartext is allowed, and a program may loosen trust; TLS itself is as demanding as before."""
    minimum_tls: str = "1.2"
    forward_secrecy: bool = True


@dataclass(frozen=True, slots=True)
class Requirements:
    """What one connection must meet, and which entry of the policy decided."""

    cleartext: bool
    """Plain http is allowed."""
    enforced: bool
    """The policy's demands on TLS apply; otherwise only basic trust does."""
    minimum_tls: str
    forward_secrecy: bool
    may_loosen: bool
    """A program may add anchors of its own."""
    pins: Pins
    decided_by: str

    @property
    def policy(self) -> Policy:
        """The policy for the server's certificate."""
        if not self.enforced:
            return Policy.basic.pinned(self.pins)
        return replace(Policy.apple, pins=self.pins, smallest_key=self.forward_secrecy)

    def anchors(self, system: Anchors, added: Anchors | None = None) -> Anchors:
        """The anchors to use; raises `ConfigInvalid` when `added` ones would loosen what the policy holds."""
        if added is None or not len(added):
            return system
        if not self.may_loosen:
            raise ConfigInvalid(
                self.decided_by,
                "anchors of your own loosen trust, and the transport policy is on",
                "install the authority on the host, or make an exception with insecure_http for this domain; "
                "pins may always be added",
            )
        return system | added


@dataclass(frozen=True)
class TransportPolicy:
    """A transport policy; without arguments the strict one.

    ::

        policy = TransportPolicy.parse(Path("transport.toml").read_text(), "transport.toml")
        policy.for_url("http://news.example.com/").cleartext
    """

    arbitrary_loads: bool = False
    arbitrary_loads_for_media: bool | None = None
    """`None`: the key is absent, which is not the same as false: its presence switches `arbitrary_loads` off."""
    arbitrary_loads_in_web_content: bool | None = None
    local_networking: bool | None = None
    behaves_as: int = NO_LOCAL_ADDRESSES
    """A generation from 9; from 10 the three narrower keys win, from 17 addresses are as strict as names."""
    domains: dict[str, DomainException] = field(default_factory=dict)
    pins: dict[str, tuple[bool, Pins]] = field(default_factory=dict)
    """Domain to whether its subdomains are meant, and their pins."""

    @classmethod
    def parse(cls, text: str, where: str = "transport policy") -> TransportPolicy:
        """Reads the TOML form; raises `ConfigInvalid` with the place."""
        if len(text) > MAX_OCTETS:
            raise ConfigInvalid(where, f"is larger than {MAX_OCTETS >> 20} MiB")
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigInvalid(where, str(error)) from error
        table = _Table(document, where)
        generation = table.number("behaves_as", NO_LOCAL_ADDRESSES, lowest=9)
        policy = cls(
            arbitrary_loads=table.flag("arbitrary_loads") or False,
            arbitrary_loads_for_media=table.flag("arbitrary_loads_for_media"),
            arbitrary_loads_in_web_content=table.flag("arbitrary_loads_in_web_content"),
            local_networking=table.flag("local_networking"),
            behaves_as=generation,
            domains={_domain(name, inner, generation): _exception(inner) for name, inner in table.tables("domains")},
            pins={_domain(name, inner, generation): _pins(inner) for name, inner in table.tables("pins")},
        )
        table.no_others()
        return policy

    def for_url(self, url: str) -> Requirements:
        """What a load of this URL must meet; raises `Misuse` for anything but http and https."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Misuse(f"{url!r} is no http or https URL")
        return self.for_host(parts.hostname)

    def for_host(self, host: str) -> Requirements:
        """What a connection to this host, by name or address, must meet. A trailing dot makes it another name."""
        host = host.lower()
        pins = self._pins_for(host)
        found = self._exception_for(host)
        if found is not None:
            entry, exception = found
            return Requirements(
                cleartext=exception.insecure_http,
                enforced=True,
                minimum_tls=exception.minimum_tls,
                forward_secrecy=exception.forward_secrecy,
                may_loosen=exception.insecure_http,
                pins=pins,
                decided_by=f'domains."{entry}"',
            )
        if self._arbitrary():
            return Requirements(True, False, "1.0", False, True, pins, "arbitrary_loads")
        if self._local(host):
            return Requirements(True, False, "1.0", False, True, pins, "local_networking")
        return Requirements(False, True, "1.2", True, False, pins, "the default")

    def _arbitrary(self) -> bool:
        narrower = (self.arbitrary_loads_for_media, self.arbitrary_loads_in_web_content, self.local_networking)
        if self.behaves_as >= 10 and any(key is not None for key in narrower):
            return False
        return self.arbitrary_loads

    def _local(self, host: str) -> bool:
        if _address(host) is not None:
            return bool(self.local_networking) or 10 <= self.behaves_as < NO_LOCAL_ADDRESSES
        unqualified = "." not in host
        return (unqualified or host.endswith(".local")) and (bool(self.local_networking) or self.behaves_as >= 10)

    def _exception_for(self, host: str) -> tuple[str, DomainException] | None:
        address = _address(host)
        if address is not None:
            return self._network_for(address)
        if host in self.domains:
            return host, self.domains[host]
        parent = host
        while "." in parent:
            parent = parent.partition(".")[2]
            found = self.domains.get(parent)
            if found is not None and found.include_subdomains:
                return parent, found
        return None

    def _network_for(self, address: Address) -> tuple[str, DomainException] | None:
        fitting = []
        for entry, exception in self.domains.items():
            network = _network(entry)
            if network is not None and network.version == address.version and address in network:
                fitting.append((network.prefixlen, entry, exception))
        if not fitting:
            return None
        _, entry, exception = max(fitting, key=lambda found: found[0])
        return entry, exception

    def _pins_for(self, host: str) -> Pins:
        exact = self.pins.get(host)
        if exact is not None:
            return exact[1]
        parent = host
        while "." in parent:
            parent = parent.partition(".")[2]
            subdomains, pins = self.pins.get(parent, (False, Pins()))
            if subdomains:
                return pins
        return Pins()


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        return None


class _Table:
    """One TOML table being read: each key is taken once, and what is left over is a mistake."""

    def __init__(self, values: dict[str, Any], where: str) -> None:
        self._left = dict(values)
        self.where = where

    def flag(self, key: str) -> bool | None:
        value = self._left.pop(key, None)
        if value is not None and not isinstance(value, bool):
            raise ConfigInvalid(f"{self.where}: {key}", f"{value!r} is neither true nor false")
        return value

    def number(self, key: str, default: int, *, lowest: int) -> int:
        value = self._left.pop(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
            raise ConfigInvalid(f"{self.where}: {key}", f"{value!r} is no number from {lowest}")
        return value

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        value = self._left.pop(key, default)
        if value not in choices:
            raise ConfigInvalid(f"{self.where}: {key}", f"{value!r} is none of {', '.join(choices)}")
        return str(value)

    def texts(self, key: str) -> list[str]:
        value = self._left.pop(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ConfigInvalid(f"{self.where}: {key}", "a list of texts is needed")
        return value

    def tables(self, key: str) -> list[tuple[str, _Table]]:
        value = self._left.pop(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, dict) for item in value.values()):
            raise ConfigInvalid(f"{self.where}: {key}", "tables are needed", f'[{key}."example.com"]')
        return [(name, _Table(inner, f'{self.where}: {key}."{name}"')) for name, inner in value.items()]

    def no_others(self) -> None:
        if self._left:
            raise ConfigInvalid(self.where, f"unknown key {next(iter(self._left))!r}")


def _exception(table: _Table) -> DomainException:
    forward_secrecy = table.flag("forward_secrecy")
    exception = DomainException(
        include_subdomains=table.flag("include_subdomains") or False,
        insecure_http=table.flag("insecure_http") or False,
        minimum_tls=table.choice("minimum_tls", "1.2", TLS_VERSIONS),
        forward_secrecy=True if forward_secrecy is None else forward_secrecy,
    )
    table.no_others()
    return exception


def _pins(table: _Table) -> tuple[bool, Pins]:
    subdomains = table.flag("include_subdomains") or False
    pins = Pins.parse(authorities=table.texts("authorities"), leaves=table.texts("leaves"), where=table.where)
    table.no_others()
    if not pins:
        raise ConfigInvalid(table.where, "holds no pin", "authorities or leaves: base64 of SHA-256 of the key")
    return subdomains, pins


def _domain(name: str, table: _Table, behaves_as: int) -> str:
    if _network(name) is not None:
        if behaves_as < NO_LOCAL_ADDRESSES:
            raise ConfigInvalid(table.where, f"addresses are exceptions only from behaves_as = {NO_LOCAL_ADDRESSES}")
        return name
    if name != name.lower():
        raise ConfigInvalid(table.where, "a domain is written in lower case", f'"{name.lower()}"')
    if "*" in name:
        raise ConfigInvalid(table.where, "a domain has no wildcard", "include_subdomains = true")
    if ":" in name or "/" in name or not name.removesuffix(".") or not name.isascii():
        raise ConfigInvalid(
            table.where, "neither a host name in A-labels nor an address or network", "no port, no path"
        )
    return name
