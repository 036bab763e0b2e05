"""The parser tree. Only the subcommand that was asked for is filled in; `--help` lists them all in this order."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import NoReturn

from towpath import __version__

COMMANDS: dict[str, str] = {
    "run": "give one command only the network it was allowed",
    "top": "show the flows of a run while it runs",
    "policy": "read policy files, and say what they mean for a destination",
    "explain-flow": "say what a line of a report means",
    "lab": "run a little internet of hosts, and commands on them",
    "tunnel": "make keys, check files, and see the tunnels that `towpath run --tunnel` runs",
    "extension": "begin, check and list filters: the Python classes that `towpath run --filter` takes",
    "trust": "judge a certificate: good, for this name, on this date, under this policy; if not, why",
    "interfaces": "list network interfaces: type, state, addresses; watch them change",
    "resolve": "look a name up: every answer with its source, server, lifetime and reason",
    "dns": "ask resolvers side by side, or watch the names of a run live",
    "nc": "join standard input and output to a connection of any kind: netcat with TLS, reports, and reasons",
    "path": "say what a connection would use now, or why there is no path",
    "completion": "print what a shell needs to complete this command",
}
"""Subcommand to one line of help. The module `towpath.cli.NAME` has `add(parser)`, which sets the default `call`."""


class Parser(argparse.ArgumentParser):
    """Exits with 125 on a wrong command line: 2 could be the code of the command that was run."""

    def error(self, message: str) -> NoReturn:
        self.print_usage()
        self.exit(125, f"{self.prog}: {message}\n{self.prog}: hint: {self.prog} --help\n")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Asks for the terminal's width by itself: argparse makes a formatter for each option and imports much for it."""

    def __init__(self, prog: str) -> None:
        try:
            columns = os.get_terminal_size(sys.stdout.fileno()).columns
        except (OSError, ValueError, AttributeError):
            columns = 100
        super().__init__(prog, width=max(60, columns - 2))


def build(words: list[str], *, whole: bool = False) -> argparse.ArgumentParser:
    """The parser for a command line that begins with `words`; with `whole` every subcommand is filled in."""
    parser = Parser(
        prog="towpath",
        description="Application networking for Linux: one command, only the network it was allowed.",
        formatter_class=Formatter,
    )
    parser.add_argument("--version", action="version", version=f"towpath {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, prog="towpath", parser_class=Parser
    )
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, summary in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, formatter_class=Formatter)
        sub.set_defaults(parser=sub)
        if whole or name == asked:
            importlib.import_module(f"towpath.cli.{name.replace('-', '_')}").add(sub)
    return parser
