"""Results as people read them."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from typing import Any

__all__ = ["page", "summary"]


def summary(found: dict[str, Any]) -> str:
    """One benchmark as a section of Markdown."""
    lines = [f"## {found['benchmark']}", "", found["work"] + ".", ""]
    if found["results"]:
        lines += ["| party | figure | median | each round |", "|---|---|---|---|"]
    for party, figures in found["results"].items():
        for name, value in figures.items():
            if not isinstance(value, list):
                each = figures.get(name + "_rounds", [])
                shown = f"{min(each):,g} to {max(each):,g} ({len(each)})" if each else ""
                lines.append(f"| {party} | {name} | {value:,g} | {shown} |")
    ratios = ", ".join(f"{key} {value:g}" for key, value in found["ratios"].items())
    lines += ["", f"Ratios, more is better: {ratios}." if ratios else "No ratio."]
    lines += [f"Missing: {peer} ({why})." for peer, why in found["missing"]]
    return "\n".join([*lines, ""])


def page(found: Iterable[dict[str, Any]]) -> str:
    """All of them, with what they ran on."""
    machine = f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    head = (
        "# Performance\n\n"
        f"Written by `make bench` ({machine}). In each benchmark the parties took turns on the same work in one run; "
        "medians, and the range of the rounds. Only compare figures within one section.\n"
    )
    return "\n".join([head, *(summary(one) for one in found)])
