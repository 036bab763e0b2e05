"""The guide to filters says what is true: its files work, its commands run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from towpath.cli import main
from towpath.cli.parser import build
from towpath.hosting.bundle import find_bundle
from towpath.hosting.check import check_extension

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "filter.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
FILES = {found[1]: text for _, text in BLOCKS if (found := re.match(r"# ([\w.]+)\n", text))}
COMMANDS = [shlex.split(line, comments=True) for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_block_is_a_file_or_commands() -> None:
    assert len(FILES) == sum(kind != "sh" for kind, _ in BLOCKS) == 8
    assert len(COMMANDS) == 10


def test_the_tests_of_the_guide_pass(folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py") and not name.startswith("test_")])
def test_the_filters_of_the_guide_pass_the_check(folder: Path, name: str) -> None:
    assert check_extension(name).hooks


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_the_commands_of_the_guide_run(folder: Path, command: list[str]) -> None:
    if command[:2] == ["towpath", "run"]:
        options = build(["run"]).parse_args(command[1:])
        assert options.filters
        assert all(find_bundle(text).manifest.kind == "content-filter" for text in options.filters)
        return
    main(["extension", "new", "no-ads"])
    if command[0] == "python":
        done = subprocess.run([sys.executable, *command[1:], "-p", "no:cacheprovider"], check=False)
        assert done.returncode == 0
    elif command[2] == "new":
        assert (folder / "no_ads.py").exists()
    else:
        assert main(command[1:]) == 0
