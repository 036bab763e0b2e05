"""Benchmarks are read by programs: what they print has one form, whatever could not be measured."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from inspect import signature
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from benchmarks import NAMES
from benchmarks.form import Measured, check, document
from benchmarks.rounds import Absent, take_turns
from benchmarks.table import page

_ROOT = Path(__file__).resolve().parents[3]


def _good() -> dict[str, Any]:
    return document("tiny", Measured("nothing", {"ours": {"seconds": 1.0}}, {"vs_limit": 0.5}, [("peer", "not here")]))


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_a_module_with_a_run_of_so_many_seconds(name: str) -> None:
    module = import_module(f"benchmarks.{name}")
    assert list(signature(module.run).parameters) == ["seconds"]
    assert signature(module.run).return_annotation in ("Measured", Measured)
    assert module.__doc__


def test_a_benchmark_ends_with_one_line_of_json() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "policy_lookup", "--seconds", "0.01", "--json"],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert list(check(found)) == []
    assert found["benchmark"] == "policy_lookup"
    assert "vs_limit" in found["ratios"]


def test_the_list_is_the_names() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--list"], cwd=_ROOT, capture_output=True, text=True)
    assert done.stdout.split() == list(NAMES)


def test_parties_take_turns_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    values = count()

    def party(name: str) -> dict[str, float]:
        order.append(name)
        return {"value": next(values)}

    measured = take_turns("count", {"a": lambda: party("a"), "b": lambda: party("b")}, 3)
    assert order == ["a", "b"] * 4
    assert measured.results["a"] == {"value": 4, "value_rounds": [2, 4, 6]}


def test_a_party_that_cannot_take_part_is_missing_with_the_reason() -> None:
    def absent() -> dict[str, float]:
        raise Absent("not installed")

    measured = take_turns("nothing", {"ours": lambda: {"seconds": 2.0}, "peer": absent}, 2)
    measured.compare("vs_peer", "ours", "peer", "seconds")
    assert measured.missing == [("peer", "not installed")]
    assert measured.ratios == {}
    assert list(check(document("tiny", measured))) == []


def test_a_party_that_fails_in_a_later_round_has_no_figures() -> None:
    turns = count()

    def tires() -> dict[str, float]:
        if next(turns) == 2:
            raise Absent("tired")
        return {"seconds": 1.0}

    measured = take_turns("nothing", {"peer": tires}, 3)
    assert (measured.results, measured.missing) == ({}, [("peer", "tired")])


@pytest.mark.parametrize(("less", "ratio"), [(False, 0.5), (True, 2.0)])
def test_more_is_better_in_every_ratio(less: bool, ratio: float) -> None:
    measured = Measured("nothing", {"ours": {"x": 1.0}, "peer": {"x": 2.0}})
    measured.compare("vs_peer", "ours", "peer", "x", less_is_better=less)
    assert measured.ratios == {"vs_peer": ratio}


@pytest.mark.parametrize(
    "damage",
    [
        {"work": ""},
        {"results": {"Our Party": {"seconds": 1.0}}},
        {"results": {"ours": {"seconds-p50": 1.0}}},
        {"results": {"ours": {"seconds": "fast"}}},
        {"results": {"ours": {"seconds_rounds": []}}},
        {"ratios": {"limit": 1.0}},
        {"ratios": {"vs_limit": -1.0}},
        {"missing": [["peer"]]},
        {"missing": [["peer", ""]]},
        {"more": 1},
    ],
)
def test_another_form_is_found_out(damage: dict[str, Any]) -> None:
    assert list(check(_good())) == []
    assert list(check(_good() | damage))


def test_the_page_has_every_figure_and_what_is_missing() -> None:
    text = page([_good()])
    for words in ("## tiny", "| ours | seconds | 1 |", "vs_limit 0.5", "Missing: peer (not here)"):
        assert words in text
