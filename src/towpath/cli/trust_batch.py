"""`towpath trust batch FILE`: thousands of hosts or chain files at once, as JSON lines, resumable."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from towpath.cli.trust import ACCEPTED, REFUSED, Question
from towpath.errors import ConfigInvalid, TowpathError

__all__ = ["run"]


def run(file: str, asked: Question, output: Path | None, workers: int) -> int:
    """Judges every target of `file`; 1 when one was refused or could not be asked."""
    targets = list(dict.fromkeys(_targets(Path(file))))
    done = _done(output) if output is not None else set()
    waiting = [target for target in targets if target not in done]
    if output is None:
        return asyncio.run(_run(waiting, len(done), asked, sys.stdout, workers))
    with output.open("a", encoding="utf-8") as stream:
        return asyncio.run(_run(waiting, len(done), asked, stream, workers))


def _targets(file: Path) -> Iterator[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(
            str(file), str(error), "give a text file with one HOST[:PORT] or chain file a line"
        ) from error
    for line in text.splitlines():
        target = line.split("#", 1)[0].strip()
        if target:
            yield target


def _done(output: Path) -> set[str]:
    """Targets whose line is whole: the last line of an interrupted run may be cut short, and is asked again."""
    if not output.exists():
        return set()
    whole, done = [], set()
    for line in output.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            done.add(json.loads(line)["target"])
        except (ValueError, TypeError, KeyError):
            continue
        whole.append(line if line.endswith("\n") else line + "\n")
    output.write_text("".join(whole), encoding="utf-8")
    return done


async def _run(targets: list[str], before: int, asked: Question, stream: IO[str], workers: int) -> int:
    progress = _Progress(before, before + len(targets))
    queue = iter(targets)
    refused = 0

    async def work() -> None:
        nonlocal refused
        for target in queue:
            answer = await _answer(target, asked)
            refused += not answer["accepted"]
            stream.write(json.dumps(answer) + "\n")
            progress.step(refused)

    async with asyncio.TaskGroup() as group:
        for _ in range(max(1, min(workers, len(targets)))):
            group.create_task(work())
    progress.end()
    return REFUSED if refused else ACCEPTED


async def _answer(target: str, asked: Question) -> dict[str, Any]:
    try:
        return {"target": target, **(await asked.ask(target)).as_dict()}
    except TowpathError as error:
        return {"target": target, "accepted": False, "error": str(error), "hint": error.hint}


class _Progress:
    """One line on standard error, only on a terminal."""

    def __init__(self, done: int, total: int) -> None:
        self._done, self._total = done, total
        self._shown = sys.stderr.isatty()

    def step(self, refused: int) -> None:
        self._done += 1
        if self._shown:
            filled = 30 * self._done // max(1, self._total)
            bar = "#" * filled + "." * (30 - filled)
            print(f"\r[{bar}] {self._done}/{self._total}, {refused} not accepted ", end="", file=sys.stderr)

    def end(self) -> None:
        if self._shown:
            print(file=sys.stderr)
