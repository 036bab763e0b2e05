"""Mutual TLS: the server's demand, and the client's choice."""

from __future__ import annotations

from datetime import timedelta

import pytest

from towpath.testing.pki import CLIENT, Identity, Pki, Recipe
from towpath.trust import Anchors
from towpath.trust.identities import ClientPolicy, choose


def test_a_client_must_chain_to_the_authority_that_was_named(pki: Pki) -> None:
    demand = ClientPolicy(Anchors.of(pki.root.certificate))
    assert demand.judge(pki.client().chain, pki.at).accepted
    stranger = pki.new_root("another authority").issue(Recipe(names=("client@example.com",), usages=(CLIENT,)))
    assert not demand.judge(stranger.chain, pki.at).accepted


def test_a_servers_certificate_is_no_clients(pki: Pki) -> None:
    failure = ClientPolicy(Anchors.of(pki.root.certificate)).judge(pki.good().chain, pki.at).failure
    assert failure is not None
    assert failure.id == "server.usage"


def test_a_list_admits_its_certificates_alone(pki: Pki) -> None:
    listed, sibling = pki.client("one@example.com"), pki.client("two@example.com")
    demand = ClientPolicy.listed([listed.certificate])
    assert demand.judge(listed.chain[:1], pki.at).accepted
    assert not demand.judge(sibling.chain, pki.at).accepted
    assert not demand.judge(listed.chain[:1], pki.at + timedelta(days=400)).accepted


def test_the_names_of_the_authorities_are_what_is_sent(pki: Pki) -> None:
    demand = ClientPolicy(Anchors.of(pki.root.certificate, pki.intermediate.certificate))
    expected = [authority.certificate.subject.public_bytes() for authority in (pki.root, pki.intermediate)]
    assert demand.acceptable_authorities() == expected


@pytest.fixture
def identities(pki: Pki) -> dict[str, Identity]:
    client = Recipe(names=("client@example.com",), usages=(CLIENT,))
    other = pki.new_root("other authority")
    return {
        "ours": pki.client(),
        "ours, expired": pki.intermediate.issue(
            Recipe(names=("old@example.com",), usages=(CLIENT,), starts=timedelta(days=-99))
        ),
        "other": other.issue(client),
    }


@pytest.mark.parametrize(
    ("acceptable", "chosen"),
    [
        (["Towpath test intermediate"], "ours"),
        (["Towpath test root"], "ours"),
        (["other authority"], "other"),
        (["unknown"], None),
        (["unknown", "other authority"], "other"),
    ],
)
def test_the_client_offers_what_the_server_can_accept(
    pki: Pki, identities: dict[str, Identity], acceptable: list[str], chosen: str | None
) -> None:
    names = [pki.new_root(name).certificate.subject.public_bytes() for name in acceptable]
    assert choose(identities.values(), names, pki.at) is (identities[chosen] if chosen else None)


def test_an_empty_list_admits_any_and_the_longest_valid_is_offered(pki: Pki, identities: dict[str, Identity]) -> None:
    longest = pki.intermediate.issue(Recipe(names=("long@example.com",), usages=(CLIENT,), lasts=timedelta(days=300)))
    assert choose([*identities.values(), longest], [], pki.at) is longest


def test_a_list_that_cannot_be_read_admits_none(pki: Pki, identities: dict[str, Identity]) -> None:
    assert choose(identities.values(), [b"rubbish"], pki.at) is None
