"""The fuzz entries hold for their seeds, for damaged seeds and for any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fuzz.entries import ENTRIES, SEEDS


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """A seed with some bytes changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def test_every_entry_has_seeds() -> None:
    assert set(SEEDS) == set(ENTRIES)


@pytest.mark.parametrize("name", ENTRIES)
def test_seeds_hold(name: str) -> None:
    for seed in SEEDS[name]:
        for end in range(len(seed) + 1):
            ENTRIES[name](seed[:end])


@pytest.mark.parametrize("name", ENTRIES)
def test_damaged_seeds_hold(name: str) -> None:
    @settings(max_examples=100, deadline=None)
    @given(damaged(SEEDS[name]))
    def holds(data: bytes) -> None:
        ENTRIES[name](data)

    holds()


@pytest.mark.parametrize("name", ENTRIES)
def test_any_bytes_hold(name: str) -> None:
    @settings(max_examples=100, deadline=None)
    @given(st.binary(max_size=300))
    def holds(data: bytes) -> None:
        ENTRIES[name](data)

    holds()
