"""Programs that only `make peers` installs: where one is absent a test is skipped with its name, and fails in CI."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["need"]


def need(*programs: str) -> None:
    """Skips the test, or fails it where `TOWPATH_PEERS=required`, when one of `programs` is not installed."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        message = f"{', '.join(absent)}: not installed (make peers)"
        if os.environ.get("TOWPATH_PEERS") == "required":
            pytest.fail(message)
        pytest.skip(message)
