"""Certificate policies along a path (RFC 5280 §6.1, RFC 9618)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtensionOID

from towpath.testing.pki import Pki, Recipe
from towpath.trust import Anchors, Policy, PolicyInputs, evaluate
from towpath.trust.certificate_policies import ANY_POLICY

ONE, TWO, THREE = "1.3.6.1.4.1.55738.1", "1.3.6.1.4.1.55738.2", "1.3.6.1.4.1.55738.3"


@dataclass(frozen=True)
class Step:
    """The policy extensions of one certificate, anchor's child first."""

    policies: tuple[str, ...] = ()
    maps: tuple[tuple[str, str], ...] = ()
    require: int | None = None
    inhibit_mapping: int | None = None
    inhibit_any: int | None = None

    def extensions(self) -> tuple[tuple[x509.ExtensionType, bool], ...]:
        made: list[tuple[x509.ExtensionType, bool]] = []
        if self.policies:
            found = [x509.PolicyInformation(x509.ObjectIdentifier(policy), None) for policy in self.policies]
            made.append((x509.CertificatePolicies(found), False))
        if self.maps:
            made.append((x509.UnrecognizedExtension(ExtensionOID.POLICY_MAPPINGS, _mappings(self.maps)), True))
        if self.require is not None or self.inhibit_mapping is not None:
            made.append((x509.PolicyConstraints(self.require, self.inhibit_mapping), True))
        if self.inhibit_any is not None:
            made.append((x509.InhibitAnyPolicy(self.inhibit_any), True))
        return tuple(made)


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | arc & 0x7F)
        body += bytes(reversed(septets))
    return bytes([6, len(body)]) + bytes(body)


def _mappings(pairs: tuple[tuple[str, str], ...]) -> bytes:
    body = b"".join(bytes([0x30, len(pair)]) + pair for pair in (_oid(a) + _oid(b) for a, b in pairs))
    return bytes([0x30, len(body)]) + body


def accepted(steps: list[Step], inputs: PolicyInputs) -> bool:
    pki = Pki()
    issuer = pki.root
    for number, step in enumerate(steps[:-1]):
        issuer = issuer.intermediate(replace(pki.authority_recipe(f"step {number}"), extra=step.extensions()))
    leaf = issuer.issue(Recipe(names=("www.example.com",), extra=steps[-1].extensions()))
    policy = replace(Policy.basic, certificate_policies=inputs)
    return evaluate(leaf.chain, None, policy, pki.at, Anchors.of(pki.root.certificate)).accepted


EXPLICIT = PolicyInputs(explicit=True)
ONLY_ONE = PolicyInputs(frozenset({ONE}), explicit=True)
ONLY_TWO = PolicyInputs(frozenset({TWO}), explicit=True)


