"""What a packet tunnel wants of the system: one frozen value, valid or not made at all."""

from __future__ import annotations

import re
from functools import cached_property
from ipaddress import (
    IPv4Network,
    IPv6Address,
    IPv6Network,
    collapse_addresses,
    ip_address,
    ip_interface,
    ip_network,
)

from msgspec import Struct

from towpath.errors import ConfigInvalid

__all__ = ["DnsSettings", "ProxySettings", "TunnelSettings"]

Network = IPv4Network | IPv6Network

_MTU = (1280, 65_000)
_PHYSICAL_MTU = 1500
_LOCAL = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fe80::/10", "fc00::/7"))
)
_MOST = 4096
_URL = re.compile(r"(?:https?|socks[45]|socks5h)://[!-~]+")
_PAC = re.compile(r"(?:https?|file|data):[!-~]+")
_EXCEPTION = re.compile(r"[A-Za-z0-9_.:*/-]+")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,126}}", re.IGNORECASE)


def _networks(name: str, texts: tuple[str, ...]) -> tuple[Network, ...]:
    if len(texts) > _MOST:
        raise ConfigInvalid(name, f"{len(texts)} routes, and {_MOST} are the most")
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise ConfigInvalid(name, str(error), "a prefix without host bits: 10.0.0.0/8, 2001:db8::/32") from None


class DnsSettings(Struct, frozen=True, kw_only=True):
    """Who resolves names through the tunnel.

    >>> DnsSettings(servers=("10.0.0.1",), match_domains=("corp.test",)).takes("git.corp.test")
    True

    `servers` are addresses. `match_domains` are the domains whose names go to them, and no others; `None` and "" mean
    all names. They are search domains too unless `match_domains_no_search`. Raises `ConfigInvalid`.
    """

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    match_domains: tuple[str, ...] | None = None
    match_domains_no_search: bool = False

    def __post_init__(self) -> None:
        for server in self.servers:
            try:
                ip_address(server)
            except ValueError:
                raise ConfigInvalid("dns.servers", f"{server!r} is no address") from None
        for name, domains in (("search", self.search), ("match_domains", self.match_domains or ())):
            for domain in domains:
                if domain and not _DOMAIN.fullmatch(domain):
                    raise ConfigInvalid(f"dns.{name}", f"{domain!r} is no domain", "corp.example, without a last dot")

    @property
    def takes_all(self) -> bool:
        """Whether every name is resolved by these servers."""
        return self.match_domains is None or "" in self.match_domains

    def takes(self, name: str) -> bool:
        """Whether a name is resolved by these servers."""
        if self.match_domains is None or self.takes_all:
            return True
        return any(f".{name.lower()}".endswith(f".{domain.lower()}") for domain in self.match_domains)

    @property
    def search_domains(self) -> tuple[str, ...]:
        """What is appended to short names."""
        more = () if self.match_domains_no_search else tuple(one for one in self.match_domains or () if one)
        return tuple(dict.fromkeys((*self.search, *more)))


class ProxySettings(Struct, frozen=True, kw_only=True):
    """Proxies behind the tunnel, as URLs; `exceptions` are host suffixes that do without, `pac` is of a script.

    Programs of a run are told by the environment: curl, Python, Go and most others read the proxies, Chromium also the
    script (`auto_proxy`). Raises `ConfigInvalid`.

    >>> ProxySettings(https="http://proxy.corp.test:3128").environment()
    {'https_proxy': 'http://proxy.corp.test:3128', 'HTTPS_PROXY': 'http://proxy.corp.test:3128'}
    """

    http: str | None = None
    https: str | None = None
    pac: str | None = None
    exceptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (("http", self.http), ("https", self.https), ("pac", self.pac)):
            if value is not None and not (_URL if name != "pac" else _PAC).fullmatch(value):
                raise ConfigInvalid(f"proxy.{name}", f"{value!r} is no URL of one", "http://proxy.corp.example:3128")
        for suffix in self.exceptions:
            if not _EXCEPTION.fullmatch(suffix):
                raise ConfigInvalid("proxy.exceptions", f"{suffix!r} is no host", "corp.example, 10.1.0.9")

    def environment(self) -> dict[str, str]:
        """The variables by which programs learn of proxies."""
        found = {"http_proxy": self.http, "https_proxy": self.https, "auto_proxy": self.pac}
        if self.exceptions:
            found["no_proxy"] = ",".join(self.exceptions)
        both = {name: value for name, value in found.items() if value}
        return {key: value for name, value in both.items() for key in (name, name.upper()) if key != "HTTP_PROXY"}


