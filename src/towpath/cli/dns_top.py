"""`towpath dns top`: the names of a run while it runs."""

from __future__ import annotations

import argparse
import json
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from towpath.errors import ConfigInvalid

if TYPE_CHECKING:
    from rich.console import RenderableType

    from towpath.live.link import Link

__all__ = ["add"]

_EXAMPLES = """\
examples:
  towpath dns top                the run, if there is one
  towpath dns top 4711           the run whose towpath has this process id
  towpath dns top 4711 --json    a line of JSON twice a second

keys: f forget all answers, q quit. ^C ends it too, and leaves the run alone. While it watches, each question is
counted, which costs the run some speed.
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

    if not options.json and not (sys.stdout.isatty() and sys.stdin.isatty()):
        hint = f"towpath dns top {options.pid or ''} --json".replace("  ", " ")
        raise ConfigInvalid("towpath dns top", "it draws on a terminal, and this is none", hint)
    attached = link.attach_one(options.pid, "towpath dns top")
    attached.send("names")
    try:
        if options.json:
            attached.socket.settimeout(None)
            for message in attached.messages():
                if message["type"] == "names":
                    print(json.dumps(message), flush=True)
        else:
            _draw(attached)
    except KeyboardInterrupt:
        return 0
    finally:
        attached.close()
    return 0


def _draw(attached: Link) -> None:
    """Draws reports as they come, and does what keys say."""
    from rich.live import Live

    attached.socket.setblocking(False)
    report: dict[str, Any] = {}
    said, goes_on = "", True
    with _keys() as keyboard, Live(screen=True, auto_refresh=False) as live:
        while goes_on:
            ready, _, _ = select.select([attached.socket.fileno(), keyboard], [], [])
            if keyboard in ready:
                key = os.read(keyboard, 1)
                if key in (b"q", b""):
                    return
                if key == b"f":
                    attached.send("flush", names=[])
            if attached.socket.fileno() in ready:
                messages, goes_on = attached.ready()
                for message in messages:
                    report = message if message["type"] == "names" else report
                    if "flushed" in message:
                        said = f"{message['flushed']} answers forgotten"
            if report:
                live.update(table(report, live.console.height, said), refresh=True)


@contextmanager
def _keys() -> Iterator[int]:
    """The keyboard, each key as it is pressed."""
    import termios
    import tty

    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def table(report: dict[str, Any], height: int = 40, said: str = "") -> RenderableType:
    """A report as it is drawn, at most `height` lines high, with what was `said` to a key."""
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
    since = report["since_start"]
    kept = 100 * since["hits"] / (since["hits"] + since["misses"] or 1)
    keys = Text(f"since the start {kept:.0f} % from the cache   f forget all answers   q quit", style="dim")
    servers = Table("SERVER", "ANSWERS", "ms", box=None)
    for one in report["servers"]:
        servers.add_row(clean(str(one["server"])), str(one["answers"]), f"{one['milliseconds']:.1f}")
    names = Table("NAME", "ASKED", "CACHED", "REFUSED", "ms", "PROGRAMS", "WHY", box=None)
    for one in report["names"][: max(5, height - len(report["servers"]) - 7)]:
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
    return Group(head, keys, Text(said), servers, names)
