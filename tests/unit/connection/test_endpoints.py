"""An endpoint says all of itself in its text."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.connection.endpoint import (
    AddressEndpoint,
    Endpoint,
    HostEndpoint,
    ServiceEndpoint,
    UnixEndpoint,
    UrlEndpoint,
)
from towpath.errors import Misuse

ports = st.integers(0, 65535)
zones = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="%/"), min_size=1, max_size=15)
labels = st.from_regex(r"[a-zA-Zäß][a-zA-Z0-9ü_-]{0,20}", fullmatch=True)
hosts = st.lists(labels, min_size=1, max_size=4).map(".".join)
endpoints = st.one_of(
    st.builds(AddressEndpoint, st.ip_addresses(), ports),
    st.builds(
        lambda address, zone, port: AddressEndpoint(IPv6Address(f"{address}%{zone}"), port),
        st.ip_addresses(v=6),
        zones,
        ports,
    ),
    st.builds(HostEndpoint, hosts, ports),
    st.builds(
        ServiceEndpoint,
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15),
        st.sampled_from(["_http._tcp", "_my-app._udp"]),
        hosts,
    ),
    st.builds(UnixEndpoint, st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20).map("/".__add__)),
    st.builds(
        UnixEndpoint, st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20), st.just(True)
    ),
    st.builds(lambda host, port: UrlEndpoint(f"wss://{host}:{port}/feed?a=b#c"), hosts, ports),
)


@given(endpoints)
def test_c6_the_text_of_an_endpoint_reads_back_as_the_same_endpoint(endpoint: Endpoint) -> None:
    assert Endpoint.parse(str(endpoint)) == endpoint


@given(st.text())
def test_any_text_is_an_endpoint_or_misuse(text: str) -> None:
    try:
        endpoint = Endpoint.parse(text)
    except Misuse:
        return
    assert Endpoint.parse(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("192.0.2.1:443", AddressEndpoint(IPv4Address("192.0.2.1"), 443)),
        ("[fe80::1%eth0]:22", AddressEndpoint(IPv6Address("fe80::1%eth0"), 22)),
        ("unix:80", HostEndpoint("unix", 80)),
        ("unix:@bus", UnixEndpoint("bus", abstract=True)),
        (r"bonjour:a\.b\\c._http._tcp.local", ServiceEndpoint("a.b\\c", "_http._tcp")),
    ],
)
def test_texts_of_every_kind(text: str, endpoint: Endpoint) -> None:
    assert Endpoint.parse(text) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        ":1",
        "[192.0.2.1]:1",
        "[::1]",
        "a b:1",
        "a\u200bb:1",
        "://x",
        "http://",
    ],
)
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(Misuse):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://news.example/a", HostEndpoint("news.example", 443)),
        ("ws://[2001:db8::1]:8080", AddressEndpoint(IPv6Address("2001:db8::1"), 8080)),
        ("wss://192.0.2.1", AddressEndpoint(IPv4Address("192.0.2.1"), 443)),
    ],
)
def test_a_url_leads_to_its_host(url: str, target: Endpoint) -> None:
    assert UrlEndpoint(url).target == target
