"""Tables for people: as wide as the terminal, and as wide as their content where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

__all__ = ["clean", "one_line", "print_table"]

_WITHOUT_TERMINAL = 400


def clean(text: str) -> str:
    """Text from outside without control characters: the name of an interface must not steer a terminal."""
    return "".join(
        character if character.isprintable() or character == "\n" else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def one_line(value: object) -> str:
    """The same without line breaks: what is read from a file must not forge a line either."""
    return clean(str(value)).replace("\n", "\N{REPLACEMENT CHARACTER}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints rows of cells, which may have several lines, below the names of the columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _WITHOUT_TERMINAL).print(table)
    sys.stdout.flush()
