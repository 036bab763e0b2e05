"""The command: ``python -m benchmarks NAME [--seconds S] [--json]``, ``--list``, ``--all --write FILE``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import NAMES
from benchmarks.form import Measured, document
from benchmarks.rounds import Absent
from benchmarks.table import page, summary
from towpath.errors import TowpathError

_SECONDS = 6.0


def _measure(name: str, seconds: float) -> dict[str, Any]:
    module = import_module(f"benchmarks.{name}")
    try:
        measured: Measured = module.run(seconds)
    except (Absent, TowpathError) as reason:
        measured = Measured(f"{name}: nothing could be measured", missing=[("all", str(reason))])
    return document(name, measured)


def main() -> int:
    """Runs what was asked for; the last line of standard output is JSON with ``--json``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Towpath beside real peers, in a Lab.")
    parser.add_argument("name", nargs="?", choices=NAMES, metavar="NAME", help="one of --list")
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="for each party (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    parser.add_argument("--list", action="store_true", help="the names")
    parser.add_argument("--all", action="store_true", help="every benchmark")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write a page of the results")
    options = parser.parse_args()
    # Programs that are started over and over must find their bytecode, as they do on their users' machines.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if options.list:
        print("\n".join(NAMES))
        return 0
    names = NAMES if options.all else [options.name]
    if names == [None]:
        parser.error("a NAME, --all or --list")
    found = []
    for name in names:
        one = _measure(name, options.seconds)
        found.append(one)
        print(json.dumps(one) if options.json else summary(one), flush=True)
    if options.write:
        options.write.write_text(page(found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
