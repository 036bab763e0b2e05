"""Name constraints over a path (RFC 5280 §4.2.1.10), with a work budget.

A wildcard name stands for every name it can match: it is refused when one of those is excluded, or not permitted.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from cryptography import x509

from towpath.trust.certificate import Certificate, NameKey, name_key
from towpath.trust.reference import dns_syntax_fault, mailbox_syntax_fault, wildcard_base

__all__ = ["MAX_COMPARISONS", "ConstraintFault", "faults", "syntax_fault"]

MAX_COMPARISONS = 1 << 18
"""Names times constraints of one path; beyond it the path is refused rather than judged."""


class ConstraintFault(NamedTuple):
    """The certificate whose name is refused, the name, and the constraint's demand."""

    position: int
    observed: str
    required: str


class _Subtrees(NamedTuple):
    owner: Certificate
    permitted: dict[type[x509.GeneralName], list[x509.GeneralName]]
    excluded: dict[type[x509.GeneralName], list[x509.GeneralName]]


def faults(path: Sequence[Certificate]) -> list[ConstraintFault] | None:
    """Every refused name, leaf first in `path`; `None` when no certificate of the path constrains names."""
    active: list[_Subtrees] = []
    found: list[ConstraintFault] = []
    budget = MAX_COMPARISONS
    for index in range(len(path) - 1, -1, -1):
        certificate = path[index]
        if active and (index == 0 or not certificate.self_issued):
            names = list(_names(certificate))
            budget -= _work(names, active)
            if budget < 0:
                text = f"more than {MAX_COMPARISONS} comparisons of names and constraints"
                return [ConstraintFault(index, text, "a number of names and constraints that can be checked")]
            found.extend(_judge(index, names, active))
        constraints = certificate.value(x509.NameConstraints)
        if constraints is not None and index > 0:
            active.append(
                _Subtrees(
                    certificate,
                    _by_kind(constraints.permitted_subtrees or ()),
                    _by_kind(constraints.excluded_subtrees or ()),
                )
            )
    return found if active else None


def _by_kind(names: Iterable[x509.GeneralName]) -> dict[type[x509.GeneralName], list[x509.GeneralName]]:
    grouped: dict[type[x509.GeneralName], list[x509.GeneralName]] = defaultdict(list)
    for name in names:
        grouped[type(name)].append(name)
    return grouped


def _names(certificate: Certificate) -> Iterator[x509.GeneralName]:
    yield from certificate.alternative_names
    if len(certificate.subject.rdns):
        yield x509.DirectoryName(certificate.subject)
    if not any(isinstance(name, x509.RFC822Name) for name in certificate.alternative_names):
        for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS):
            if isinstance(attribute.value, str) and attribute.value.isascii():
                yield x509.RFC822Name(attribute.value)


def _work(names: list[x509.GeneralName], active: list[_Subtrees]) -> int:
    counts: dict[type[x509.GeneralName], int] = defaultdict(int)
    for name in names:
        # A distinguished name is compared part by part, and may itself have thousands.
        counts[type(name)] += len(name.value.rdns) if isinstance(name, x509.DirectoryName) else 1
    return sum(
        count * (len(tree.permitted.get(kind, ())) + len(tree.excluded.get(kind, ())))
        for tree in active
        for kind, count in counts.items()
    )


def _judge(index: int, names: list[x509.GeneralName], active: list[_Subtrees]) -> Iterator[ConstraintFault]:
    for name in names:
        for tree in active:
            kind = type(name)
            permitted, excluded = tree.permitted.get(kind, []), tree.excluded.get(kind, [])
            if not permitted and not excluded:
                continue
            compare = _COMPARE.get(kind)
            shown, owner = _show(name), tree.owner.label
            malformed = _malformed(name)
            if compare is None:
                yield ConstraintFault(
                    index, shown, f"no name of this form: {owner!r} constrains it and it cannot be compared"
                )
            elif malformed:
                yield ConstraintFault(
                    index, f"{shown}: {malformed}", f"a name that the constraints of {owner!r} can judge"
                )
            elif any(compare(name, subtree, False) for subtree in excluded):
                yield ConstraintFault(index, shown, f"not excluded by {owner!r}")
            elif permitted and not any(compare(name, subtree, True) for subtree in permitted):
                allowed = ", ".join(_show(subtree) for subtree in permitted[:5])
                yield ConstraintFault(index, shown, f"within what {owner!r} permits: {allowed}")


