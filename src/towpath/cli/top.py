"""`towpath top`: the runs of this user, and one of them live."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from towpath.errors import ConfigInvalid, FeatureMissing

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath top                    the run, if there is one; a list if there are several
  towpath top 4711               the run whose towpath has this process id
  towpath top --list --json      all runs, as JSON
  towpath top 4711 --json        what happens in it, a line of JSON each

keys: a allow, d deny, f follow one program, / search, escape show all, p pause, ^C interrupt the run, q quit. A rule
that is added holds from then on, before all others; a deny ends what is under way. At the end a summary is printed.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Show the flows of a run while it runs: names, owners, verdicts, rules, rates, round trips."
    parser.epilog = _EXAMPLES
    parser.add_argument("pid", type=int, nargs="?", help="the process id of a towpath run")
    parser.add_argument("--list", action="store_true", help="list the runs, and show none")
    parser.add_argument("--json", action="store_true", help="print JSON, and draw nothing")
    parser.add_argument("--until-end", action="store_true", help="end with the run")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Lists or shows."""
    from towpath.live import link

    if options.pid is None:
        found = link.runs()
        if options.list or len(found) != 1 or (options.json and not found):
            return _list(found, as_json=options.json, wanted=options.list)
        options.pid = found[0]["pid"]
    attached = link.attach(options.pid)
    if options.json:
        return _stream(attached)
    if not sys.stdout.isatty():
        raise ConfigInvalid(
            "towpath top", "it draws on a terminal, and this is none", f"towpath top {options.pid} --json"
        )
    try:
        from towpath.live.app import LiveApp
    except ModuleNotFoundError as error:
        raise FeatureMissing(
            "draw",
            2,
            f"the Python package {error.name} is not installed",
            feature="textual",
            hint="pip install textual",
        ) from None
    app = LiveApp(attached, until_end=options.until_end)
    app.run()
    print(app.board.summary())
    return 0


def _list(found: list[dict[str, Any]], *, as_json: bool, wanted: bool) -> int:
    if as_json:
        print(json.dumps(found, indent=2))
    elif not found:
        print("no run of yours is under way", file=sys.stderr)
    else:
        for run in found:
            age = max(0, int(time.time() - float(run.get("started") or 0)))
            print(f"{run['pid']:>8}  {age // 60:>4}:{age % 60:02}  {_plain(' '.join(run.get('command') or ()))}")
        if not wanted:
            print("which one? towpath top PID", file=sys.stderr)
    return 0 if found or as_json else 1


def _stream(attached: Any) -> int:
    print(json.dumps(attached.hello), flush=True)
    attached.socket.settimeout(None)
    attached.send("follow")
    for message in attached.messages():
        print(json.dumps(message), flush=True)
    return 0


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)
