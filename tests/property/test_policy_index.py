"""Whatever the rules and the flow, the index decides as a walk over all rules would; and it does not walk."""

from __future__ import annotations

import time

from hypothesis import given, settings
from hypothesis import strategies as st

from towpath.policy.flow import Flow, consider
from towpath.policy.policy import Place, Policy
from towpath.policy.rule import SCHEMES, parse_rule

HOSTS: tuple[str, ...] = (
    "good.test",
    "a.good.test",
    "bad.test",
    "*.good.test",
    "*.test",
    "*",
    "10.0.0.1",
    "10.0.0.0/8",
    "0.0.0.0/0",
)
HOSTS += ("[2001:db8::1]", "[2001:db8::/32]", "[::/0]")
NAMES = ("good.test", "a.good.test", "b.a.good.test", "bad.test", "other.example")
ADDRESSES = ("10.0.0.1", "10.9.9.9", "192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:dead::1", "64:ff9b::10.0.0.1")
PORTS = (443, 80, 22, 8443)


@st.composite
def rule_texts(draw: st.DrawFn) -> str:
    scheme = draw(st.sampled_from((None, None, *SCHEMES)))
    port = draw(st.sampled_from((None, *PORTS))) if scheme != "icmp" else None
    return (f"{scheme}://" if scheme else "") + draw(st.sampled_from(HOSTS)) + (f":{port}" if port else "")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    texts = st.lists(rule_texts(), max_size=4)
    places = draw(st.lists(st.tuples(texts, texts), max_size=3))
    return Policy(
        Place(
            tuple(parse_rule(text, "allow", "--allow") for text in allow),
            tuple(parse_rule(text, "deny", "--deny") for text in deny),
            f"place {at}",
        )
        for at, (allow, deny) in enumerate(places)
    )


@st.composite
def flows(draw: st.DrawFn) -> Flow:
    transport = draw(st.sampled_from(("tcp", "udp", "icmp")))
    port = draw(st.sampled_from(PORTS)) if transport != "icmp" else 0
    names = tuple(draw(st.lists(st.sampled_from(NAMES), max_size=3, unique=True)))
    return Flow.of(transport, draw(st.sampled_from(ADDRESSES)), port, names)


def walk(policy: Policy, flow: Flow) -> tuple[str, str | None]:
    """The meaning: the first rule that matches, or that only the bytes decide while something could still allow."""
    if policy.empty:
        return "allow", None
    outcomes = [(rule, consider(rule, flow).outcome) for rule in policy.rules]
    for at, (rule, outcome) in enumerate(outcomes):
        if outcome == "match":
            return rule.action, rule.text
        possible = any(later.action == "allow" and other != "skip" for later, other in outcomes[at:])
        if outcome == "look" and (policy.default == "allow" or possible):
            return "look", rule.text
    return policy.default, None


@settings(max_examples=500, deadline=None)
@given(policies(), flows())
def test_flows_are_decided_as_by_a_walk(policy: Policy, flow: Flow) -> None:
    decision = policy.decide_flow(flow.transport, flow.address, flow.port, flow.names)
    assert (decision.verdict, decision.rule.text if decision.rule else None) == walk(policy, flow)


@settings(max_examples=500, deadline=None)
@given(
    policies(),
    flows().filter(lambda flow: flow.transport != "icmp"),
    st.sampled_from(("seen", "other")),
    st.sampled_from((None, *NAMES)),
)
def test_seen_flows_are_decided_as_by_a_walk(policy: Policy, flow: Flow, seen: str, name: str | None) -> None:
    if seen == "seen":
        scheme = "quic" if flow.transport == "udp" else "http" if flow.port == 80 else "tls"
    else:
        scheme, name = "other", None
    flow = flow._replace(scheme=scheme, name=name)
    decision = policy.decide_seen(flow.transport, flow.address, flow.port, flow.names, scheme, name)
    assert decision.verdict != "look"
    assert (decision.verdict, decision.rule.text if decision.rule else None) == walk(policy, flow)


@settings(max_examples=300, deadline=None)
@given(policies(), st.sampled_from(NAMES))
def test_questions_are_decided_as_by_a_walk(policy: Policy, name: str) -> None:
    expected: tuple[str, str | None] = (policy.default, None)
    for rule in policy.rules:
        whole = rule.action == "allow" or (rule.schemes is None and rule.port is None)
        if whole and rule.host.matches_name(name):
            expected = (rule.action, rule.text)
            break
    decision = policy.decide_name(name)
    assert (decision.verdict, decision.rule.text if decision.rule else None) == expected


@settings(max_examples=200, deadline=None)
@given(policies(), st.sampled_from(ADDRESSES))
def test_named_addresses_are_found_as_by_a_walk(policy: Policy, address: str) -> None:
    flow = Flow.of("tcp", address, 1, ())
    expected = None
    for rule in policy.rules:
        if rule.action == "allow" and rule.host.bits and rule.host.matches_address(*flow.number):
            expected = rule.text
            break
    found = policy.names_address(address)
    assert (found.text if found else None) == expected


def test_ten_thousand_rules_cost_no_more_than_a_hundred() -> None:
    """A walk would take a hundred times longer; the bound leaves room for a busy machine."""

    def seconds(count: int) -> float:
        allow = [f"h{at}.good.test:443" if at % 2 else f"*.s{at}.test:{at % 999 + 1}" for at in range(count)]
        policy = Policy.load(allow, ["bad.test"], [])
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            for _ in range(200):
                policy.decide_flow("tcp", "192.0.2.1", 443, ["h1.good.test"])
                policy.decide_seen("tcp", "192.0.2.1", 443, ["h1.good.test"], "tls", "h3.good.test")
                policy.decide_flow("tcp", "192.0.2.1", 22, ["h1.good.test"])
                policy.decide_name("a.b.test")
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(10_000) < 10 * seconds(100)
