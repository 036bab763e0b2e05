"""What one run was asked to do."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["RunOptions"]


class RunOptions(NamedTuple):
    """The options of `towpath run`, as they were given. `report` is "none", "table", "markdown" or "json".

    `has_terminal` says whether people can be asked at it.

    `filters` are as `towpath.hosting.bundle.find_bundle` reads them, in the order in which they are asked.
    """

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
    filters: list[str] = []
    tunnel: str | None = None
    on_failure: Literal["block", "pass"] = "block"
    reload: bool = False
    ask_with: str | None = None
    protect: bool = True
    learn: str | None = None
    learn_wildcards: bool = False
    learn_requests: bool = False
    capture: str | None = None
    capture_secrets: bool = False
    watch: bool = False
    has_terminal: bool = True
    dns: str | None = None
