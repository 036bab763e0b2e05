"""The flow table at the end of a run."""

from __future__ import annotations

from typing import TextIO

from towpath.sandbox.report import Ledger

__all__ = ["print_table"]

_UNITS = ("B", "kB", "MB", "GB", "TB")


_WORDS = ("program", "destination", "via", "name learnt", "verdict", "rule")
_FEW_WORDS = ("program", "destination", "verdict", "rule")
_NUMBERS = ("flows", "sent", "received")
_WIDE = 110
"""Columns of a terminal in which the whole table can be read."""


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
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    if not ledger.rows:
        out.write("towpath: no flows\n")
        return
    console = Console(file=out, highlight=False)
    if not console.is_terminal:
        console = Console(file=out, highlight=False, width=160)
    wide = console.width >= _WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in _WORDS if wide else _FEW_WORDS:
        table.add_column(title, overflow="fold")
    for title in _NUMBERS if wide else _NUMBERS[:1]:
        table.add_column(title, justify="right", no_wrap=True)
    for row, total in ledger.rows.items():
        style = "red" if row.verdict == "refused" else "yellow" if row.verdict.startswith("failed") else None
        cells = [row.program, row.destination, row.transport, row.learnt, row.verdict, row.rule]
        counts = [str(total.flows), size(total.sent), size(total.received)]
        if not wide:
            cells[1:4] = [f"{row.destination} {row.transport}"]
            del counts[1:]
        table.add_row(*map(escape, cells), *counts, style=style)
    console.print(table)
    if not wide:
        out.write("towpath: names, bytes and more in a wider terminal, or with --report json\n")
