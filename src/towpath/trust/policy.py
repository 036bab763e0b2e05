"""Policies: which families of rules a chain is held to, and the bounds of the path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import ClassVar

from towpath.errors import Misuse
from towpath.trust.certificate_policies import PolicyInputs
from towpath.trust.pins import Pins

__all__ = ["Family", "Policy", "Purpose"]


class Family(StrEnum):
    """A body of rules from one kind of source."""

    CORE = "core"
    """Path validation and the identity of a TLS server: RFC 5280 §6, RFC 9525. In every policy."""
    PROFILE = "rfc5280"
    """What RFC 5280 §4 demands of conforming certificates."""
    NAME_CONSTRAINTS_CRITICAL = "rfc5280-nc"
    """RFC 5280's demand that name constraints are critical, which the Baseline Requirements waive."""
    WEB = "web"
    """The CA/Browser Forum's Baseline Requirements, as far as a certificate shows them."""
    APPLE = "apple"
    """Apple's requirements for trusted certificates and transport security."""


class Purpose(StrEnum):
    """What the leaf is used for: an extended key usage, dotted."""

    SERVER = "1.3.6.1.5.5.7.3.1"
    CLIENT = "1.3.6.1.5.5.7.3.2"


@dataclass(frozen=True)
class Policy:
    """What a chain is held to.

    `Policy.rfc5280`, `Policy.web` and `Policy.apple` are the named ones; the last is the default of connections. ::

        Policy.apple.pinned(Pins.parse(leaves=["..."]))
        Policy.rfc5280.for_clients()
    """

    name: str
    families: frozenset[Family]
    purpose: Purpose = Purpose.SERVER
    max_intermediates: int = 8
    """Certificates between leaf and anchor, self-issued ones not counted."""
    pins: Pins = Pins()
    certificate_policies: PolicyInputs = PolicyInputs()
    require_revocation: bool = False
    """Every certificate below the anchor must have a revocation list, or the leaf a staple, that calls it good."""
    public_suffix: Callable[[str], bool] | None = None
    """Says whether a name is a public suffix; without it only ``*.`` over a single label is known to be one."""
    smallest_key: bool = True
    """Whether the policy's demand on key sizes stands: without forward secrecy the transport policy drops it."""

    basic: ClassVar[Policy]
    rfc5280: ClassVar[Policy]
    web: ClassVar[Policy]
    apple: ClassVar[Policy]

    @classmethod
    def named(cls, name: str) -> Policy:
        """``basic``, ``rfc5280``, ``web`` or ``apple``; raises `Misuse`."""
        found = NAMED.get(name)
        if found is None:
            raise Misuse(f"no policy is called {name!r}: there are {', '.join(NAMED)}")
        return found

    def for_clients(self) -> Policy:
        """The same for the certificate of a client."""
        return replace(self, purpose=Purpose.CLIENT)

    def pinned(self, pins: Pins) -> Policy:
        """The same, and the path must show these keys."""
        return replace(self, pins=pins)


Policy.basic = Policy("basic", frozenset({Family.CORE}))
Policy.rfc5280 = Policy("rfc5280", frozenset({Family.CORE, Family.PROFILE, Family.NAME_CONSTRAINTS_CRITICAL}))
Policy.web = Policy("web", frozenset({Family.CORE, Family.PROFILE, Family.WEB}))
Policy.apple = Policy("apple", frozenset({Family.CORE, Family.APPLE}))

NAMED = {policy.name: policy for policy in (Policy.basic, Policy.rfc5280, Policy.web, Policy.apple)}
