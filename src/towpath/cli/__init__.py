"""The `towpath` command: parse arguments, call, print.

Each subcommand is a module of its own, imported only when it is asked for: `towpath run` must start fast.
"""

from __future__ import annotations

import gc
import os
import sys

from towpath.errors import TowpathError

__all__ = ["main", "program"]

EXIT_TOWPATH_FAILED = 125


def main(arguments: list[str] | None = None) -> int:
    """Runs one command line and gives its exit code; a user's mistake ends in one line and a hint, never a trace."""
    from towpath.cli.parser import build

    words = sys.argv[1:] if arguments is None else arguments
    try:
        parser = build(words)
        options, unknown = parser.parse_known_args(words)
        if unknown:
            options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
        return int(options.call(options))
    except BrokenPipeError:
        sys.stderr.close()
        return 141
    except TowpathError as error:
        print(f"towpath: {error}", file=sys.stderr)
        if error.hint:
            print(f"towpath: hint: {error.hint}", file=sys.stderr)
        return EXIT_TOWPATH_FAILED
    except Exception:
        # A mistake of ours: its trace is for whoever mends it, its code must not look like the command's.
        sys.excepthook(*sys.exc_info())
        return EXIT_TOWPATH_FAILED
    except KeyboardInterrupt:
        return 130


def program() -> None:
    """The process of the command: `main`, and its end.

    For a run nothing is looked for that could be freed until all its code is loaded (`hosting.imports`): modules stay.
    And it has closed what it opened. To take the interpreter apart behind it would be a tenth of the time that
    everybody waits for a short one, so the process just ends.
    """
    if sys.argv[1:2] != ["run"]:
        sys.exit(main())
    gc.disable()
    code = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):  # its reader has gone, or it is closed for that
        code = 141
    os._exit(code)
