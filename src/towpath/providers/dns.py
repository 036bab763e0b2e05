"""What a DNS proxy is told, what it may answer, and how it says whom to ask: frozen values."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from towpath.errors import Misuse
from towpath.providers.verdict import Drop

__all__ = [
    "Answer",
    "NO_SYSTEM_DNS",
    "BlockedAnswer",
    "DNSProxySettings",
    "DNSSettings",
    "DNSVerdict",
    "Forward",
    "NameRule",
    "Refuse",
    "SystemDNSSettings",
]

BlockedAnswer: TypeAlias = Literal["nxdomain", "zero", "refused"]
"""The name does not exist (RFC 8914, Blocked); 0.0.0.0 and ::, where nobody answers; or the server refuses."""

_MOST_TTL = 86400


class Answer(Struct, frozen=True, tag="answer"):
    """Answered here: these addresses, as far as they are of the type that is asked for, for `ttl` seconds.

    >>> Answer(("192.0.2.7",), ttl=60).addresses
    ('192.0.2.7',)

    Without an address of that type the name exists and has none. With `alias` the name is another name for that one,
    whose records are asked for: an entry like a CNAME. Raises `Misuse` for both at once.
    """

    addresses: tuple[str, ...] = ()
    ttl: int = 300
    alias: str = ""

    def __post_init__(self) -> None:
        if self.addresses and self.alias:
            raise Misuse("Answer: addresses or an alias, not both")
        if not 0 <= self.ttl <= _MOST_TTL:
            raise Misuse(f"Answer: ttl is 0 to {_MOST_TTL} seconds, not {self.ttl}")


class Forward(Struct, frozen=True, tag="forward"):
    """Asked of the servers that the settings name for this name, or of the `servers` given here.

    `servers` must be among those of the settings, written as there.
    """

    servers: tuple[str, ...] = ()


class Refuse(Struct, frozen=True, tag="refuse"):
    """Not resolved; people see `reason`, programs what `how` says. Not asked about again for `ttl` seconds."""

    reason: str
    how: BlockedAnswer = "nxdomain"
    ttl: int = 60


DNSVerdict: TypeAlias = Answer | Forward | Refuse | Drop
"""What may be said of a question. `Drop` leaves it unanswered, as a network does that loses it."""


class DNSSettings(Struct, frozen=True):
    """Servers, and for which names they are asked.

    >>> DNSSettings(("tls://dns.test@192.0.2.53",), match_domains=("home.test",)).mode
    'failover'

    A server is `ADDRESS`, `ADDRESS#PORT` or `SCHEME://NAME[@ADDRESS,...][:PORT][/PATH]`, where the scheme is udp, tcp,
    tls (RFC 7858), https (RFC 8484) or quic (RFC 9250). Addresses behind the @ are where the name leads: it has to be
    looked up by the system's servers otherwise. NAME, or the ADDRESS where there is none, is what the certificate must
    be for.

    `match_domains`: only these names, and what is below them, are asked for here; () is every name. The most specific
    domain wins. `mode`: "failover" asks the first that is well and the next when it does not answer, "race" asks two at
    once. `allow_failover`: when none of these answers, the servers for every name are asked. `certificate_authority` is
    a PEM file of the authorities to trust instead of the system's, `identity` one with a certificate and its key, to be
    shown to servers that ask for it. Both must stand in the provider's own config, where a user allowed them.

    `requires_dnssec`: answers are validated (RFC 4033 to 4035). One that its zone did not sign so is SERVFAIL, with the
    reason as an Extended DNS Error; one that nobody signs, which the zones above have to say, passes. A question with
    the CD bit gets the answer as it came. `trust_anchors` are DS or DNSKEY records as zone files have them, beside the
    root's or instead of them: `"lab.test. IN DS 31742 13 2 74EA..."`.

    `search`: domains that short names are tried in, by the programs of a run, before those that a tunnel names and in
    place of the system's; they are told when the run begins. Without `servers` those of the system are asked.
    """

    servers: tuple[str, ...] = ()
    match_domains: tuple[str, ...] = ()
    mode: Literal["failover", "race"] = "failover"
    allow_failover: bool = False
    certificate_authority: str = ""
    identity: str = ""
    requires_dnssec: bool = False
    trust_anchors: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


class NameRule(Struct, frozen=True):
    """What becomes of questions for a domain and all below it, before any code is called. "ask" asks the hook."""

    action: Literal["forward", "refuse", "ask"]
    domain: str


class DNSProxySettings(Struct, frozen=True):
    """How a DNS proxy works; everything has a default.

    `settings`: servers, none for those of the system. `rules`: the most specific decides; without one, `handle_query`
    does. `cache`: bytes of memory for answers. `expired`: whether an answer may be given when its time has passed,
    while it is renewed (RFC 8767). `per_asker`: what is answered depends on who asks, so nothing is answered without
    asking the hook; what was forwarded is kept all the same. `mixed_case`: spell names in random case, which an answer
    must repeat (0x20); some servers break on it.
    """

    settings: tuple[DNSSettings, ...] = ()
    rules: tuple[NameRule, ...] = ()
    cache: int = 32 << 20
    expired: Literal["prohibit", "allow"] = "prohibit"
    per_asker: bool = False
    mixed_case: bool = False


class SystemDNSSettings(Struct, frozen=True):
    """What the system itself would ask: resolv.conf(5)."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


NO_SYSTEM_DNS = SystemDNSSettings()
"""Nothing is known of the system."""
