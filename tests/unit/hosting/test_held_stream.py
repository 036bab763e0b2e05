"""TCP segments that wait: in any order, repeated and overlapping, they are one stream, and only what it held passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.hosting.held_stream import MOST_EARLY, MOST_WAITING, HeldStream, Taken

NOTHING: Taken[str] = Taken()


def test_segments_behind_a_gap_are_taken_once_it_closes() -> None:
    stream = HeldStream[str](0xFFFFFFFE)
    assert stream.take(2, b"lo", False, "c") == NOTHING
    assert stream.take(0, b"el", False, "b") == NOTHING
    assert stream.take(0xFFFFFFFE, b"he", False, "a").chunks == (b"he", b"el", b"lo")
    assert stream.release(3) == ["a", "b", "c"]


def test_a_segment_that_repeats_what_waits_is_dropped_and_one_that_repeats_what_left_passes() -> None:
    stream = HeldStream[str](0)
    stream.take(0, b"abcd", False, "first")
    assert stream.take(0, b"abcd", False, "again") == Taken(dropped=("again",))
    assert stream.take(2, b"cdef", False, "longer") == Taken(dropped=("longer",))
    assert stream.release(1) == ["first"]
    assert stream.take(0, b"abcd", False, "late") == Taken(passed=("late",))
    assert stream.take(2, b"cdef", False, "tail") == Taken(chunks=(b"ef",))


def test_an_early_segment_that_is_overtaken_is_dropped() -> None:
    stream = HeldStream[str](0)
    stream.take(2, b"XX", False, "early")
    assert stream.take(0, b"abc", False, "first") == Taken(chunks=(b"abc",), dropped=("early",))
    assert stream.take(5, b"cd", False, "early") == NOTHING
    assert stream.take(6, b"d!", False, "overlapping") == Taken(dropped=("overlapping",))


def test_a_bare_end_waits_for_what_is_before_it() -> None:
    stream = HeldStream[str](0)
    assert stream.take(2, b"", True, "fin") == NOTHING
    assert stream.take(0, b"ab", False, "data") == Taken(chunks=(b"ab",), ended=True)
    assert stream.release(1) == ["data"]
    assert stream.release(0, ending=True) == ["fin"]
    assert stream.take(3, b"more", False, "after the end") == Taken(dropped=("after the end",))


def test_what_has_no_bytes_passes() -> None:
    assert HeldStream[str](0).take(5, b"", False, "acknowledgement") == Taken(passed=("acknowledgement",))


@pytest.mark.parametrize(("step", "most"), [(2, MOST_EARLY), (1, MOST_WAITING)])
def test_what_waits_is_bounded(step: int, most: int) -> None:
    stream = HeldStream[int](0)
    first = 1 if step == 2 else 0
    fates = [stream.take(first + step * one, b"x", False, one).dropped for one in range(most + 1)]
    assert fates == [()] * most + [(most,)]
    assert len(stream.release_all()) == most


@st.composite
def segmented(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[int, int]]]:
    data = draw(st.binary(min_size=1, max_size=60))
    first = draw(st.integers(0, 2**32 - 1))
    ranges = st.tuples(st.integers(0, len(data)), st.integers(0, len(data))).map(lambda ends: (min(ends), max(ends)))
    return data, first, draw(st.lists(ranges, max_size=25))


@given(segmented())
def test_any_segments_in_any_order_give_the_stream_from_its_start(
    case: tuple[bytes, int, list[tuple[int, int]]],
) -> None:
    data, first, ranges = case
    stream = HeldStream[int](first)
    seen, fates = b"", []
    for number, (start, end) in enumerate(ranges):
        taken = stream.take(first + start & 0xFFFFFFFF, data[start:end], False, number)
        seen += b"".join(taken.chunks)
        fates += [*taken.passed, *taken.dropped]
    assert data.startswith(seen)
    # Every packet has one fate.
    assert sorted(fates + stream.release_all()) == list(range(len(ranges)))
    # Whoever lost a segment sends it again: at last all of it arrives.
    for at in range(len(seen), len(data)):
        seen += b"".join(stream.take(first + at & 0xFFFFFFFF, data[at : at + 1], False, -1).chunks)
    assert seen == data
