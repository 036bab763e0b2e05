"""Content filters that tests write into a file, and what those filters say."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

__all__ = ["Author", "said"]

_HEAD = """\
import json
import os
import sys
import threading
import time

from towpath.providers import *


def say(**facts):
    print("said " + json.dumps(facts))
"""


class Author:
    """Writes filters into a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, body: str, name: str = "mine", head: str = "", base: str = "ContentFilterProvider") -> str:
        """A filter with these methods, in a file of its own; gives its path."""
        file = self._folder / f"{name}.py"
        methods = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
        written = f"{_HEAD}\n{textwrap.dedent(head)}\n\nclass Mine({base}):\n{methods}\n"
        other = file.with_suffix(".new")
        other.write_text(written)
        other.rename(file)
        return str(file)


def said(err: str) -> list[dict[str, Any]]:
    """What filters said through `say`, in order."""
    return [json.loads(line.partition("said ")[2]) for line in err.splitlines() if "said {" in line]
