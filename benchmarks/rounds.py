"""Parties that take turns: what else the machine does meanwhile falls on all of them alike."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from statistics import median

from benchmarks.form import Figure, Measured

__all__ = ["Absent", "Party", "take_turns"]

Party = Callable[[], Mapping[str, float]]
"""Works once and gives its figures."""


class Absent(Exception):
    """A party that cannot take part; the words say why."""


def take_turns(work: str, parties: Mapping[str, Party], rounds: int) -> Measured:
    """The median of each party's figures over `rounds`, with the value of every round beside it.

    Each party works once before, unmeasured, so that caches are warm. One that fails is missing from then on.
    """
    measured = Measured(work)
    values: dict[str, dict[str, list[float]]] = {}
    failed: set[str] = set()
    for turn in range(rounds + 1):
        for name, party in parties.items():
            if name in failed:
                continue
            try:
                figures = party()
            except (Absent, OSError, subprocess.SubprocessError) as reason:
                failed.add(name)
                values.pop(name, None)
                measured.missing.append((name, str(reason) or type(reason).__name__))
                continue
            if turn:
                for figure, value in figures.items():
                    values.setdefault(name, {}).setdefault(figure, []).append(value)
    for name, found in values.items():
        measured.results[name] = _with_medians(found)
    return measured


def _with_medians(found: dict[str, list[float]]) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    for figure, each in found.items():
        figures[figure] = _short(median(each))
        figures[figure + "_rounds"] = [_short(one) for one in each]
    return figures


def _short(value: float) -> float:
    return round(value, 4 if abs(value) < 1 else 2 if abs(value) < 1000 else 0)
