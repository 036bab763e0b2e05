"""`towpath extension`: a start that works, mistakes that are shown, a list of what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import towpath
from towpath.cli import main
from towpath.hosting import check

FILTER = "from towpath.providers import ContentFilterProvider\nclass F(ContentFilterProvider):\n    pass\n"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(towpath.__file__).parents[1])}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def started(tmp_path: Path) -> Path:
    assert main(["extension", "new", "no-ads", "--folder", "mine"]) == 0
    return tmp_path / "mine"


@pytest.mark.parametrize(
    "words",
    [
        ["pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_no_ads.py"],
        ["ruff", "check", "--isolated", "--no-cache", "."],
        ["ruff", "format", "--check", "--isolated", "--no-cache", "."],
        ["mypy", "--strict", "--cache-dir", "../../mypy", "no_ads.py", "test_no_ads.py"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
@pytest.mark.parametrize("kind", ["content-filter", "dns-proxy"])
def test_a_new_extension_passes_its_own_test_and_the_checks_of_others(
    tmp_path: Path, words: list[str], kind: str
) -> None:
    assert main(["extension", "new", "no-ads", "--folder", "mine", "--kind", kind]) == 0
    started = tmp_path / "mine"
    environment = {**ENVIRONMENT, "MYPYPATH": ENVIRONMENT["PYTHONPATH"]}
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=started, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_extension_passes_the_check(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    (started / "own.toml").write_text('blocked = ["a.test"]\n')
    assert main(["extension", "check", "mine/no_ads.py:mine/own.toml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "ok": True,
        "id": "no-ads",
        "version": "0.1",
        "kind": "content-filter",
        "capabilities": ["content-filter-provider"],
        "memory": 256,
        "file": str(started / "no_ads.py"),
        "class": "NoAds",
        "hooks": ["handle_name", "handle_new_flow", "handle_outbound_data", "data_complete"],
        "config_type": "Config",
        "config_file": str(started / "own.toml"),
        "config_checked": True,
    }
    assert main(["extension", "check", "mine/no_ads.py"]) == 0
    assert "Config: none given, so not checked" in capsys.readouterr().out


def test_nothing_is_ever_overwritten(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (started / "no_ads.py").write_text("mine")
    assert main(["extension", "new", "no-ads", "--folder", "mine"]) == 125
    assert "no_ads.py: is there already" in capsys.readouterr().err
    (started / "no_ads.py").unlink()
    assert main(["extension", "new", "no-ads", "--folder", "mine"]) == 125
    assert not (started / "no_ads.py").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("No-Ads", "is no name for an extension"),
        ("../x", "is no name for an extension"),
        ("a--b", "is no name for an extension"),
        ("class", "would hide Python's own class"),
        ("select", "would hide Python's own select"),
    ],
)
def test_a_name_must_make_a_module(name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extension", "new", name]) == 125
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("source", "line", "reason", "hint"),
    [
        ("x = (\n", ":1", "this is not Python", "x = ("),
        ("import nothing_like_it\n", ":1", "ModuleNotFoundError", "install it"),
        ("import os\nos._exit(7)\n", "", "its import ended the process (code 7)", None),
        ("print('{}')\nx = 1\n", "", "there is no provider in it", "class MyFilter"),
        (FILTER.replace("pass", "def handle_newflow(self, flow): ..."), ":3", "no hook 'handle_newflow'", "is it"),
        (
            FILTER.replace("pass", "async def start(self): await self.context.prompt(None)"),
            ":3",
            "context.prompt needs a capability that the manifest does not claim",
            'add "prompt" to capabilities',
        ),
        ("# /// script\n# [tool.towpath.extension]\n# id = 7\n# ///\n" + FILTER, ":3", "id cannot be 7", "small"),
    ],
)
def test_a_mistake_is_told_with_its_line(
    source: str, line: str, reason: str, hint: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "author.py").write_text(source)
    assert main(["extension", "check", "author.py", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert told["error"]["where"] == f"{tmp_path}/author.py{line}"
    assert reason in told["error"]["reason"]
    assert (hint or "") in (told["error"]["hint"] or "")
    assert main(["extension", "check", "author.py"]) == 1
    assert reason in capsys.readouterr().err


def test_a_config_that_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "record.toml").write_text("output = 7\n")
    assert main(["extension", "check", "record:record.toml"]) == 1
    assert capsys.readouterr().err == f"{tmp_path}/record.toml: output: expected a string, not an integer\n"


def test_an_import_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "author.py").write_text("import threading\nthreading.Event().wait()\n")
    monkeypatch.setattr(check, "LOAD_SECONDS", 0.5)
    with pytest.raises(Exception, match="its import takes longer than 0.5 s"):
        check.check_extension("author.py")


def test_what_the_module_prints_is_not_taken_for_the_answer(tmp_path: Path) -> None:
    (tmp_path / "author.py").write_text("print('{\"class\": 7}', flush=True)\n" + FILTER)
    assert check.check_extension("author.py").class_name == "F"


def test_the_list_names_what_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["extension", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["ask"]["capabilities"] == ["content-filter-provider", "prompt", "output"]
    assert rows["record"]["from"] == "shipped"
    assert main(["extension", "list"]) == 0
    assert "record" in capsys.readouterr().out


def test_completion_knows_the_actions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "extension_subparsers=(new check list)" in script
