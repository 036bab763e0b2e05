"""wg-quick(8) files: what a provider of WireGuard gives its customers. wg(8), "CONFIGURATION FILE FORMAT".

Every mistake is a `ConfigInvalid` that names the file and the line. No message, `repr` or traceback shows a secret.
"""

from __future__ import annotations

import base64
import binascii
import difflib
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_interface, ip_network

from towpath.errors import ConfigInvalid
from towpath.extensions.wireguard.noise import PrivateKey
from towpath.providers import DnsSettings

__all__ = ["PeerConfig", "WireGuardConfig", "read_config"]

_INTERFACE = ("PrivateKey", "ListenPort", "FwMark", "Address", "DNS", "MTU", "Table", "PreUp", "PostUp", "PreDown",
              "PostDown", "SaveConfig")  # fmt: skip
_PEER = ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive")
_MANY = ("Address", "DNS", "AllowedIPs")
_COMMANDS = ("PreUp", "PostUp", "PreDown", "PostDown")
_REASONS = {
    **dict.fromkeys(_COMMANDS, "no command of the file is run"),
    "Table": "its routes hang on the tunnel's own device",
    "FwMark": "its datagrams stay off the tunnel without a mark",
    "SaveConfig": "the file is only read",
}
_AMNEZIA = ("jc", "jmin", "jmax", "s1", "s2", "s3", "s4", "h1", "h2", "h3", "h4", "i1", "i2", "i3", "i4", "i5")
_SECTIONS = "[Interface], then one [Peer] or more"
_MTU = (1280, 65_000)


@dataclass(frozen=True)
class PeerConfig:
    """A `[Peer]`. `endpoint` is a host and a port, and `endpoint_line` where it stands, 0 without one."""

    public_key: bytes
    preshared_key: bytes | None = field(default=None, repr=False)
    allowed: tuple[IPv4Network | IPv6Network, ...] = ()
    endpoint: tuple[str, int] | None = None
    keepalive: int = 0
    endpoint_line: int = 0


@dataclass(frozen=True)
class WireGuardConfig:
    """A wg-quick file. `ignored` says what of it has no effect here, and why; `not_run` are such lines with commands.

    `match` are the domains that DNS gives as ``~DOMAIN``, after systemd-resolved: only their names go to `dns`.

    >>> text = '''[Interface]
    ... PrivateKey = YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=
    ... Address = 10.0.0.2/32
    ... [Peer]
    ... PublicKey = YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=
    ... AllowedIPs = 0.0.0.0/0
    ... Endpoint = vpn.test:51820
    ... '''
    >>> read_config(text, "wg0.conf").peers[0].endpoint
    ('vpn.test', 51820)
    """

    private_key: PrivateKey
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    peers: tuple[PeerConfig, ...]
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    match: tuple[str, ...] = ()
    mtu: int | None = None
    listen_port: int | None = None
    ignored: tuple[str, ...] = ()
    not_run: tuple[str, ...] = ()


class _Line:
    __slots__ = ("key", "number", "value")

    def __init__(self, key: str, value: str, number: int) -> None:
        self.key = key
        self.value = value
        self.number = number


class _Section:
    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.lines: dict[str, list[_Line]] = {}


def read_config(text: str, where: str) -> WireGuardConfig:
    """Reads a file's text; `where` is its name. Raises `ConfigInvalid`."""
    return _Reader(where).read(text)


