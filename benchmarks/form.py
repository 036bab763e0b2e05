"""What a benchmark gives: one JSON object of a fixed form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["Figure", "Measured", "check", "document"]

Figure = float | list[float]
"""A median, or the value of each round under the same name with ``_rounds``."""

_WORD = re.compile(r"[a-z][a-z0-9_]*")


@dataclass
class Measured:
    """`work` says what every party did. `missing` are parties that could not take part, each with the reason."""

    work: str
    results: dict[str, dict[str, Figure]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    missing: list[tuple[str, str]] = field(default_factory=list)

    def figure(self, party: str, name: str) -> float | None:
        """The median of a party that took part."""
        found = self.results.get(party, {}).get(name)
        return found if isinstance(found, (int, float)) else None

    def compare(self, key: str, ours: str, theirs: str, name: str, *, less_is_better: bool = False) -> None:
        """Adds the ratio `key` of one figure of two parties, so that more is better; nothing when one is missing."""
        mine, other = self.figure(ours, name), self.figure(theirs, name)
        if mine and other:
            self.ratios[key] = round(other / mine if less_is_better else mine / other, 3)


def document(name: str, measured: Measured) -> dict[str, Any]:
    """The JSON object. Raises `ValueError` when it has not the form."""
    found = {"benchmark": name, **asdict(measured)}
    found["missing"] = [list(one) for one in measured.missing]
    faults = list(check(found))
    if faults:
        raise ValueError("; ".join(faults))
    return found


def check(found: dict[str, Any]) -> Iterable[str]:
    """What is wrong with the form of a document: nothing, for a good one."""
    if list(found) != ["benchmark", "work", "results", "ratios", "missing"]:
        yield f"its keys are {list(found)}"
        return
    if not isinstance(found["work"], str) or not found["work"]:
        yield "it does not say what the work was"
    for party, figures in found["results"].items():
        yield from _check_words("party", [party])
        yield from _check_words("figure", figures)
        for name, value in figures.items():
            values = value if isinstance(value, list) else [value]
            if not values or not all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in values):
                yield f"{party}.{name} is {value!r}"
    yield from _check_words("ratio", found["ratios"])
    for key, value in found["ratios"].items():
        if not key.startswith("vs_") or not isinstance(value, (int, float)) or value < 0:
            yield f"the ratio {key} is {value!r}"
    for one in found["missing"]:
        if len(one) != 2 or not all(isinstance(word, str) and word for word in one):
            yield f"{one!r} is not a missing peer and why"


def _check_words(what: str, words: Iterable[str]) -> Iterable[str]:
    yield from (
        f"the {what} {word!r} is not lower case with underscores" for word in words if not _WORD.fullmatch(word)
    )
