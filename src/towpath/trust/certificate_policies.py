"""Certificate policies over a path (RFC 5280 §6.1 as simplified by RFC 9618).

Only one level of the policy graph is kept: for each policy what it may become next, and which policies of the
anchor's own domain it comes from. That is all the outcome needs, and it cannot grow exponentially.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from towpath.errors import PeerViolation
from towpath.trust import der
from towpath.trust.certificate import Certificate

__all__ = ["ANY_POLICY", "PolicyInputs", "fault"]

ANY_POLICY = "2.5.29.32.0"


@dataclass(frozen=True, slots=True)
class PolicyInputs:
    """The four inputs of RFC 5280 §6.1.1 (c), (e), (f), (g)."""

    acceptable: frozenset[str] = frozenset({ANY_POLICY})
    """Dotted policies of which the path must be good for one, once a policy is required at all."""
    explicit: bool = False
    """A valid policy is required from the start."""
    inhibit_mapping: bool = False
    inhibit_any: bool = False


@dataclass(slots=True)
class _Node:
    expected: frozenset[str]
    roots: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Counters:
    explicit: int
    mapping: int
    any_policy: int

    def step(self) -> None:
        self.explicit, self.mapping, self.any_policy = (
            max(0, count - 1) for count in (self.explicit, self.mapping, self.any_policy)
        )


def fault(path: Sequence[Certificate], inputs: PolicyInputs) -> tuple[int, str] | None:
    """The index of the certificate at which the required policy is lost, and how; `None` when all is well."""
    length = len(path) - 1
    level = {ANY_POLICY: _Node(frozenset({ANY_POLICY}), {ANY_POLICY})}
    counters = _Counters(
        0 if inputs.explicit else length + 1,
        0 if inputs.inhibit_mapping else length + 1,
        0 if inputs.inhibit_any else length + 1,
    )
    anchor = path[-1]
    if anchor.value(x509.CertificatePolicies) is not None:
        # What an anchor states about policies limits what it is trusted for (RFC 5937 §3.2).
        level = _next_level(level, anchor.value(x509.CertificatePolicies), True)
    problem = _map(level, _mappings(anchor), counters.mapping > 0)
    if problem:
        return length, problem
    _constrain(counters, anchor)
    for index in range(length - 1, -1, -1):
        certificate = path[index]
        use_any = counters.any_policy > 0 or (index > 0 and certificate.self_issued)
        level = _next_level(level, certificate.value(x509.CertificatePolicies), use_any)
        if not level and counters.explicit == 0:
            return index, "no certificate policy is valid up to here"
        if index == 0:
            break
        problem = _map(level, _mappings(certificate), counters.mapping > 0)
        if problem:
            return index, problem
        _prepare_next(counters, certificate)
    counters.explicit = max(0, counters.explicit - 1)
    constraints = path[0].value(x509.PolicyConstraints)
    if constraints is not None and constraints.require_explicit_policy == 0:
        counters.explicit = 0
    if counters.explicit == 0 and not _acceptable(level, inputs.acceptable):
        return 0, "none of the path's policies is acceptable"
    return None


def _next_level(level: dict[str, _Node], policies: x509.CertificatePolicies | None, use_any: bool) -> dict[str, _Node]:
    if policies is None or not level:
        return {}
    parents: dict[str, list[_Node]] = defaultdict(list)
    for node in level.values():
        for expected in node.expected:
            parents[expected].append(node)
    named = {policy.policy_identifier.dotted_string for policy in policies}
    made: dict[str, _Node] = {}
    for policy in named - {ANY_POLICY}:
        if parents[policy]:
            made[policy] = _child(policy, parents[policy])
        elif ANY_POLICY in level:
            made[policy] = _Node(frozenset({policy}), {policy})
    if ANY_POLICY in named and use_any:
        for policy, above in parents.items():
            if policy not in made and above:
                made[policy] = _child(policy, above)
    return made


def _child(policy: str, above: list[_Node]) -> _Node:
    roots = {policy if root == ANY_POLICY else root for node in above for root in node.roots}
    return _Node(frozenset({policy}), roots)


def _mappings(certificate: Certificate) -> list[tuple[str, str]]:
    extension = certificate.extensions.get(ExtensionOID.POLICY_MAPPINGS.dotted_string)
    if extension is None or not isinstance(extension.value, x509.UnrecognizedExtension):
        return []
    data = extension.value.value
    try:
        pairs = [der.children(data, pair) for pair in der.children(data, der.element(data, 0, len(data)))]
        return [(_dotted(data, issuer), _dotted(data, subject)) for issuer, subject in pairs]
    except (PeerViolation, ValueError):
        return [(ANY_POLICY, ANY_POLICY)]


def _dotted(data: bytes, identifier: der.Element) -> str:
    arcs: list[int] = []
    value = 0
    for octet in data[identifier.body : identifier.stop]:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2) if arcs else 0
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:]))) if arcs else ""


def _map(level: dict[str, _Node], mappings: list[tuple[str, str]], allowed: bool) -> str:
    wanted: dict[str, set[str]] = defaultdict(set)
    for issuer, subject in mappings:
        if ANY_POLICY in (issuer, subject):
            return "a policy mapping from or to anyPolicy"
        wanted[issuer].add(subject)
    for issuer, subjects in wanted.items():
        if not allowed:
            level.pop(issuer, None)
        elif issuer in level:
            level[issuer].expected = frozenset(subjects)
        elif ANY_POLICY in level:
            level[issuer] = _Node(frozenset(subjects), {issuer})
    return ""


def _prepare_next(counters: _Counters, certificate: Certificate) -> None:
    if not certificate.self_issued:
        counters.step()
    _constrain(counters, certificate)


def _constrain(counters: _Counters, certificate: Certificate) -> None:
    constraints = certificate.value(x509.PolicyConstraints)
    if constraints is not None:
        if constraints.require_explicit_policy is not None:
            counters.explicit = min(counters.explicit, constraints.require_explicit_policy)
        if constraints.inhibit_policy_mapping is not None:
            counters.mapping = min(counters.mapping, constraints.inhibit_policy_mapping)
    inhibit = certificate.value(x509.InhibitAnyPolicy)
    if inhibit is not None:
        counters.any_policy = min(counters.any_policy, inhibit.skip_certs)


def _acceptable(level: dict[str, _Node], acceptable: frozenset[str]) -> bool:
    if ANY_POLICY in acceptable:
        return bool(level)
    return any(root in acceptable or root == ANY_POLICY for node in level.values() for root in node.roots)
