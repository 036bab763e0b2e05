"""`towpath lab`: a little internet of hosts that stays up, and commands on its hosts."""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

from towpath.errors import Misuse

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath lab up examples/labs/news.toml             bring it up; it stays until `down`
  towpath lab exec client -- curl https://news.test/
  towpath lab exec client -- towpath run --allow news.test -- sh
  towpath lab list
  towpath lab down

A Lab needs no rights: its hosts are network namespaces of your own, and its addresses and names exist in it alone.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the subcommand."""
    parser.description = "Run a little internet: hosts, names, services, links, without root."
    parser.epilog = _EXAMPLES
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    up = actions.add_parser("up", help="start the lab that a file describes")
    up.add_argument("file", metavar="FILE.toml")
    up.add_argument("--foreground", action="store_true", help="stay until interrupted")
    up.add_argument("--json", action="store_true", help="describe it in JSON")
    up.set_defaults(call=_up)

    execute = actions.add_parser("exec", help="run a command on a host, with its network and names")
    execute.add_argument("--lab", metavar="NAME", help="which, when several are up")
    execute.add_argument("host", metavar="HOST")
    execute.add_argument("command", metavar="-- CMD", nargs=argparse.REMAINDER)
    execute.set_defaults(call=_exec)

    down = actions.add_parser("down", help="end a lab and everything in it")
    down.add_argument("name", metavar="NAME", nargs="?")
    down.set_defaults(call=_down)

    listing = actions.add_parser("list", help="the labs that are up")
    listing.add_argument("--json", action="store_true", help="describe them in JSON")
    listing.set_defaults(call=_list)


def _up(options: argparse.Namespace) -> int:
    from towpath.testing import background
    from towpath.testing.lab import Lab

    lab = Lab.from_file(options.file)
    if options.foreground:
        with background.listen(lab.plan.name) as listener, lab.start():
            _print(background.describe(lab), options.json)
            background.serve(lab, listener)
    else:
        _print(background.start(lab), options.json)
    return 0


def _exec(options: argparse.Namespace) -> int:
    from towpath.kernel import system
    from towpath.testing import background

    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not command:
        raise Misuse("which command? towpath lab exec HOST -- CMD")
    answer, handle = background.ask(_chosen(options.lab), {"ask": "enter", "host": options.host})
    if handle is None:
        raise Misuse(f"the lab gave no way to {options.host}")
    sys.stdout.flush()
    system.hosts.enter(handle, administrator=False)
    try:
        os.execvpe(command[0], command, {**os.environ, **answer["environment"]})
    except OSError as error:
        print(f"towpath: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


def _down(options: argparse.Namespace) -> int:
    from towpath.testing import background

    background.ask(_chosen(options.name), {"ask": "down"})
    return 0


def _list(options: argparse.Namespace) -> int:
    from towpath.testing import background

    labs = list(background.running().values())
    if options.json:
        print(json.dumps(labs))
        return 0
    for lab in labs:
        _print(lab, False)
    return 0


def _chosen(name: str | None) -> str:
    """The Lab that is meant: the one named, or the only one."""
    from towpath.testing import background

    if name is not None:
        return name
    names = list(background.running())
    if len(names) == 1:
        return names[0]
    error = Misuse(f"several labs are up: {', '.join(names)}" if names else "no lab is up")
    error.hint = "name the one you mean" if names else "towpath lab up FILE.toml"
    raise error


def _print(lab: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(lab), flush=True)
        return
    from towpath.cli.table import clean

    rows = [
        [
            clean(cell or "")
            for cell in (host["name"], host["ipv4"], host["ipv6"], " ".join(host["services"]), " ".join(host["names"]))
        ]
        for host in lab["hosts"]
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    print(f"lab {clean(lab['name'])} is up")
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    sys.stdout.flush()