def _show(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DirectoryName):
        return name.value.rfc4514_string()[:200]
    return f"{type(name).__name__} {getattr(name, 'value', name)!s}"[:200]


def _malformed(name: x509.GeneralName) -> str:
    match name:
        case x509.DNSName(value=text):
            return (
                ""
                if text.removeprefix("*.").replace("_", "a") and not dns_syntax_fault(text.replace("_", "a"))
                else (dns_syntax_fault(text) or "it is empty")
            )
        case x509.RFC822Name(value=text):
            return mailbox_syntax_fault(text)
        case x509.IPAddress(value=ipaddress.IPv4Network() | ipaddress.IPv6Network()):
            return "it is a network, not an address"
    return ""


def _under(name: str, base: str) -> bool:
    return name == base or name.endswith("." + base)


def _dns(name: x509.GeneralName, subtree: x509.GeneralName, permitting: bool) -> bool:
    presented, base = str(name.value).lower(), str(subtree.value).lower()
    if base.startswith("."):
        # Not the RFC's form; where it is let through it means at least one more label.
        return presented.endswith(base)
    if not base:
        return True
    suffix = wildcard_base(presented)
    if suffix is None or permitting:
        return _under(presented, base) if suffix is None else _under(suffix, base)
    one_label_above = base.partition(".")[2] == suffix
    return _under(suffix, base) or one_label_above


def _mailbox(name: x509.GeneralName, subtree: x509.GeneralName, permitting: bool) -> bool:
    local, _, host = str(name.value).rpartition("@")
    wanted_local, at, wanted_host = str(subtree.value).rpartition("@")
    if at:
        return local == wanted_local and host.lower() == wanted_host.lower()
    return _host(host.lower(), wanted_host.lower())


def _host(host: str, wanted: str) -> bool:
    return host.endswith(wanted) and host != wanted if wanted.startswith(".") else host == wanted


def _uri(name: x509.GeneralName, subtree: x509.GeneralName, permitting: bool) -> bool:
    try:
        host = urlsplit(str(name.value)).hostname
    except ValueError:
        host = None
    if not host or host.replace(".", "").isdigit() or ":" in host:
        # RFC 5280: a URI without a host name cannot satisfy a constraint; nor may it slip past an exclusion.
        return not permitting
    return _host(host.lower(), str(subtree.value).lower())


def _address(name: x509.GeneralName, subtree: x509.GeneralName, permitting: bool) -> bool:
    address, network = name.value, subtree.value
    if not isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return not permitting
    return address in network


def _directory(name: x509.GeneralName, subtree: x509.GeneralName, permitting: bool) -> bool:
    presented, base = _key(name.value), _key(subtree.value)
    return presented[: len(base)] == base


def _key(name: x509.Name) -> NameKey:
    return name_key(name)


_COMPARE: dict[type[x509.GeneralName], Callable[[x509.GeneralName, x509.GeneralName, bool], bool]] = {
    x509.DNSName: _dns,
    x509.RFC822Name: _mailbox,
    x509.UniformResourceIdentifier: _uri,
    x509.IPAddress: _address,
    x509.DirectoryName: _directory,
}


def syntax_fault(constraints: x509.NameConstraints) -> str:
    """Why constraints are not written as RFC 5280 §4.2.1.10 has them, or an empty text."""
    for subtree in (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ())):
        match subtree:
            case x509.DNSName(value=text) if text.startswith("."):
                return f"the DNS constraint {text!r} begins with a period"
            case x509.DNSName(value=text) if text and dns_syntax_fault(text.replace("_", "a")):
                return f"the DNS constraint {text!r}: {dns_syntax_fault(text)}"
            case x509.RFC822Name(value=text) if "@" in text and mailbox_syntax_fault(text):
                return f"the mail constraint {text!r}: {mailbox_syntax_fault(text)}"
            case x509.IPAddress(value=ipaddress.IPv4Address() | ipaddress.IPv6Address()):
                return f"the address constraint {subtree.value} has no mask"
    return ""
