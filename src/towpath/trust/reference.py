"""Who we meant to talk to, and whether a certificate says it is that (RFC 9525).

Identity comes from the subject alternative names alone: the common name is never read.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum

import idna
from cryptography import x509

from towpath.errors import Misuse

__all__ = ["Kind", "Reference", "dns_matches", "dns_syntax_fault", "mailbox_syntax_fault", "wildcard_base"]

_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z", re.IGNORECASE | re.ASCII)
_LDH_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", re.IGNORECASE | re.ASCII)
_DOTTED_QUAD = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}\Z", re.ASCII)


class Kind(StrEnum):
    """The kinds of name that a peer can be known by."""

    DNS = "DNS name"
    IP = "IP address"
    MAILBOX = "mailbox"


@dataclass(frozen=True, slots=True)
class Reference:
    """The name a peer must prove.

    ::

        Reference.parse("www.example.com"), Reference.parse("[2001:db8::1]"), Reference.parse("bücher.example")
    """

    kind: Kind
    value: str
    """A-labels in lower case without a trailing dot; an address in its shortest text; a mailbox as written."""

    def __str__(self) -> str:
        return self.value

    @classmethod
    def parse(cls, text: str | Reference) -> Reference:
        """Reads a host name (also Unicode), an IP address (brackets and zone allowed) or a mailbox; raises `Misuse`."""
        if isinstance(text, Reference):
            return text
        address = text.removeprefix("[").removesuffix("]").split("%", 1)[0]
        try:
            return cls(Kind.IP, str(ipaddress.ip_address(address)))
        except ValueError:
            pass
        if "@" in text:
            return cls._mailbox(text)
        return cls(Kind.DNS, _to_ascii(text))

    @classmethod
    def _mailbox(cls, text: str) -> Reference:
        fault = mailbox_syntax_fault(text)
        if fault:
            raise Misuse(f"{text!r} is no mailbox: {fault}")
        return cls(Kind.MAILBOX, text)

    def matches(self, presented: x509.GeneralName) -> bool:
        """Whether one alternative name is this name."""
        match self.kind, presented:
            case Kind.DNS, x509.DNSName(value=pattern):
                return dns_matches(pattern, self.value)
            case Kind.IP, x509.IPAddress(value=address):
                return str(address) == self.value
            case Kind.MAILBOX, x509.RFC822Name(value=mailbox):
                return _mailbox_key(mailbox) == _mailbox_key(self.value)
        return False


def _to_ascii(text: str) -> str:
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except (idna.IDNAError, UnicodeError) as error:
            raise Misuse(f"{text!r} is no host name: {error}") from error
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.match(label) for label in labels):
        raise Misuse(f"{text!r} is no host name: labels are 1 to 63 letters, digits and hyphens, 253 in all")
    if labels[-1].isdigit():
        # Whoever writes 192.0.2.300 means an address; a DNS name in a certificate must not stand in for it.
        raise Misuse(f"{text!r} is no host name: its last label is a number, and it is no IP address")
    return name.lower()


def dns_matches(pattern: str, name: str) -> bool:
    """RFC 9525 §6.3: equal labels, or ``*`` as the whole left-most label for exactly one label.

    `name` is in A-labels and lower case. A wildcard needs two labels after it: ``*.com`` matches nothing.
    """
    if not pattern.isascii():
        return False
    pattern = pattern.lower()
    base = wildcard_base(pattern)
    if base is None:
        return pattern == name and "*" not in pattern
    if "*" in base or "." not in base:
        return False
    first, _, rest = name.partition(".")
    return bool(first) and rest == base


def wildcard_base(pattern: str) -> str | None:
    """What follows ``*.`` in a wildcard name, or `None` for any other name."""
    return pattern[2:] if pattern.startswith("*.") else None


def dns_syntax_fault(pattern: str) -> str:
    """Why a DNS name of a certificate breaks the preferred name syntax (RFC 5280 §4.2.1.6), or an empty text."""
    name = pattern.removeprefix("*.")
    if not name:
        return "it is empty"
    if not name.isascii():
        return "it is not in A-labels"
    if _DOTTED_QUAD.match(name) or ":" in name:
        return "it is an IP address, which belongs into an iPAddress entry"
    if len(name) > 253:
        return "it is longer than 253 characters"
    for label in name.split("."):
        if not label:
            return "it has an empty label"
        if "*" in label:
            return "a wildcard must be the whole left-most label"
        if not _LDH_LABEL.match(label):
            return f"the label {label!r} is not letters, digits and inner hyphens"
    return ""


def mailbox_syntax_fault(text: str) -> str:
    """Why a text is no mailbox of the form local@host (RFC 5321 §4.1.2, without quoted local parts)."""
    local, at, host = text.partition("@")
    if not at or not local or not host:
        return "it is not local@host"
    if "@" in host:
        return "it has more than one @"
    if any(not _LABEL.match(label) for label in host.split(".")):
        return "its host is no host name"
    return ""


def _mailbox_key(text: str) -> tuple[str, str]:
    local, _, host = text.rpartition("@")
    return local, host.lower()