@pytest.mark.parametrize(
    ("steps", "inputs", "good"),
    [
        ([Step(), Step()], PolicyInputs(), True),
        ([Step(), Step()], EXPLICIT, False),
        ([Step((ONE,)), Step((ONE,))], EXPLICIT, True),
        ([Step((ONE,)), Step((TWO,))], EXPLICIT, False),
        ([Step((ONE,)), Step((TWO,))], PolicyInputs(), True),
        ([Step((ONE,)), Step()], EXPLICIT, False),
        ([Step((ONE, TWO)), Step((TWO,))], ONLY_TWO, True),
        ([Step((ONE, TWO)), Step((TWO,))], ONLY_ONE, False),
        ([Step((ANY_POLICY,)), Step((ONE,))], ONLY_ONE, True),
        ([Step((ANY_POLICY,)), Step((ONE,))], ONLY_TWO, False),
        ([Step((ANY_POLICY,)), Step((ANY_POLICY,))], ONLY_TWO, True),
        ([Step((ONE,)), Step((ANY_POLICY,))], ONLY_ONE, True),
        ([Step((ONE,), require=0), Step()], PolicyInputs(), False),
        ([Step((ONE,), require=0), Step((ONE,))], PolicyInputs(), True),
        ([Step((ONE,), require=2), Step()], PolicyInputs(), True),
        ([Step((ONE,)), Step((ONE,), require=0)], PolicyInputs(), True),
        ([Step(), Step((ONE,), require=0)], PolicyInputs(), False),
        ([Step((ONE,), maps=((ONE, TWO),)), Step((TWO,))], ONLY_ONE, True),
        ([Step((ONE,), maps=((ONE, TWO),)), Step((ONE,))], ONLY_ONE, False),
        ([Step((ONE,), maps=((ONE, TWO),)), Step((TWO,))], ONLY_TWO, False),
        ([Step((ANY_POLICY,), maps=((ONE, TWO),)), Step((TWO,))], ONLY_ONE, True),
        ([Step((ONE,), maps=((ONE, TWO),)), Step((TWO,))], replace(ONLY_ONE, inhibit_mapping=True), False),
        ([Step((ONE,), maps=((ONE, TWO),)), Step((ONE,))], replace(ONLY_ONE, inhibit_mapping=True), False),
        ([Step((ONE,), inhibit_mapping=0), Step((ONE,), maps=((ONE, TWO),)), Step((TWO,))], ONLY_ONE, False),
        ([Step((ONE,), inhibit_mapping=1), Step((ONE,), maps=((ONE, TWO),)), Step((TWO,))], ONLY_ONE, True),
        ([Step((ONE,), maps=((ANY_POLICY, TWO),)), Step((TWO,))], PolicyInputs(), False),
        ([Step((ONE,), maps=((ONE, ANY_POLICY),)), Step((TWO,))], PolicyInputs(), False),
        ([Step((ANY_POLICY,), inhibit_any=0), Step((ANY_POLICY,))], EXPLICIT, False),
        ([Step((ANY_POLICY,), inhibit_any=0), Step((ONE,))], EXPLICIT, True),
        ([Step((ANY_POLICY,), inhibit_any=1), Step((ANY_POLICY,)), Step((ANY_POLICY,))], EXPLICIT, False),
        ([Step((ANY_POLICY,)), Step((ONE,))], replace(EXPLICIT, inhibit_any=True), False),
        ([Step((ONE,), maps=((ONE, TWO), (ONE, THREE))), Step((THREE,))], ONLY_ONE, True),
    ],
)
def test_a_required_policy_is_valid_from_anchor_to_leaf(steps: list[Step], inputs: PolicyInputs, good: bool) -> None:
    assert accepted(steps, inputs) is good


@pytest.mark.parametrize(
    ("anchor", "leaf", "good"),
    [
        (Step((ONE,)), Step((ONE,)), True),
        (Step((ONE,)), Step((TWO,)), False),
        (Step((ANY_POLICY,)), Step((TWO,)), True),
        (Step((ONE,), maps=((ONE, TWO),)), Step((TWO,)), True),
        (Step(inhibit_any=0), Step((ANY_POLICY,)), False),
    ],
)
def test_what_an_anchor_states_about_policies_limits_its_path(anchor: Step, leaf: Step, good: bool) -> None:
    pki = Pki()
    root = pki.new_root("with policies", extra=anchor.extensions())
    identity = root.issue(Recipe(names=("www.example.com",), extra=leaf.extensions()))
    policy = replace(Policy.basic, certificate_policies=EXPLICIT)
    assert evaluate(identity.chain, None, policy, pki.at, Anchors.of(root.certificate)).accepted is good


def test_many_mappings_at_every_step_take_no_time_that_grows_with_their_product() -> None:
    policies = tuple(f"2.999.{number}" for number in range(3))
    maps = tuple((one, two) for one in policies for two in policies)
    steps = [Step(policies, maps) for _ in range(8)]
    assert accepted([*steps, Step(policies)], EXPLICIT)
