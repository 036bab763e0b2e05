"""Writes docs/reference from the docstrings of the public modules."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import towpath

OUT = Path(__file__).resolve().parents[1] / "docs" / "reference"
PUBLIC = (
    "towpath.connection",
    "towpath.errors",
    "towpath.names",
    "towpath.path",
    "towpath.policy",
    "towpath.protocols",
    "towpath.providers",
    "towpath.testing",
    "towpath.trust",
    "towpath.wire",
)


def modules() -> list[ModuleType]:
    """The public modules that say what they export."""
    found = []
    for info in pkgutil.walk_packages(towpath.__path__, "towpath."):
        if info.name.startswith(PUBLIC) and not info.name.endswith("__main__"):
            module = importlib.import_module(info.name)
            if getattr(module, "__all__", None):
                found.append(module)
    return found


def signature(name: str, value: object) -> str:
    try:
        return f"{name}{inspect.signature(value)}"  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return name


def entries(module: ModuleType) -> list[str]:
    """One section for each exported function and class, methods below their class."""
    lines = []
    for name in module.__all__:
        value = getattr(module, name, None)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or value.__module__ != module.__name__:
            continue
        kind = "class " if inspect.isclass(value) else ""
        lines += [f"## {kind}`{signature(name, value)}`", "", inspect.getdoc(value) or "", ""]
        if inspect.isclass(value):
            for attribute, member in sorted(vars(value).items()):
                if attribute.startswith("_") or not inspect.isfunction(member):
                    continue
                lines += [f"### `{signature(attribute, member)}`", "", inspect.getdoc(member) or "", ""]
    return lines


def main() -> int:
    OUT.mkdir(parents=True, exist_ok=True)
    index = ["# Reference", "", "Made from docstrings by `make docs`.", ""]
    for module in modules():
        body = entries(module)
        if body:
            page = OUT / f"{module.__name__}.md"
            page.write_text("\n".join([f"# {module.__name__}", "", inspect.getdoc(module) or "", "", *body]))
            summary = (inspect.getdoc(module) or "").splitlines()[:1]
            index.append(f"- [{module.__name__}]({page.name}): {' '.join(summary)}")
    (OUT / "index.md").write_text("\n".join([*index, ""]))
    print(f"wrote {len(index) - 4} pages to {OUT}")
    return 0


sys.exit(main())
