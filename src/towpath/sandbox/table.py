"""The flow table at the end of a run. Written here, in few lines: the manager loads as little code as it can."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from towpath import __version__
from towpath.sandbox.report import Ledger

__all__ = ["print_markdown", "print_table"]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_RED, _YELLOW, _BOLD, _PLAIN = "\033[31m", "\033[33m", "\033[1m", "\033[0m"
_WORDS = ("program", "destination", "via", "name learnt", "verdict", "rule")
_FEW_WORDS = ("program", "destination", "verdict", "rule")
_NUMBERS = ("flows", "sent", "received")
_WIDE = 110
"""Columns of a terminal in which the whole table can be read."""
_NO_MARKUP = " .,:-()?"


def size(count: int) -> str:
    """Bytes as people read them: three figures and a decimal unit."""
    value = float(count)
    step = 0
    while value >= 1000 and step + 1 < len(_UNITS):
        value /= 1000
        step += 1
    return f"{count} B" if step == 0 else f"{value:.3g} {_UNITS[step]}"


def print_table(ledger: Ledger, out: TextIO) -> None:
    """Prints one row for all flows of a program to a destination that were decided alike."""
    if not ledger.rows:
        out.write("towpath: no flows\n")
        return
    columns = _columns(out)
    wide = columns is None or columns >= _WIDE
    titles = [*_WORDS, *_NUMBERS] if wide else [*_FEW_WORDS, _NUMBERS[0]]
    words = len(_WORDS if wide else _FEW_WORDS)
    lines = [titles]
    colours = [_BOLD]
    for row, total in ledger.rows.items():
        colours.append(_RED if row.verdict == "refused" else _YELLOW if row.verdict.startswith("failed") else "")
        if wide:
            lines.append(list(row))
            lines[-1] += [str(total.flows), size(total.sent), size(total.received)]
        else:
            destination = f"{row.destination} {row.transport}"
            lines.append([row.program, destination, row.verdict, row.rule, str(total.flows)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    out.write("\n")
    for number, (line, colour) in enumerate(zip(lines, colours, strict=True)):
        cells = [
            cell.ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text = "  ".join(cells).rstrip()
        out.write(f"{colour}{text}{_PLAIN}\n" if columns is not None and colour else f"{text}\n")
        if number == 0:
            out.write("  ".join("-" * width for width in widths) + "\n")
    if not wide:
        out.write("towpath: names, bytes and more in a wider terminal, or with --report json\n")


def print_markdown(ledger: Ledger, command: Sequence[str], policy: str, out: TextIO) -> None:
    """The same to be pasted where one asks for help, what was refused first: the command, the rules, the versions."""
    out.write(f"\n`towpath run -- {_code(' '.join(command))}`\n\n")
    out.write(f"- towpath {__version__}, Linux {os.uname().release}, Python {sys.version.split()[0]}\n")
    out.write(f"- {ledger.allowed} allowed, {ledger.refused_flows} refused, {ledger.failed} failed\n")
    out.write(f"- policy: `{_code(policy)}`\n\n")
    titles = [*_WORDS, *_NUMBERS]
    out.write(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}\n")
    for row, total in sorted(ledger.rows.items(), key=lambda entry: entry[0].verdict == "allowed"):
        cells = [*row, str(total.flows), size(total.sent), size(total.received)]
        out.write(f"| {' | '.join(map(_cell, cells))} |\n")


def _code(text: str) -> str:
    """What stands between backticks, where nothing is markup but a backtick and, in a table, a bar."""
    shown = text.replace("|", "/").replace("`", "'").replace("\n", " ")
    return "".join(one if one.isprintable() else "?" for one in shown)


def _cell(text: str) -> str:
    """As code, unless it holds nothing that could be markup, a link or the mention of somebody."""
    shown = _code(text)
    return shown if all(one.isalnum() or one in _NO_MARKUP for one in shown) else f"`{shown}`"


def _columns(out: TextIO) -> int | None:
    """The width of a terminal; `None` for a file or a pipe, which is as wide as it must be."""
    try:
        return os.get_terminal_size(out.fileno()).columns
    except (OSError, ValueError):
        return None
