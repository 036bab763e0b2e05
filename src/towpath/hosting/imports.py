"""No code is loaded any more.

The manager stands outside of the sandbox. A module that it imported while the command runs, or after, would be looked
for in folders that the command may be able to write: the current one, a virtual environment in a home, the packages of
a user.
"""

from __future__ import annotations

import codecs
import gc
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter

__all__ = ["close"]

_CODECS = ("ascii", "latin-1", "utf-8", "idna")


def close() -> None:
    """From here on only what the interpreter itself holds can be imported; anything else is an `ImportError`."""
    for name in _CODECS:
        codecs.lookup(name)  # codecs are modules too, and are imported when they are first used
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    gc.freeze()  # what is loaded stays, and is not looked through again
    gc.enable()
