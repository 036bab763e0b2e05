"""Addresses are written as inet_ntop(3) writes them and read strictly."""

from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.wire.address import pack, unpack

sparse = st.lists(st.sampled_from([0, 0, 0, 1, 255]), min_size=16, max_size=16).map(bytes)


@given(st.one_of(st.binary(min_size=16, max_size=16), sparse))
def test_ipv6_text_is_the_systems(packed: bytes) -> None:
    assert unpack(packed) == socket.inet_ntop(socket.AF_INET6, packed)
    assert pack(unpack(packed)) == packed


@given(st.binary(min_size=4, max_size=4))
def test_ipv4_text_is_the_systems(packed: bytes) -> None:
    assert unpack(packed) == socket.inet_ntop(socket.AF_INET, packed)
    assert pack(unpack(packed)) == packed


@given(st.text("0123456789abcdefg:.%", max_size=40))
def test_what_is_read_as_ipv6_the_system_reads_alike(text: str) -> None:
    try:
        expected: bytes | None = socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        expected = None
    if ":" in text:
        assert pack(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1.2.3.٣", "0x7f.0.0.1", "1::2::3", ":::", "1:2:3:4:5:6:7:8:9",
     "fe80::1%eth0", "12345::", "::1.2.3", "1.2.3.4::", ":1:2:3:4:5:6:7", "1:2:3:4:5:6:7::8"],
)  # fmt: skip
def test_other_texts_are_no_addresses(text: str) -> None:
    assert pack(text) is None


def test_other_lengths_are_no_addresses() -> None:
    with pytest.raises(ValueError, match="4 or 16 bytes, not 5"):
        unpack(b"12345")
