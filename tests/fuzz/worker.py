"""One entry under atheris until the time is over: `python -m tests.fuzz.worker NAME SECONDS`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["towpath"]):
    from tests.fuzz.entries import ENTRIES, SEEDS


def main() -> None:
    name, seconds = sys.argv[1:]
    with tempfile.TemporaryDirectory() as corpus:
        for at, seed in enumerate(SEEDS[name]):
            (Path(corpus) / str(at)).write_bytes(seed)
        atheris.Setup(
            [sys.argv[0], f"-max_total_time={seconds}", "-max_len=4096", "-timeout=5", "-verbosity=0", corpus],
            ENTRIES[name],
        )
        atheris.Fuzz()


main()
