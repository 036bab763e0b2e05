"""The rules of noughts and crosses."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Board"]

_LINES = ("012", "345", "678", "036", "147", "258", "048", "246")


@dataclass(frozen=True)
class Board:
    """Nine fields, numbered 1 to 9 in rows; X begins.

    >>> Board().after(5).after(1)
    Board(fields='O...X....')
    """

    fields: str = "........."

    @property
    def turn(self) -> str:
        """Whose turn it is: X or O."""
        return "X" if self.fields.count("X") == self.fields.count("O") else "O"

    @property
    def winner(self) -> str | None:
        for line in _LINES:
            marks = {self.fields[int(place)] for place in line}
            if len(marks) == 1 and marks != {"."}:
                return marks.pop()
        return None

    @property
    def is_over(self) -> bool:
        return self.winner is not None or "." not in self.fields

    def after(self, field: int) -> Board:
        """The board after the one whose turn it is takes a field. Raises `ValueError` for one that cannot be taken."""
        if self.is_over or not 1 <= field <= 9 or self.fields[field - 1] != ".":
            raise ValueError(f"field {field} cannot be taken")
        return Board(self.fields[: field - 1] + self.turn + self.fields[field:])

    def __str__(self) -> str:
        return "\n".join(" ".join(self.fields[at : at + 3]) for at in (0, 3, 6))
