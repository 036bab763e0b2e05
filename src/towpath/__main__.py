"""`python -m towpath` is the `towpath` command."""

import sys

# `-m` puts the current folder first, where whoever may write to it could answer for any module.
sys.path[:] = [folder for folder in sys.path if folder not in ("", sys.path[0])]

from towpath.cli import program  # noqa: E402

program()
