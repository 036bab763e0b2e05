"""`towpath completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["add"]

_EPILOG = """\
examples:
  towpath completion bash > ~/.local/share/bash-completion/completions/towpath
  towpath completion zsh > ~/.zfunc/_towpath
"""


def add(parser: argparse.ArgumentParser) -> None:
    """Fills in the options of `towpath completion`."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="the shell to complete in")
    parser.set_defaults(call=call)


_FILES = ("FILE", "FILE.pcapng", "PATH", "DIR", "FILE.toml", "TARGET")


_PREAMBLE = """\
_towpath_profiles() {
  compgen -W "%s" -- "$1"
}
"""


def _complete_values(parser: argparse.ArgumentParser, how: object) -> None:
    """Options and arguments whose value is a file or a profile say so by their metavar."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in set(action.choices.values()):
                _complete_values(sub, how)
        elif action.dest == "profile":
            action.complete = {"bash": "_towpath_profiles"}  # type: ignore[attr-defined]
        elif action.metavar in _FILES or action.dest in ("file", "files"):
            action.complete = how  # type: ignore[attr-defined]


def call(options: argparse.Namespace) -> int:
    """Prints the completion script."""
    import shtab

    from towpath.cli.parser import build
    from towpath.policy import profile

    parser = build([], whole=True)
    _complete_values(parser, shtab.FILE)
    preamble: Any = {"bash": _PREAMBLE % " ".join(profile.names())}  # which its type does not say
    print(shtab.complete(parser, options.shell, preamble=preamble))
    return 0
