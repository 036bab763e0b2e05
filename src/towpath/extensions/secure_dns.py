# /// script
# [tool.towpath.extension]
# id = "secure-dns"
# version = "1.0"
# kind = "dns-proxy"
# class = "SecureDns"
# capabilities = ["dns-proxy"]
# memory = 512
# ///
"""Encrypted names, block lists, rewrites and servers by domain, for one command.

    # secure_dns.toml; every key may be left out
    servers = ["https://dns.example@192.0.2.53/dns-query"]   # none: the system's
    mode = "failover"                  # or "race": two at once
    requires_dnssec = false            # true: what its zone did not sign is not resolved
    trust_anchors = []                 # DS or DNSKEY records, beside the root's or, for ".", instead of them
    search = ["corp.example"]          # domains that short names are tried in; none: the system's
    expired = "prohibit"               # or "allow": an old answer at once, while it is renewed
    block_lists = ["ads.txt"]          # hosts files, lists of domains, AdBlock's ||domain^ and @@||domain^
    block = ["telemetry.example"]      # a domain and all below it
    allow_lists = []
    allow = ["cdn.ads.example"]        # wins over every block
    blocked = "nxdomain"               # or "zero" (0.0.0.0 and ::), or "refused"

    [rewrites]                         # a name, or *.domain for all below it
    "printer.home" = ["192.0.2.9"]     # addresses
    "www.search.example" = "safe.search.example"   # another name

    [[domains]]                        # these names, and all below them, from servers of their own
    match = ["corp.example"]
    servers = ["198.51.100.53"]
    allow_failover = false
    requires_dnssec = false            # for these names

    [[apps]]                           # the first that matches; a name, or a path with * in it
    program = "curl"
    action = "allow"                   # no blocking; "block": nothing is resolved; "ask": as for all, and:
    block = []

Paths are relative to the folder of the config. With --reload, what changes is taken over, or the old stays.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Literal

import msgspec

from towpath.extensions.support.block_list import BlockList
from towpath.providers import (
    Answer,
    BlockedAnswer,
    DNSProxyProvider,
    DNSProxySettings,
    DNSSettings,
    DNSVerdict,
    Forward,
    Owner,
    Question,
    Refuse,
)

__all__ = ["App", "Config", "Domain", "SecureDns"]


class Domain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Names that are asked for elsewhere."""

    match: tuple[str, ...]
    servers: tuple[str, ...] = ()
    mode: Literal["failover", "race"] = "failover"
    allow_failover: bool = False
    requires_dnssec: bool = False


class App(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What holds for one program."""

    program: str
    action: Literal["allow", "block", "ask"] = "ask"
    block: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """See the module."""

    servers: tuple[str, ...] = ()
    mode: Literal["failover", "race"] = "failover"
    requires_dnssec: bool = False
    trust_anchors: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    expired: Literal["prohibit", "allow"] = "prohibit"
    cache: int = 32 << 20
    block_lists: tuple[str, ...] = ()
    block: tuple[str, ...] = ()
    allow_lists: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    blocked: BlockedAnswer = "nxdomain"
    rewrites: dict[str, str | tuple[str, ...]] = {}
    domains: tuple[Domain, ...] = ()
    apps: tuple[App, ...] = ()
    certificate_authority: str = ""
    identity: str = ""
    mixed_case: bool = False


class SecureDns(DNSProxyProvider[Config]):
    """The proxy; see the module."""

    def start(self) -> DNSProxySettings:
        config = self.config
        self._lists = BlockList()
        self._lists.add_domains("block", config.block)
        self._lists.add_domains("allow", config.allow, allow=True)
        for path in config.allow_lists:
            self._read(path, allow=True)
        for path in config.block_lists:
            self._read(path, allow=False)
        self._lists.seal()
        self._apps = [(app, BlockList.of(f"apps: {app.program}", app.block)) for app in config.apps]
        self._rewrites = {name.strip(".").lower(): target for name, target in config.rewrites.items()}
        everyone = Domain((), config.servers, config.mode, requires_dnssec=config.requires_dnssec)
        everything = [everyone] if config.servers or config.requires_dnssec or config.search else []
        return DNSProxySettings(
            tuple(
                DNSSettings(
                    domain.servers,
                    domain.match,
                    domain.mode,
                    domain.allow_failover,
                    config.certificate_authority,
                    config.identity,
                    domain.requires_dnssec,
                    config.trust_anchors,
                    () if domain.match else config.search,
                )
                for domain in (*everything, *config.domains)
            ),
            cache=config.cache,
            expired=config.expired,
            per_asker=bool(config.apps),
            mixed_case=config.mixed_case,
        )

    def handle_query(self, query: Question) -> DNSVerdict:
        name = query.name
        rewritten = self._rewrite(name)
        if rewritten is not None:
            return Answer(alias=rewritten) if isinstance(rewritten, str) else Answer(rewritten)
        for app, blocked in self._apps:
            if _is(app.program, query.owner):
                if app.action == "allow":
                    return Forward()
                if app.action == "block":
                    return Refuse(f"nothing is resolved for {app.program}", self.config.blocked)
                by = blocked.find(name)
                if by is not None:
                    return Refuse(f"{by} block it", self.config.blocked)
                break
        by = self._lists.find(name)
        return Forward() if by is None else Refuse(f"it is on {by}", self.config.blocked)

    def _read(self, path: str, *, allow: bool) -> None:
        with open(self.context.path(path), "rb") as file:
            count, skipped = self._lists.add_lines(path, file, allow=allow)
        unread = f", {skipped} lines are of another kind" if skipped else ""
        self.log(f"{path}: {count} names{unread}")

    def _rewrite(self, name: str) -> str | tuple[str, ...] | None:
        rewrites = self._rewrites
        if not rewrites:
            return None
        found = rewrites.get(name)
        while found is None and "." in name:
            name = name.partition(".")[2]
            found = rewrites.get(f"*.{name}")
        return found


def _is(program: str, owner: Owner | None) -> bool:
    if owner is None:
        return False
    if "/" in program:
        return owner.executable is not None and fnmatchcase(owner.executable, program)
    return fnmatchcase(owner.program, program)
