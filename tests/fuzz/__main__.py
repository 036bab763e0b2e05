"""Runs fuzz entries one after the other; exits 1 when any of them found something."""

from __future__ import annotations

import argparse
import subprocess
import sys

from tests.fuzz.entries import ENTRIES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", choices=[[], *ENTRIES], help=f"of {', '.join(ENTRIES)}")
    parser.add_argument("--seconds", type=int, default=60, help="for each entry (60)")
    options = parser.parse_args()
    failed = []
    for name in options.names or ENTRIES:
        sys.stdout.write(f"{name}: {options.seconds} s\n")
        sys.stdout.flush()
        worker = [sys.executable, "-m", "tests.fuzz.worker", name, str(options.seconds)]
        if subprocess.run(worker, check=False).returncode:
            failed.append(name)
    sys.stdout.write(f"{len(options.names or ENTRIES)} entries, failed: {', '.join(failed) or 'none'}\n")
    return 1 if failed else 0


sys.exit(main())
