"""Examples in docstrings say what really happens."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import towpath

_MODULES = sorted(
    info.name for info in pkgutil.walk_packages(towpath.__path__, "towpath.") if not info.name.endswith("__main__")
)


@pytest.mark.parametrize("name", _MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
