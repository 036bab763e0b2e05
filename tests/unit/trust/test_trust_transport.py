"""The transport policy file: which entry decides, and what it asks of a connection."""

from __future__ import annotations

import pytest

from towpath.errors import ConfigInvalid, Misuse
from towpath.testing.pki import Pki
from towpath.trust import Anchors, Policy, evaluate, load, spki_pin
from towpath.trust.transport import Requirements, TransportPolicy

STRICT = TransportPolicy()
PIN = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


def needs(text: str, host: str) -> Requirements:
    return TransportPolicy.parse(text, "transport.toml").for_host(host)


def test_the_strict_default() -> None:
    needed = STRICT.for_url("https://www.example.com/")
    assert (needed.cleartext, needed.enforced, needed.minimum_tls, needed.forward_secrecy, needed.may_loosen) == (
        False,
        True,
        "1.2",
        True,
        False,
    )
    assert needed.policy == Policy.apple


EXAMPLE = '[domains."example.com"]\ninsecure_http = true\n'
WITH_SUBDOMAINS = EXAMPLE + "include_subdomains = true\n"


@pytest.mark.parametrize(
    ("text", "host", "cleartext"),
    [
        ("", "www.example.com", False),
        ("arbitrary_loads = true", "www.example.com", True),
        ("arbitrary_loads = false", "www.example.com", False),
        # Global keys do not apply to a listed domain, not even when its table is empty.
        ('arbitrary_loads = true\n[domains."example.com"]', "example.com", False),
        ('arbitrary_loads = true\n[domains."example.com"]', "other.example", True),
        # One of the narrower keys, whatever its value, switches the wide one off, since generation 10.
        ("arbitrary_loads = true\narbitrary_loads_in_web_content = true", "example.com", False),
        ("arbitrary_loads = true\narbitrary_loads_for_media = false", "example.com", False),
        ("arbitrary_loads = true\nlocal_networking = false", "example.com", False),
        ("arbitrary_loads = true\nlocal_networking = false\nbehaves_as = 9", "example.com", True),
        # Subdomains only when they are included; the trailing dot counts; case does not.
        (EXAMPLE, "example.com", True),
        (EXAMPLE, "EXAMPLE.com", True),
        (EXAMPLE, "www.example.com", False),
        (EXAMPLE, "example.com.", False),
        (EXAMPLE, "badexample.com", False),
        (WITH_SUBDOMAINS, "a.b.example.com", True),
        (WITH_SUBDOMAINS + '[domains."b.example.com"]', "b.example.com", False),
        ('[domains."example.com."]\ninsecure_http = true', "example.com.", True),
        # Names and addresses never stand for each other.
        ('[domains."192.0.2.1"]\ninsecure_http = true', "192.0.2.1", True),
        ('[domains."192.0.2.0/24"]\ninsecure_http = true', "192.0.2.77", True),
        ('[domains."192.0.2.0/24"]\ninsecure_http = true', "192.0.3.1", False),
        ('[domains."192.0.2.0/24"]\ninsecure_http = true\n[domains."192.0.2.1"]', "192.0.2.1", False),
        ('[domains."2001:db8::/32"]\ninsecure_http = true', "2001:db8::1", True),
        (WITH_SUBDOMAINS, "192.0.2.1", False),
        # Local names are exempt; addresses are no longer.
        ("", "printer", True),
        ("", "printer.local", True),
        ("", "192.0.2.1", False),
        ("behaves_as = 16", "192.0.2.1", True),
        ("behaves_as = 9", "printer.local", False),
        ("behaves_as = 9\nlocal_networking = true", "printer.local", True),
        ("local_networking = true", "192.0.2.1", True),
        ("local_networking = true", "www.example.com", False),
    ],
)
def test_the_entry_that_fits_decides_about_cleartext(text: str, host: str, cleartext: bool) -> None:
    assert needs(text, host).cleartext is cleartext


def test_insecure_http_lowers_nothing_about_tls() -> None:
    needed = needs(EXAMPLE, "example.com")
    assert (needed.minimum_tls, needed.forward_secrecy, needed.policy) == ("1.2", True, Policy.apple)
    assert needed.may_loosen


def test_without_forward_secrecy_the_size_of_keys_is_waived_and_nothing_else() -> None:
    pki = Pki()
    needed = needs('[domains."www.example.com"]\nforward_secrecy = false', "www.example.com")
    anchors = Anchors.of(pki.root.certificate)
    assert evaluate(pki.broken("rsa-1024").identity.chain, "www.example.com", needed.policy, pki.at, anchors).accepted
    assert not evaluate(pki.broken("no-use").identity.chain, "www.example.com", needed.policy, pki.at, anchors).accepted


def test_arbitrary_loads_leave_basic_trust_on() -> None:
    needed = needs("arbitrary_loads = true", "www.example.com")
    assert not needed.enforced
    assert needed.policy == Policy.basic


def test_loosening_is_refused_while_the_policy_is_on_and_allowed_where_it_is_off() -> None:
    pki = Pki()
    system, own = Anchors.of(pki.root.certificate, public=True), Anchors.of(pki.new_root("own").certificate)
    with pytest.raises(ConfigInvalid, match="loosen") as caught:
        STRICT.for_host("www.example.com").anchors(system, own)
    assert caught.value.hint is not None
    assert len(STRICT.for_host("www.example.com").anchors(system)) == 1
    assert len(needs(EXAMPLE, "example.com").anchors(system, own)) == 2
    assert len(needs("arbitrary_loads = true", "example.com").anchors(system, own)) == 2


def test_pins_apply_by_domain_beside_every_other_entry() -> None:
    pki = Pki()
    pin = spki_pin(load(pki.root.certificate))
    text = f'arbitrary_loads = true\n[pins."example.com"]\ninclude_subdomains = true\nauthorities = ["{pin}"]'
    anchors = Anchors.of(pki.root.certificate)
    for host, pinned in (("example.com", True), ("www.example.com", True), ("example.org", False)):
        policy = needs(text, host).policy
        assert bool(policy.pins) is pinned
        assert evaluate(pki.good(host).chain, host, policy, pki.at, anchors).accepted
    assert not needs(f'[pins."example.com"]\nleaves = ["{PIN}"]', "www.example.com").pins


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("not toml", "transport.toml"),
        ("arbitrary_loads = 1", "arbitrary_loads"),
        ("unknown = true", "unknown"),
        ("behaves_as = 8", "behaves_as"),
        ("behaves_as = true", "behaves_as"),
        ("domains = 3", "domains"),
        ('[domains."Example.com"]', "lower case"),
        ('[domains."*.example.com"]', "wildcard"),
        ('[domains."example.com:443"]', "neither a host name"),
        ('[domains."example.com"]\nminimum_tls = "1.4"', "minimum_tls"),
        ('[domains."example.com"]\nports = [1]', "ports"),
        ('behaves_as = 16\n[domains."192.0.2.1"]', "behaves_as = 17"),
        ('[pins."example.com"]', "no pin"),
        ('[pins."example.com"]\nleaves = ["short"]', "SHA-256"),
        ('[pins."example.com"]\nleaves = "text"', "list of texts"),
    ],
)
def test_a_mistake_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(ConfigInvalid, match=where):
        TransportPolicy.parse(text, "transport.toml")


@pytest.mark.parametrize("url", ["ftp://example.com/", "example.com", "https://"])
def test_only_http_and_https_are_urls_of_this_policy(url: str) -> None:
    with pytest.raises(Misuse):
        STRICT.for_url(url)
