"""`towpath run` on a host of a Lab, as the tests use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towpath.testing import Lab

__all__ = ["TOWPATH", "Finished", "Runner", "python"]

TOWPATH = str(Path(sys.executable).with_name("towpath"))


def python(source: str) -> list[str]:
    """The command line of a Python program."""
    return ["/usr/bin/python3", "-I", "-c", source]


@dataclass(frozen=True)
class Finished:
    """How a run ended. `flows` are the records of its report."""

    code: int
    out: str
    err: str
    flows: list[dict[str, Any]]

    def only(self, **wanted: object) -> dict[str, Any]:
        """The one flow with these fields."""
        found = [flow for flow in self.flows if all(flow.get(key) == value for key, value in wanted.items())]
        assert len(found) == 1, f"{len(found)} flows with {wanted}: {self.flows}"
        return found[0]


class Runner:
    """Runs commands in sandboxes on one host."""

    def __init__(self, lab: Lab, host: str, folder: Path) -> None:
        self.lab = lab
        self.host = lab[host]
        self._report = folder / "report.jsonl"

    def __call__(self, *options: str, command: list[str] | str, timeout: float = 120, **more: Any) -> Finished:
        """Runs `command` (a list, or a line for the shell) under `towpath run OPTIONS`, with a JSON report."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        self._report.unlink(missing_ok=True)
        done: subprocess.CompletedProcess[str] = self.host.run(
            [TOWPATH, "run", "--report-file", str(self._report), *options, "--", *words], timeout=timeout, **more
        )
        lines = self._report.read_text().splitlines() if self._report.exists() else []
        flows = [record for record in map(json.loads, lines) if record["type"] != "summary"]
        return Finished(done.returncode, done.stdout, done.stderr, flows)

    @contextmanager
    def popen(self, *options: str, command: list[str] | str, **more: Any) -> Iterator[subprocess.Popen[str]]:
        """Starts a run; it is killed when the block is left, whatever happened in it."""
        words = ["sh", "-c", command] if isinstance(command, str) else command
        with self.host.popen([TOWPATH, "run", *options, "--", *words], text=True, **more) as process:
            try:
                yield process
            finally:
                process.kill()
