"""What explain says of local addresses and of pasted URLs is what a run does."""

from __future__ import annotations

import pytest

from towpath.errors import ConfigInvalid
from towpath.policy.explain import explain
from towpath.policy.file import load_file
from towpath.policy.policy import Policy
from towpath.policy.rule import parse_rule


@pytest.mark.parametrize("allow", [[], ["*"], ["0.0.0.0/0", "::/0"]])
@pytest.mark.parametrize("destination", ["169.254.169.254:80", "127.0.0.1:80", "[::1]:80", "udp://224.0.0.1:5353"])
def test_local_addresses_are_refused_until_a_rule_names_them(allow: list[str], destination: str) -> None:
    explained = explain(Policy.load(allow, [], []), destination)
    assert explained.decision.verdict == "deny"
    assert explained.decision.hint


def test_a_rule_that_names_a_local_address_opens_it() -> None:
    policy = Policy.load(["tcp://169.254.169.254:80"], [], [])
    assert explain(policy, "tcp://169.254.169.254:80").decision.verdict == "allow"


@pytest.mark.parametrize(
    ("pasted", "meant"),
    [
        ("https://good.test/a/page?x=1", "tls://good.test:443"),
        ("https://good.test:8443/", "tls://good.test:8443"),
        ("http://good.test/", "http://good.test:80/"),
        ("http://good.test/1?q=2#part", "http://good.test:80/1"),
        ("http://good.test?q", "http://good.test:80"),
    ],
)
def test_a_pasted_url_is_its_host_port_and_of_plain_http_its_path(pasted: str, meant: str) -> None:
    assert explain(Policy.load([], [], []), pasted).destination == meant


@pytest.mark.parametrize("text", ["2001:db8::1:443", "2001:db8::1:22"])
def test_an_ipv6_address_that_seems_to_end_in_a_port_must_say_what_it_is(text: str) -> None:
    with pytest.raises(ConfigInvalid, match="is .* a port"):
        parse_rule(text, "allow", "--allow")


def test_an_allow_list_that_is_written_and_empty_refuses(tmp_path: object) -> None:
    path = f"{tmp_path}/policy.toml"
    with open(path, "w") as file:
        file.write("allow = []\n")
    policy = Policy(load_file(path))
    assert (policy.default, policy.empty) == ("deny", False)
    assert policy.decide_name("x.test").verdict == "deny"
    with open(path, "w") as file:
        file.write("# nothing\n")
    with pytest.raises(ConfigInvalid, match="no rule"):
        load_file(path)
