"""From a plan to nodes: allotting addresses, routes down the tree, names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import ConfigInvalid
from towpath.testing import Dns, Http, LabPlan
from towpath.testing.addressing import lay_out


def test_the_root_router_comes_first_and_a_name_server_is_added() -> None:
    layout = lay_out(LabPlan().host("a"))
    assert [node.name for node in layout.nodes] == ["internet", "a", "dns"]
    assert layout.resolvers == ("198.51.100.3", "2001:db8::3")


def test_a_name_server_of_the_plans_is_enough() -> None:
    layout = lay_out(LabPlan().host("a").host("mine", serves=[Dns()]))
    assert [node.name for node in layout.nodes] == ["internet", "a", "mine"]


def test_every_router_above_learns_the_networks_below() -> None:
    layout = lay_out(
        LabPlan().router("upper").router("lower", on="upper").switch("lan", on="lower").host("a", on="lan")
    )
    routes = {node.name: sorted(str(route.network) for route in node.routes) for node in layout.nodes}
    lan = str(layout.cards("a")[0].address4.network)
    assert lan in routes["internet"]
    assert lan in routes["upper"]
    assert routes["lower"] == []
    assert len(routes["internet"]) == 6  # two families of upper, lower and lan


def test_a_name_is_every_address_of_its_hosts() -> None:
    plan = LabPlan().host("a", serves=[Http(names=("x.test",))]).host("b", names=["X.test."])
    records = [(record.type, record.value) for record in lay_out(plan).records if record.name == "x.test"]
    assert records == [("A", "198.51.100.2"), ("AAAA", "2001:db8::2"), ("A", "198.51.100.3"), ("AAAA", "2001:db8::3")]


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (LabPlan().host("a").host("a"), "two things are called 'a'"),
        (LabPlan().host("internet"), "two things are called 'internet'"),
        (LabPlan().host("a/b"), "no name for a host"),
        (LabPlan().host("a", on=[]), "is on nothing"),
        (LabPlan().host("a", on="mars"), "which is no router or switch"),
        (LabPlan().host("a").host("b", on="a"), "which is no router or switch"),
        (LabPlan().router("a", on="b").router("b", on="a"), "which is no router"),
        (LabPlan().switch("a").switch("b", on="a"), "put it on a router instead"),
        (LabPlan().switch("s", ipv4="203.0.113.0/30").host("a", on="s").host("b", on="s"), "is too small for 'b'"),
        (LabPlan().switch("s").host("a", on="s", ipv4="192.0.2.1"), "is not in 203.0.113.0/28"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: LabPlan, words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        lay_out(plan)


@given(st.lists(st.sampled_from(["internet", "lan", "office", "both"]), max_size=12), st.booleans())
def test_no_address_is_given_twice(places: list[str], fixed: bool) -> None:
    plan = LabPlan().router("office").switch("lan", on="office")
    if fixed:
        plan = plan.host("fixed", ipv4="198.51.100.3", ipv6="2001:db8::4")
    for number, place in enumerate(places):
        plan = plan.host(f"h{number}", on=["lan", "internet"] if place == "both" else place)
    cards = [card for node in lay_out(plan).nodes for card in node.cards]
    for addresses in ([card.address4.ip for card in cards], [card.address6.ip for card in cards]):
        assert len(set(addresses)) == len(addresses)
    assert len({(card.upstream, card.port) for card in cards}) == len(cards)
