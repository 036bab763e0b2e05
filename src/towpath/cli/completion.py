"""`towpath completion`: what a shell needs to complete the command line."""

from __future__ import annotations

import argparse

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


def call(options: argparse.Namespace) -> int:
    """Prints the completion script."""
    import shtab

    from towpath.cli.parser import build

    print(shtab.complete(build([], whole=True), options.shell))
    return 0
