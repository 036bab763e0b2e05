"""Mistakes of authors are shown by file and line, with what would be right."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from towpath.errors import ConfigInvalid
from towpath.hosting.load import load_provider
from towpath.providers import Allow, ContentFilterProvider, Drop

HEAD = "from towpath.providers import Allow, ContentFilterProvider, Drop\n"
PLAIN = HEAD + "class F(ContentFilterProvider):\n    pass\n"
STRUCT = HEAD + (
    "import msgspec\nclass Inner(msgspec.Struct, frozen=True):\n    ports: list[int] = []\n"
    "class Config(msgspec.Struct):\n    names: list[str]\n    inner: Inner = Inner()\n"
    "class F(ContentFilterProvider[Config]):\n    pass\n"
)
DATACLASS = HEAD + (
    "from dataclasses import dataclass\n@dataclass\nclass Config:\n    limit: int = 7\n"
    "class F(ContentFilterProvider[Config]):\n    pass\n"
)


@pytest.fixture(autouse=True)
def _imports_are_undone() -> Iterator[None]:
    before, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def load(
    folder: Path, source: str, config: dict[str, Any] | None = None, class_name: str | None = None
) -> ContentFilterProvider[Any]:
    file = folder / "author.py"
    file.write_text(source)
    provider = load_provider(str(file), class_name, config or {}, "author.toml")
    assert isinstance(provider, ContentFilterProvider)
    return provider


def method(code: str) -> str:
    """A filter with one more method, whose `def` is in line 3."""
    return HEAD + "class F(ContentFilterProvider):\n    " + code.replace("\n", "\n    ") + "\n"


def test_a_provider_is_made_with_its_config(tmp_path: Path) -> None:
    assert load(tmp_path, PLAIN).config is None
    struct = load(tmp_path, STRUCT, {"names": ["a"], "inner": {"ports": [1]}})
    assert (struct.config.names, struct.config.inner.ports) == (["a"], [1])
    assert load(tmp_path, DATACLASS).config.limit == 7
    assert load(tmp_path, DATACLASS, {"limit": 9}).config.limit == 9


@pytest.mark.parametrize(
    "code",
    [
        "def start(self): ...",
        "async def handle_name(self, question): return Allow()",
        "def handle_outbound_data(self, *anything): return Allow()",
        "def data_complete(self, flow, direction, extra=1): return Allow()",
        "def _handle_newflow(self): ...",
        "def count_words(self, text): ...",
        "def handle_request_line(self, text): ...",
        "def __init__(self): super().__init__()",
    ],
)
def test_hooks_of_any_form_that_can_be_called_are_fine(tmp_path: Path, code: str) -> None:
    assert load(tmp_path, method(code)).__class__.__name__ == "F"


def test_a_module_beside_the_file_can_be_imported(tmp_path: Path) -> None:
    (tmp_path / "beside_author.py").write_text("WORD = 'x'\n")
    (tmp_path / "tabnanny.py").write_text("raise SystemExit('took the place of the real one')\n")
    provider = load(tmp_path, "import tabnanny, beside_author\n" + PLAIN)
    assert sys.modules[type(provider).__module__].beside_author.WORD == "x"


def test_a_module_of_a_package_is_imported_as_one(tmp_path: Path) -> None:
    package = tmp_path / "author_package" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("WORD = 'x'\n")
    file = package / "author.py"
    file.write_text("from .words import WORD\n" + PLAIN)
    provider = load_provider(str(file), None, {}, "")
    assert type(provider).__module__ == "author_package.inner.author"


def test_a_file_may_be_called_as_a_module_of_the_standard_library(tmp_path: Path) -> None:
    file = tmp_path / "select.py"
    file.write_text(PLAIN)
    load_provider(str(file), None, {}, "")
    assert sys.modules["_extension_select"].__file__ == str(file)


def test_a_class_is_chosen_by_name_or_because_it_is_the_last_of_its_line(tmp_path: Path) -> None:
    two = PLAIN + "class G(ContentFilterProvider):\n    pass\n"
    assert type(load(tmp_path, two, class_name="G")).__name__ == "G"
    assert type(load(tmp_path, PLAIN + "class G(F):\n    pass\n")).__name__ == "G"


@pytest.mark.parametrize(
    ("source", "line", "reason", "hint"),
    [
        ("x = (\n", 1, "this is not Python: '(' was never closed", "x = ("),
        ("a = 1\ndef f(:\n", 2, "this is not Python: invalid syntax", "def f(:"),
        ("x = '\0'\n", None, "this is not Python", None),
        ("import os\nimport no_such_module_here\n", 2, "ModuleNotFoundError", "put no_such_module_here.py beside"),
        ("def f():\n    return 1 / 0\n\nf()\n", 2, "it cannot be imported: ZeroDivisionError: division by zero", None),
        ("import json\njson.loads('{')\n", 2, "it cannot be imported: JSONDecodeError", None),
        ("import sys\nsys.exit(3)\n", 2, "it cannot be imported: SystemExit: 3", None),
        ("x = 1\n", None, "there is no provider in it", "class MyFilter(ContentFilterProvider)"),
        (HEAD, None, "there is no provider in it", "class MyFilter(ContentFilterProvider)"),
        (
            PLAIN + "class G(ContentFilterProvider):\n    pass\n",
            4,
            "several providers, and none is named: F, G",
            'class = "F"',
        ),
        (
            method("def handle_new_flow(self): ..."),
            3,
            "handle_new_flow(self) is called with (self, flow)",
            "def handle_new_flow(self, flow)",
        ),
        (
            method("async def handle_outbound_data(self, flow, data): ..."),
            3,
            "is called with (self, flow, offset, data)",
            "def handle_outbound_data(self, flow, offset, data)",
        ),
        (method("def handle_name(self, question, other): ..."), 3, "is called with (self, question)", "handle_name"),
        (method("def handle_name(self, question): yield Allow()"), 3, "is a generator", "return one verdict"),
        (method("async def handle_name(self, question): yield Allow()"), 3, "is a generator", "return one verdict"),
        (method("handle_name = 7"), 2, "F.handle_name is a hook, and no method", "def handle_name(self, question)"),
        (method("def handle_newflow(self, flow): ..."), 3, "no hook 'handle_newflow'", "is it handle_new_flow?"),
        (method("async def handle_flow(self, flow): ..."), 3, "no hook 'handle_flow'", "is it handle_new_flow?"),
        (method("def flow_close(self, report): ..."), 3, "no hook 'flow_close'", "is it flow_closed?"),
        (method("def __init__(self, word): ..."), None, "F cannot be made: TypeError", None),
        (method("def __init__(self):\n    self.x = {}['a']"), 4, "F cannot be made: KeyError: 'a'", None),
        (
            HEAD + "from towpath.providers import FilterSettings, NetworkRule\n"
            "FilterSettings((NetworkRule('drop', 'x'),))\n",
            3,
            "it cannot be imported: ConfigInvalid: rules[0]: remote: 'x'",
            "a prefix",
        ),
        (
            HEAD + "class F(ContentFilterProvider[int]): pass\n",
            2,
            "F: the config type is a msgspec.Struct or a dataclass",
            None,
        ),
        (
            "from __future__ import annotations\n" + STRUCT.replace("list[str]", "Nowhere"),
            6,
            "Config cannot be a config",
            None,
        ),
    ],
)
def test_a_mistake_of_the_author_is_shown_by_its_line(
    tmp_path: Path, source: str, line: int | None, reason: str, hint: str | None
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, source)
    file = str(tmp_path / "author.py")
    assert reason in caught.value.reason
    assert (hint or "") in (caught.value.hint or "")
    assert caught.value.where == (f"{file}:{line}" if line else file)


@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [("H", "class H does not exist", "F"), ("HEAD", "class HEAD is no provider", "F")],
)
def test_a_class_that_is_named_must_be_there(tmp_path: Path, name: str, reason: str, hint: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, PLAIN + "HEAD = 1\n", class_name=name)
    assert (caught.value.reason, caught.value.hint) == (reason, f"providers in this file: {hint}")


@pytest.mark.parametrize(
    ("source", "config", "reason", "hint"),
    [
        (PLAIN, {"x": 1}, "F takes no config", "class F(ContentFilterProvider[Config])"),
        (STRUCT, {}, "Object missing required field `names`", None),
        (STRUCT, {"names": "a"}, "names: expected a list, not a string", None),
        (STRUCT, {"names": ["a", 7]}, "names[1]: expected a string, not an integer", None),
        (STRUCT, {"names": [], "inner": {"ports": ["x"]}}, "inner.ports[0]: expected an integer, not a string", None),
        (STRUCT, {"names": [], "innner": {}}, "unknown key 'innner'", "is it inner?"),
        (DATACLASS, {"zzz": 1}, "unknown key 'zzz'", "known here: limit"),
        (DATACLASS, {"limit": True}, "limit: expected an integer, not true or false", None),
    ],
)
def test_a_mistake_in_the_config_is_shown_by_its_key(
    tmp_path: Path, source: str, config: dict[str, Any], reason: str, hint: str | None
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(tmp_path, source, config)
    assert (caught.value.where, caught.value.reason) == ("author.toml", reason)
    assert (hint or "") in (caught.value.hint or "")


def test_verdicts_of_a_loaded_class_are_those_of_the_library(tmp_path: Path) -> None:
    provider = load(tmp_path, method("def handle_name(self, question): return Drop('x')"))
    assert provider.handle_name(None) == Drop("x")  # type: ignore[arg-type]
    assert provider.handle_new_flow(None) == Allow()  # type: ignore[arg-type]