class TunnelSettings(Struct, frozen=True, kw_only=True, dict=True):
    """Addresses, routes, names: everything that one tunnel changes, replaced as a whole.

    >>> settings = TunnelSettings(remote="192.0.2.9", addresses=("10.9.0.2/32",), included=("0.0.0.0/1", "128.0.0.0/1"))
    >>> settings.takes_all(4), settings.takes_all(6), settings.refusal("2001:db8::1")
    (True, False, 'the tunnel has no IPv6 address')

    `remote` is the server, for people. `addresses` are the tunnel's own, with prefix. `included` routes lead into it,
    `excluded` ones do not. `mtu` wins over `overhead`, bytes that a packet grows by on its way. With `include_all`
    everything goes through the tunnel and nothing leaves without it; `exclude_local` leaves private networks out of
    that. `enforce_routes` holds to the routes even where a program bound itself to another interface, or another route
    of the host is more specific: what would leave by another way is refused. Raises `ConfigInvalid`.
    """

    remote: str
    addresses: tuple[str, ...]
    included: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    dns: DnsSettings | None = None
    proxy: ProxySettings | None = None
    mtu: int | None = None
    overhead: int | None = None
    include_all: bool = False
    exclude_local: bool = False
    enforce_routes: bool = False

    def __post_init__(self) -> None:
        if not self.addresses:
            raise ConfigInvalid("addresses", "a tunnel has an address at least", 'addresses=("10.0.0.2/32",)')
        for text in self.addresses:
            try:
                ip_interface(text)
            except ValueError:
                raise ConfigInvalid("addresses", f"{text!r} is no address with a prefix", "10.0.0.2/32") from None
        for name in ("included", "excluded"):
            _networks(name, getattr(self, name))
        if self.mtu is not None and not _MTU[0] <= self.mtu <= _MTU[1]:
            raise ConfigInvalid("mtu", f"{self.mtu} is out of range", f"{_MTU[0]} to {_MTU[1]}")
        if self.overhead is not None and not 0 <= self.overhead <= _PHYSICAL_MTU - _MTU[0]:
            raise ConfigInvalid("overhead", f"{self.overhead} is out of range", f"0 to {_PHYSICAL_MTU - _MTU[0]}")

    def routes(self, version: int) -> tuple[Network, ...]:
        """The networks of one family that lead into the tunnel, joined where they touch; with `include_all`, all.

        Those within an excluded one stay apart: they are the more specific.
        """
        if not any(ip_interface(text).version == version for text in self.addresses):
            return ()
        wanted = [one for one in _networks("included", self.included) if one.version == version]
        if self.exclude_local and self.dns is not None:  # its own servers are not the local network's
            wanted += [one for one in map(ip_network, self.dns.servers) if one.version == version]
        out = self.left_out(version)
        within = [one for one in wanted if any(one.subnet_of(left) for left in out)]  # type: ignore[arg-type]
        if self.include_all:
            wanted = [IPv4Network("0.0.0.0/0") if version == 4 else IPv6Network("::/0")]
        joined: list[Network] = list(collapse_addresses(wanted))  # type: ignore[type-var]  # of one family
        return tuple(dict.fromkeys((*joined, *within)))

    def left_out(self, version: int) -> tuple[Network, ...]:
        """The networks of one family that do not lead into it, although a wider one does."""
        found = [one for one in _networks("excluded", self.excluded) if one.version == version]
        return (*found, *(one for one in _LOCAL if self.exclude_local and one.version == version))

    def takes_all(self, version: int) -> bool:
        """Whether the tunnel is the way to everywhere: by a default route, or by two halves of one ("def1")."""
        return any(one.prefixlen == 0 for one in self.routes(version))

    def link_mtu(self, physical: int = _PHYSICAL_MTU) -> int:
        """The MTU of the tunnel's device."""
        if self.mtu is not None:
            return self.mtu
        return max(_MTU[0], physical - (80 if self.overhead is None else self.overhead))

    def refusal(self, address: str) -> str | None:
        """Why an address does not go through the tunnel, or `None` when it does."""
        where = ip_address(address)
        if isinstance(where, IPv6Address) and where.ipv4_mapped is not None:
            where = where.ipv4_mapped
        cover = self._cover
        if not cover[where.version][2]:
            return f"the tunnel has no IPv{where.version} address"
        included, excluded, _ = cover[where.version]
        best = max((one.prefixlen for one in included if where in one), default=-1)
        if best < 0:
            return f"no route of the tunnel covers {address}"
        against = max((one.prefixlen for one in excluded if where in one), default=-1)
        return f"{address} is excluded from the tunnel" if against >= best else None

    @cached_property
    def _cover(self) -> dict[int, tuple[tuple[Network, ...], tuple[Network, ...], bool]]:
        """By IP version: what is included, what is excluded, and whether the tunnel has an address at all."""
        found = {}
        for version in (4, 6):
            has = any(ip_interface(text).version == version for text in self.addresses)
            found[version] = (self.routes(version), self.left_out(version), has)
        return found