class _Reader:
    def __init__(self, where: str) -> None:
        self._where = where

    def _fault(self, number: int, reason: str, hint: str | None = None) -> ConfigInvalid:
        return ConfigInvalid(f"{self._where}:{number}" if number else self._where, reason, hint)

    def read(self, text: str) -> WireGuardConfig:
        interface: _Section | None = None
        peers: list[_Section] = []
        for section in self._sections(text):
            if section.name == "peer":
                peers.append(section)
            elif interface is not None:
                raise self._fault(section.number, f"a second [Interface]; the first is in line {interface.number}")
            else:
                interface = section
        if interface is None:
            raise self._fault(0, "there is no [Interface]", f"a wg-quick file has {_SECTIONS}")
        if not peers:
            raise self._fault(0, "there is no [Peer]", f"a wg-quick file has {_SECTIONS}")
        read = [self._peer(section) for section in peers]
        known: dict[bytes, int] = {}
        for section, peer in zip(peers, read, strict=True):
            if peer.public_key in known:
                line = section.lines["PublicKey"][0].number
                raise self._fault(line, f"the peer of line {known[peer.public_key]} has the same PublicKey")
            known[peer.public_key] = section.lines["PublicKey"][0].number
        config = self._interface(interface, tuple(read), self._taken(peers, read))
        if config.listen_port is None and not any(peer.endpoint for peer in read):
            hint = "Endpoint = HOST:PORT in [Peer]; for a server, ListenPort in [Interface]"
            raise self._fault(peers[0].number, "no peer has an Endpoint, and there is no ListenPort", hint)
        if not any(peer.allowed for peer in read):
            hint = "AllowedIPs = 0.0.0.0/0, ::/0 in [Peer] for everything"
            raise self._fault(peers[0].number, "no peer has AllowedIPs: nothing would go through the tunnel", hint)
        return config

    def _sections(self, text: str) -> list[_Section]:
        found: list[_Section] = []
        for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
            line = raw.partition("#")[0].strip()
            if not line:
                continue
            if line.startswith("["):
                name = line.strip("[]").strip().lower()
                if name not in ("interface", "peer") or not line.endswith("]"):
                    raise self._fault(number, f"unknown section {line!r}", f"a wg-quick file has {_SECTIONS}")
                found.append(_Section(name, number))
                continue
            key, equals, value = (part.strip() for part in line.partition("="))
            if not equals:
                # The line may hold a key that was pasted without its name: it is not repeated.
                raise self._fault(number, "this is neither a [Section] nor KEY = VALUE")
            if not found:
                raise self._fault(number, f"{key} stands before any section", f"a wg-quick file has {_SECTIONS}")
            self._put(found[-1], key, value, number)
        return found

    def _put(self, section: _Section, key: str, value: str, number: int) -> None:
        known = _INTERFACE if section.name == "interface" else _PEER
        proper = next((one for one in known if one.lower() == key.lower()), None)
        if proper is None:
            other = _PEER if section.name == "interface" else _INTERFACE
            there = next((one for one in other if one.lower() == key.lower()), None)
            if there:
                raise self._fault(number, f"{there} does not belong into [{section.name.capitalize()}]")
            if key.lower() in _AMNEZIA:
                hint = "ask for a file of plain WireGuard"
                raise self._fault(number, f"{key} is of AmneziaWG, another protocol that is not spoken here", hint)
            close = difflib.get_close_matches(key, known, 1)
            raise self._fault(number, f"unknown key {key!r}", f"is it {close[0]}?" if close else ", ".join(known))
        if not value:
            raise self._fault(number, f"{proper} has no value")
        lines = section.lines.setdefault(proper, [])
        if lines and proper not in _MANY and proper not in _REASONS:
            raise self._fault(number, f"{proper} stands already in line {lines[0].number}")
        lines.append(_Line(proper, value, number))

    def _one(self, section: _Section, key: str) -> _Line | None:
        lines = section.lines.get(key)
        return lines[0] if lines else None

    def _words(self, section: _Section, key: str) -> list[tuple[str, int]]:
        found = []
        for line in section.lines.get(key, ()):
            for word in line.value.split(","):
                if not word.strip():
                    raise self._fault(line.number, f"{key}: an empty entry between commas")
                found.append((word.strip(), line.number))
        return found

    def _key(self, section: _Section, name: str) -> bytes | None:
        line = self._one(section, name)
        if line is None:
            return None
        try:
            raw = base64.b64decode(line.value, validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if len(raw) != 32:
            length = f": it has {len(line.value)} characters" if len(line.value) != 44 else ""
            hint = "44 characters that end in '=', as wg genkey or towpath tunnel keygen make them"
            raise self._fault(line.number, f"{name} is not a key in base64{length}", hint) from None
        return raw

    def _number(self, section: _Section, key: str, least: int, most: int) -> int | None:
        line = self._one(section, key)
        if line is None:
            return None
        if not (line.value.isascii() and line.value.isdigit() and least <= int(line.value[:9]) <= most):
            raise self._fault(line.number, f"{key} cannot be {line.value!r}", f"{least} to {most}")
        return int(line.value)

    def _taken(self, sections: list[_Section], peers: list[PeerConfig]) -> list[str]:
        """A prefix has one peer; of two that name it the last has it, as in the kernel."""
        owner: dict[object, int] = {}
        found = []
        for section, peer in zip(sections, peers, strict=True):
            for prefix in dict.fromkeys(peer.allowed):
                if prefix in owner:
                    line = section.lines["AllowedIPs"][0].number
                    what = f"AllowedIPs: {prefix} has no effect at the [Peer] of line {owner[prefix]}"
                    found.append(f"{self._where}:{line}: {what}: this later one has it")
                owner[prefix] = section.number
        return found

    def _interface(self, section: _Section, peers: tuple[PeerConfig, ...], taken: list[str]) -> WireGuardConfig:
        secret = self._key(section, "PrivateKey")
        if secret is None:
            raise self._fault(section.number, "[Interface] has no PrivateKey", "towpath tunnel keygen makes one")
        addresses = []
        for word, number in self._words(section, "Address"):
            try:
                addresses.append(ip_interface(word))
            except ValueError:
                raise self._fault(number, f"Address: {word!r} is no address", "for example 10.0.0.2/32") from None
        if not addresses:
            raise self._fault(section.number, "[Interface] has no Address", "for example Address = 10.0.0.2/32")
        dns, match, search = self._dns(section)
        private = PrivateKey(secret)
        own = [
            f"{self._where}: the [Peer] with {base64.b64encode(peer.public_key).decode()} has no effect: that is the "
            "PublicKey of this file's own PrivateKey, and the other side's is wanted"
            for peer in peers
            if peer.public_key == private.public
        ]
        return WireGuardConfig(
            private_key=private,
            addresses=tuple(addresses),
            peers=peers,
            dns=dns,
            search=search,
            match=match,
            mtu=self._number(section, "MTU", *_MTU),
            listen_port=self._number(section, "ListenPort", 0, 65_535),
            ignored=(*self._ignored(section, tuple(_REASONS)), *taken, *own),
            not_run=self._ignored(section, _COMMANDS),
        )

    def _ignored(self, section: _Section, keys: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(
            f"{self._where}:{lines[0].number}: {key} has no effect: {_REASONS[key]}"
            for key, lines in section.lines.items()
            if key in keys
        )

    def _dns(self, section: _Section) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Servers, domains that are theirs alone, search domains."""
        servers: list[str] = []
        match: list[str] = []
        search: list[str] = []
        for word, number in self._words(section, "DNS"):
            try:
                servers.append(str(ip_address(word)))
                continue
            except ValueError:
                pass
            try:
                DnsSettings(match_domains=(word.removeprefix("~").rstrip("."),))
            except ConfigInvalid:
                hint = "addresses of servers, search domains, and ~DOMAIN for what only they are asked for"
                raise self._fault(number, f"DNS: {word!r} is no address and no domain", hint) from None
            domain = word.rstrip(".")
            if domain.startswith("~"):
                match.append(domain[1:])
            elif domain:
                search.append(domain)
        if match and not servers:
            first = section.lines["DNS"][0].number
            raise self._fault(first, f"DNS: ~{match[0]} without a server", "DNS = ADDRESS, ~DOMAIN")
        return tuple(servers), tuple(match), tuple(search)

    def _peer(self, section: _Section) -> PeerConfig:
        public = self._key(section, "PublicKey")
        if public is None:
            raise self._fault(section.number, "[Peer] has no PublicKey")
        allowed = []
        for word, number in self._words(section, "AllowedIPs"):
            try:
                allowed.append(ip_network(word, strict=False))
            except ValueError:
                raise self._fault(number, f"AllowedIPs: {word!r} is no prefix", "for example 0.0.0.0/0, ::/0") from None
        keepalive = self._one(section, "PersistentKeepalive")
        off = keepalive is not None and keepalive.value.lower() == "off"
        endpoint = self._one(section, "Endpoint")
        return PeerConfig(
            public_key=public,
            preshared_key=self._key(section, "PresharedKey"),
            allowed=tuple(allowed),
            endpoint=self._endpoint(endpoint) if endpoint is not None else None,
            keepalive=0 if off else self._number(section, "PersistentKeepalive", 0, 65_535) or 0,
            endpoint_line=endpoint.number if endpoint is not None else 0,
        )

    def _endpoint(self, line: _Line) -> tuple[str, int]:
        host, colon, port = line.value.rpartition(":")
        bracketed = host.startswith("[") and host.endswith("]")
        if bracketed:
            host = host[1:-1]
        right = colon and host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536
        if not right or (":" in host) != bracketed or " " in host:
            hint = "HOST:PORT, an IPv6 address in brackets: vpn.example.org:51820, [2001:db8::1]:51820"
            raise self._fault(line.number, f"Endpoint cannot be {line.value!r}", hint)
        if bracketed:
            try:
                host = str(ip_address(host))
            except ValueError:
                raise self._fault(line.number, f"Endpoint: {host!r} is no IPv6 address") from None
        return host, int(port)
