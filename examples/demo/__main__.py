"""Brings the Lab up, runs the programs under an allow list, and shows what became of each flow."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from towpath.errors import TowpathError
from towpath.testing import Lab

_ROOT = Path(__file__).resolve().parents[2]
_READER = "examples/demo/reader.sh"
_RULES = ["news.test:443", "slow.test:80", "git.test:22", "udp://time.test:9000"]


def main() -> int:
    options = [word for rule in _RULES for word in ("--allow", rule)]
    began = time.monotonic()
    with Lab.from_file(_ROOT / "examples" / "labs" / "news.toml") as lab:
        hosts = ", ".join(host.name for host in lab)
        print(f"A Lab with the hosts {hosts} is up after {time.monotonic() - began:.2f} s.")
        print("On its client:\n")
        shown = " ".join(options).replace(" --allow", " \\\n    --allow")
        print(f"towpath run --report table {shown} \\\n    -- examples/demo/reader.sh", flush=True)
        command = [sys.executable, "-m", "towpath", "run", "--report", "table", *options, "--", "sh", _READER]
        done = lab["client"].run(command, cwd=_ROOT, stdout=None, stderr=None, timeout=60)
        asked = sum(len(lab.log(name)) for name in ("tracker",))
        print(f"The tracker's host saw {asked} connections.")
    return 0 if done.returncode == 0 and not asked else 1


try:
    sys.exit(main())
except TowpathError as error:
    sys.exit(f"demo: {error}" + (f"\ndemo: hint: {error.hint}" if error.hint else ""))
