"""What one run was asked to do."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RunOptions"]


class RunOptions(NamedTuple):
    """The options of `towpath run`, as they were given. `report` is "none", "table" or "json"."""

    argv: list[str]
    allow: list[str] = []
    deny: list[str] = []
    policy: list[str] = []
    allow_local: list[int] = []
    publish: list[tuple[int, int]] = []
    allow_unix: list[str] = []
    keep_fd: list[int] = []
    environment: dict[str, str] = {}
    report: str = "none"
    report_file: str | None = None
    level: str = "warning"
