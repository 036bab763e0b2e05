"""`towpath dns top`: the names of a run while it runs."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

from towpath.errors import ConfigInvalid

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath dns top                the run, if there is one
  towpath dns top 4711           the run whose towpath has this process id
  towpath dns top 4711 --json    a line of JSON twice a second

^C ends it, and leaves the run alone. While it watches, each question is counted, which costs the run some speed.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the verb."""
    parser.description = "Show which names a run asks for, who asks, what is refused, and how fast servers answer."
    parser.epilog = _EXAMPLES
    parser.add_argument("pid", type=int, nargs="?", help="the process id of a towpath run")
    parser.add_argument("--json", action="store_true", help="print JSON, and draw nothing")
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Shows until the run ends."""
    from towpath.live import link

    pid = options.pid
    if pid is None:
        found = link.runs()
        if len(found) != 1:
            how_many = "no run of yours is under way" if not found else f"{len(found)} runs are under way"
            raise ConfigInvalid("towpath dns top", how_many, "towpath top --list has their numbers")
        pid = found[0]["pid"]
    if not options.json and not sys.stdout.isatty():
        hint = f"towpath dns top {pid} --json"
        raise ConfigInvalid("towpath dns top", "it draws on a terminal, and this is none", hint)
    attached = link.attach(pid)
    attached.socket.settimeout(None)
    attached.send("names")
    reports = (message for message in attached.messages() if message["type"] == "names")
    try:
        if options.json:
            for report in reports:
                print(json.dumps(report), flush=True)
        else:
            _draw(reports)
    except KeyboardInterrupt:
        return 0
    finally:
        attached.close()
    return 0


def _draw(reports: Any) -> None:
    from rich.live import Live

    with Live(screen=True, auto_refresh=False) as live:
        for report in reports:
            live.update(table(report, live.console.height), refresh=True)


def table(report: dict[str, Any], height: int = 40) -> RenderableType:
    """A report as it is drawn, at most `height` lines high."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from towpath.cli.table import clean

    asked = int(report["asked"]) or 1
    cached, refused = 100 * report["cached"] / asked, 100 * report["refused"] / asked
    head = Text(
        f"{report['asked']} questions, {cached:.0f} % from the cache, {refused:.0f} % refused; "
        f"{report['kept']} answers kept ({report['bytes'] / 1e6:.1f} MB), "
        f"{report['under_way']} under way, {report['sockets']} sockets"
    )
    servers = Table("SERVER", "ANSWERS", "ms", box=None)
    for one in report["servers"]:
        servers.add_row(clean(str(one["server"])), str(one["answers"]), f"{one['milliseconds']:.1f}")
    names = Table("NAME", "ASKED", "CACHED", "REFUSED", "ms", "PROGRAMS", "WHY", box=None)
    for one in report["names"][: max(5, height - len(report["servers"]) - 5)]:
        names.add_row(
            clean(str(one["name"])),
            str(one["asked"]),
            str(one["cached"]),
            str(one["refused"]),
            f"{one['milliseconds']:.1f}",
            clean(", ".join(map(str, one["programs"]))),
            clean(str(one.get("reason") or "")),
            style="red" if one["refused"] else "",
        )
    return Group(head, servers, names)
