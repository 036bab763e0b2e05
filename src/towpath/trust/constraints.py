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

from towpath.trust.certificate import Certificate, name_key
from towpath.trust.reference import dns_syntax_fault, mailbox_syntax_fault, wildcard_base

__all__ = ["MAX_COMPARISONS", "ConstraintFault", "faults", "syntax_fault"]

MAX_COMPARISONS = 1 << 20
"""Names times constraints of one path; beyond it the path is refused rather than judged."""


class ConstraintFault(NamedTuple):
    """The certificate whose name is refused, the name, and the constraint's demand."""

    position: int
    observed: str
    required: str


class _Name(NamedTuple):
    """A name or a subtree, in the form in which it is compared, found once."""

    kind: type[x509.GeneralName]
    value: object
    shown: str
    size: int
    """What comparing it once may cost, in units of one short name."""


class _Subtrees(NamedTuple):
    owner: str
    permitted: dict[type[x509.GeneralName], list[_Name]]
    excluded: dict[type[x509.GeneralName], list[_Name]]


def faults(path: Sequence[Certificate]) -> list[ConstraintFault] | None:
    """Every refused name, leaf first in `path`; `None` when no certificate of the path constrains names."""
    active: list[_Subtrees] = []
    found: list[ConstraintFault] = []
    budget = MAX_COMPARISONS
    for index in range(len(path) - 1, -1, -1):
        certificate = path[index]
        if active and (index == 0 or not certificate.self_issued):
            names = [_named(name) for name in _names(certificate)]
            budget -= _work(names, active)
            if budget < 0:
                text = f"more than {MAX_COMPARISONS} comparisons of names and constraints"
                return [ConstraintFault(index, text, "a number of names and constraints that can be checked")]
            found.extend(_judge(index, names, active))
        constraints = certificate.value(x509.NameConstraints)
        if constraints is not None and index > 0:
            permitted, excluded = constraints.permitted_subtrees or (), constraints.excluded_subtrees or ()
            active.append(_Subtrees(certificate.label, _by_kind(permitted), _by_kind(excluded)))
    return found if active else None


def _named(name: x509.GeneralName) -> _Name:
    if isinstance(name, x509.DirectoryName):
        return _Name(type(name), name_key(name.value), name.value.rfc4514_string()[:200], max(1, len(name.value.rdns)))
    return _Name(type(name), name.value, f"{type(name).__name__} {name.value!s}"[:200], 1)


def _by_kind(names: Iterable[x509.GeneralName]) -> dict[type[x509.GeneralName], list[_Name]]:
    grouped: dict[type[x509.GeneralName], list[_Name]] = defaultdict(list)
    for name in names:
        grouped[type(name)].append(_named(name))
    return grouped


def _names(certificate: Certificate) -> Iterator[x509.GeneralName]:
    yield from certificate.alternative_names
    if len(certificate.subject.rdns):
        yield x509.DirectoryName(certificate.subject)
    if not any(isinstance(name, x509.RFC822Name) for name in certificate.alternative_names):
        for attribute in certificate.subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS):
            if isinstance(attribute.value, str) and attribute.value.isascii():
                yield x509.RFC822Name(attribute.value)


def _work(names: list[_Name], active: list[_Subtrees]) -> int:
    sizes: dict[type[x509.GeneralName], int] = defaultdict(int)
    for name in names:
        sizes[name.kind] += name.size
    return sum(
        size * (len(tree.permitted.get(kind, ())) + len(tree.excluded.get(kind, ())))
        for tree in active
        for kind, size in sizes.items()
    )


def _judge(index: int, names: list[_Name], active: list[_Subtrees]) -> Iterator[ConstraintFault]:
    for name in names:
        for tree in active:
            permitted, excluded = tree.permitted.get(name.kind, []), tree.excluded.get(name.kind, [])
            if not permitted and not excluded:
                continue
            compare = _COMPARE.get(name.kind)
            malformed = _malformed(name)
            if compare is None:
                demand = f"no name of this form: {tree.owner!r} constrains it and it cannot be compared"
                yield ConstraintFault(index, name.shown, demand)
            elif malformed:
                demand = f"a name that the constraints of {tree.owner!r} can judge"
                yield ConstraintFault(index, f"{name.shown}: {malformed}", demand)
            elif any(compare(name.value, subtree.value, False) for subtree in excluded):
                yield ConstraintFault(index, name.shown, f"not excluded by {tree.owner!r}")
            elif permitted and not any(compare(name.value, subtree.value, True) for subtree in permitted):
                allowed = ", ".join(subtree.shown for subtree in permitted[:5])
                yield ConstraintFault(index, name.shown, f"within what {tree.owner!r} permits: {allowed}")


def _malformed(name: _Name) -> str:
    if name.kind is x509.DNSName:
        # Underscores break the preferred syntax, yet such names are compared without any doubt.
        return dns_syntax_fault(str(name.value).replace("_", "a"))
    if name.kind is x509.RFC822Name:
        return mailbox_syntax_fault(str(name.value))
    if isinstance(name.value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return "it is a network, not an address"
    return ""


def _under(name: str, base: str) -> bool:
    return name == base or name.endswith("." + base)


def _dns(name: object, subtree: object, permitting: bool) -> bool:
    presented, base = str(name).lower(), str(subtree).lower()
    if base.startswith("."):
        # Not the RFC's form; where it is let through it means at least one more label.
        return presented.endswith(base)
    if not base:
        return True
    suffix = wildcard_base(presented)
    if suffix is None:
        return _under(presented, base)
    if permitting:
        return _under(suffix, base)
    one_label_above = base.partition(".")[2] == suffix
    return _under(suffix, base) or one_label_above


def _mailbox(name: object, subtree: object, permitting: bool) -> bool:
    local, _, host = str(name).rpartition("@")
    wanted_local, at, wanted_host = str(subtree).rpartition("@")
    if at:
        return local == wanted_local and host.lower() == wanted_host.lower()
    return _host(host.lower(), wanted_host.lower())


def _host(host: str, wanted: str) -> bool:
    return host.endswith(wanted) and host != wanted if wanted.startswith(".") else host == wanted


def _uri(name: object, subtree: object, permitting: bool) -> bool:
    try:
        host = urlsplit(str(name)).hostname
    except ValueError:
        host = None
    if not host or host.replace(".", "").isdigit() or ":" in host:
        # RFC 5280: a URI without a host name cannot satisfy a constraint; nor may it slip past an exclusion.
        return not permitting
    return _host(host.lower(), str(subtree).lower())


def _address(name: object, subtree: object, permitting: bool) -> bool:
    if not isinstance(subtree, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return not permitting
    return name in subtree


def _directory(name: object, subtree: object, permitting: bool) -> bool:
    return isinstance(name, tuple) and isinstance(subtree, tuple) and name[: len(subtree)] == subtree


_COMPARE: dict[type[x509.GeneralName], Callable[[object, object, bool], bool]] = {
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
