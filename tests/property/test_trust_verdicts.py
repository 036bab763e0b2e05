"""What must hold for every chain, whatever its faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.testing.pki import CLIENT, SERVER, Pki, Recipe
from towpath.trust import Anchors, Certificate, Pins, Policy, evaluate, load

PKI = Pki()
HOST = "www.example.com"
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
ANCHORS = Anchors.of(PKI.root.certificate)
UNRELATED = [load(PKI.new_root(f"unrelated {number}").certificate) for number in range(2)]

lifetimes = st.sampled_from(
    [(-DAY, 90 * DAY), (-DAY, 2 * DAY), (-100 * DAY, 99 * DAY), (DAY, 30 * DAY), (-DAY, 900 * DAY)]
)


@st.composite
def chains(draw: st.DrawFn) -> list[Certificate]:
    """Leaf first; at random out of date, for another name or use, with authorities that may not sign."""
    last = PKI.root
    for number in range(draw(st.integers(0, 2))):
        starts, lasts = draw(
            st.sampled_from([(-30 * DAY, 3650 * DAY)] * 3 + [(-30 * DAY, 40 * DAY), (-30 * DAY, 20 * DAY)])
        )
        recipe = replace(
            PKI.authority_recipe(f"authority {number}"),
            starts=starts,
            lasts=lasts,
            signs=draw(st.sampled_from([True, True, True, False])),
            path_length=draw(st.sampled_from([None, None, 0])),
        )
        last = last.intermediate(recipe)
    starts, lasts = draw(lifetimes)
    leaf = Recipe(
        names=draw(st.sampled_from([(HOST,), ("*.example.com",), ("other.example",), (HOST, "other.example")])),
        usages=draw(st.sampled_from([(SERVER,), (SERVER, CLIENT), (CLIENT,), None])),
        starts=starts,
        lasts=lasts,
    )
    return [load(der) for der in last.issue(leaf).chain]


policies = st.sampled_from([Policy.basic, Policy.rfc5280, Policy.web, Policy.apple])


@settings(deadline=None)
@given(chain=chains(), policy=policies)
def test_the_verdict_changes_at_the_moment_that_is_told_and_not_a_second_before(
    chain: list[Certificate], policy: Policy
) -> None:
    result = evaluate(chain, HOST, policy, PKI.at, ANCHORS)
    change = result.until()
    if change is None:
        assert not result.accepted, "every certificate ends"
        return
    assert change.accepted is not result.accepted
    assert evaluate(chain, HOST, policy, change.at, ANCHORS).accepted is change.accepted
    assert evaluate(chain, HOST, policy, change.at - SECOND, ANCHORS).accepted is result.accepted


@settings(deadline=None)
@given(chain=chains(), policy=policies, data=st.data())
def test_order_doubles_and_strangers_change_nothing(
    chain: list[Certificate], policy: Policy, data: st.DataObject
) -> None:
    expected = evaluate(chain, HOST, policy, PKI.at, ANCHORS)
    others = data.draw(st.permutations([*chain[1:], *chain[1:], *UNRELATED, chain[0]]))
    result = evaluate([chain[0], *others], HOST, policy, PKI.at, ANCHORS)
    assert result.accepted is expected.accepted
    assert [(found.id, found.verdict) for found in result] == [(found.id, found.verdict) for found in expected]


@settings(deadline=None)
@given(chain=chains(), policy=policies)
def test_a_policy_only_ever_adds_refusals_to_the_basic_verdict(chain: list[Certificate], policy: Policy) -> None:
    if evaluate(chain, HOST, policy, PKI.at, ANCHORS).accepted:
        assert evaluate(chain, HOST, Policy.basic, PKI.at, ANCHORS).accepted


@settings(deadline=None)
@given(chain=chains(), policy=policies, right=st.booleans())
def test_a_pin_only_ever_tightens(chain: list[Certificate], policy: Policy, right: bool) -> None:
    pinned = policy.pinned(Pins(leaves=frozenset({chain[0].spki_hash if right else bytes(32)})))
    plain = evaluate(chain, HOST, policy, PKI.at, ANCHORS).accepted
    assert evaluate(chain, HOST, pinned, PKI.at, ANCHORS).accepted is (plain and right)


@settings(deadline=None)
@given(chain=chains(), policy=policies)
def test_every_refusal_says_what_was_seen_and_what_is_asked(chain: list[Certificate], policy: Policy) -> None:
    for failure in evaluate(chain, HOST, policy, PKI.at, ANCHORS).failures:
        assert failure.observed
        assert failure.required
        assert failure.requirement.source
        assert failure.hint
