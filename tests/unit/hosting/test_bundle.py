"""What a user writes to name an extension, and what is found."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

import towpath
from towpath.errors import ConfigInvalid
from towpath.hosting.bundle import find_again, find_bundle, known_extensions

MANIFEST = '# /// script\n# [tool.towpath.extension]\n# id = "no-ads"\n# class = "NoAds"\n# ///\n'
BOOM = "raise SystemExit('author code was run')\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: str, text: str = BOOM) -> str:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return path


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, target: str = "adsblock.filter:NoAds") -> None:
    """A distribution with an entry point, as an installer leaves it."""
    site = folder / "site"
    write(str(site / "adsblock" / "__init__.py"))
    write(str(site / "adsblock" / "filter.py"))
    info = site / "ads_block-3.1.dist-info"
    write(str(info / "METADATA"), "Metadata-Version: 2.1\nName: ads-block\nVersion: 3.1\n")
    write(str(info / "entry_points.txt"), f"[towpath.extensions]\nads = {target}\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])


def test_a_file_without_a_manifest_is_a_filter_called_as_the_file(here: Path) -> None:
    write("no_ads.py")
    bundle = find_bundle("no_ads.py")
    assert bundle.manifest.id == "no-ads"
    assert bundle.manifest.capabilities == ("content-filter-provider",)
    assert (bundle.file, bundle.folder) == (str(here / "no_ads.py"), "")
    assert (bundle.class_name, bundle.config_file, bundle.config) == (None, None, {})


def test_a_file_with_a_manifest_says_its_class(here: Path) -> None:
    write("x.py", MANIFEST + BOOM)
    bundle = find_bundle("x.py")
    assert (bundle.manifest.id, bundle.class_name) == ("no-ads", "NoAds")


def test_a_config_file_comes_after_a_colon(here: Path) -> None:
    write("x.py")
    write("conf/x.toml", "names = ['a']\n")
    bundle = find_bundle("x.py:conf/x.toml")
    assert bundle.config == {"names": ["a"]}
    assert bundle.config_file == str(here / "conf" / "x.toml")


@pytest.mark.parametrize(
    ("text", "file", "config"),
    [("a:b.py", "a:b.py", {}), ("a:b.py:c.toml", "a:b.py", {"x": 1}), ("x.py:d:e.toml", "x.py", {"x": 2})],
)
def test_colons_of_files_that_exist_are_theirs(here: Path, text: str, file: str, config: dict[str, int]) -> None:
    for name, body in (("a:b.py", BOOM), ("x.py", BOOM), ("c.toml", "x = 1"), ("d:e.toml", "x = 2")):
        write(name, body)
    bundle = find_bundle(text)
    assert (bundle.file, bundle.config) == (str(here / file), config)


@pytest.mark.parametrize(
    ("module", "class_line", "class_name"),
    [
        ("no_ads.py", "", None),
        ("other.py", "", None),
        ("src/no_ads.py", "", None),
        ("deep/filter.py", 'class = "deep.filter:NoAds"', "NoAds"),
        ("deep/__init__.py", 'class = "deep:NoAds"', "NoAds"),
        ("no_ads.py", 'class = "NoAds"', "NoAds"),
    ],
)
def test_a_folder_says_by_its_project_file_what_it_is(
    here: Path, module: str, class_line: str, class_name: str | None
) -> None:
    write("ext/pyproject.toml", f'[tool.towpath.extension]\nid = "no-ads"\n{class_line}\n')
    write(f"ext/{module}")
    write("ext/test_it.py")
    bundle = find_bundle("ext")
    assert bundle.file == str(here / "ext" / module)
    assert (bundle.folder, bundle.class_name) == (str(here / "ext"), class_name)


def test_shipped_extensions_have_names() -> None:
    folder = Path(towpath.__file__).parent / "extensions"
    assert [known.name for known in known_extensions() if known.origin == "shipped"] == [
        "ask",
        "record",
        "secure-dns",
        "wire-tunnel",
        "wireguard",
    ]
    assert find_bundle("secure_dns").manifest.id == find_bundle("secure-dns").manifest.id == "secure-dns"
    assert find_bundle("record").file == str(folder / "record.py")
    assert "output" in find_bundle("record").manifest.capabilities


def test_a_name_means_the_shipped_one_before_a_folder(here: Path) -> None:
    write("record/pyproject.toml", '[tool.towpath.extension]\nid = "mine"\n')
    write("record/mine.py")
    assert find_bundle("record").manifest.id == "record"
    assert find_bundle("./record").manifest.id == "mine"


def test_installed_extensions_are_found_without_importing_them(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(here, monkeypatch)
    bundle = find_bundle("ads")
    assert bundle.file == str(here / "site" / "adsblock" / "filter.py")
    assert (bundle.manifest.id, bundle.manifest.version, bundle.class_name) == ("ads", "3.1", "NoAds")
    assert [known.name for known in known_extensions() if known.origin == "ads-block"] == ["ads"]
    assert "adsblock" not in sys.modules


def test_an_announced_module_that_is_missing_names_who_announced_it(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(here, monkeypatch, "adsblock.gone:NoAds")
    with pytest.raises(ConfigInvalid, match="announced by ads-block, which has no such module"):
        find_bundle("ads")


@pytest.mark.parametrize(
    ("text", "where", "reason", "hint"),
    [
        ("", "--filter", "'' names no extension", "FILE.py"),
        (":x.toml", "--filter", "names no extension", "FILE.py"),
        ("x.py:", "--filter", "names no config after the colon", "FILE.py"),
        ("gone.py", "--filter", "there is no gone.py", "FILE.py"),
        ("gone/", "--filter", "there is no gone/", "FILE.py"),
        ("recrod", "--filter", "there is no extension 'recrod'", "is it record?"),
        ("zzz", "--filter", "there is no extension 'zzz'", "known: ask, record"),
        ("x.py:gone.toml", "gone.toml", "cannot be read: No such file", None),
        ("x.py:bad.toml", "bad.toml:2", "this is not TOML", None),
        ("x.py:latin.toml", "latin.toml", "byte 6 is not UTF-8", "UTF-8"),
        ("bad.toml", "{here}/bad.toml", "a file is an extension when it ends in .py", "FILE.py"),
        ("empty", "empty/pyproject.toml", "does not exist", "extension new"),
        ("plain", "plain/pyproject.toml", "has no [tool.towpath.extension]", "extension new"),
        ("many", "many/pyproject.toml", "which module is it? There is a.py, b.py", "module:Class"),
        ("lost", "lost/pyproject.toml", "which module is it? There is no deep.gone", "module:Class"),
        ("wrong.py", "{here}/wrong.py", "class is 'a:B', and this file is the module", "the class alone"),
    ],
)
def test_what_cannot_be_used_is_named(here: Path, text: str, where: str, reason: str, hint: str | None) -> None:
    write("x.py")
    write("bad.toml", "a = 1\nb = \n")
    Path("latin.toml").write_bytes(b"a = '\xe9'\n")
    Path("empty").mkdir()
    write("plain/pyproject.toml", "[project]\nname = 'x'\n")
    write("many/pyproject.toml", "[tool.towpath.extension]\nid = 'x'\n")
    write("many/a.py")
    write("many/b.py")
    write("lost/pyproject.toml", "[tool.towpath.extension]\nid = 'x'\nclass = 'deep.gone:A'\n")
    write("lost/a.py")
    write("wrong.py", MANIFEST.replace("NoAds", "a:B"))
    with pytest.raises(ConfigInvalid) as caught:
        find_bundle(text)
    assert caught.value.where == where.format(here=here)
    assert reason in caught.value.reason
    assert (hint or "") in (caught.value.hint or "")
    assert (hint is None) == (caught.value.hint is None)


def test_a_file_of_endless_length_is_not_read(here: Path) -> None:
    write("x.py", "#" * (1 << 20) + "#")
    with pytest.raises(ConfigInvalid, match="longer than 1 MB"):
        find_bundle("x.py")


@pytest.mark.parametrize("given", ["link.py", "link", "below/mine.py"])
def test_what_was_found_once_is_found_again_wherever_its_links_lead_by_then(here: Path, given: str) -> None:
    for folder in ("first", "other"):
        write(f"{folder}/mine.py")
        write(f"{folder}/mine.toml", f'from = "{folder}"\n')
        write(f"{folder}/pyproject.toml", '[tool.towpath.extension]\nid = "mine"\n')
    links = {"link.py": "mine.py", "link": "", "below": "", "link.toml": "mine.toml"}
    for link, target in links.items():
        Path(link).symlink_to(Path("first") / target)
    found = find_bundle(f"./{given}:link.toml")
    for link, target in links.items():
        Path(link).unlink()
        Path(link).symlink_to(Path("other") / target)
    write("first/mine.toml", 'from = "first, changed"\n')
    again = find_again(found)
    assert again.file == found.file == str(here / "first/mine.py")
    assert again.config_file == found.config_file == str(here / "first/mine.toml")
    assert again.config == {"from": "first, changed"}
    assert again.manifest == found.manifest
    assert again.home == str(here)
    assert (os.path.normpath(again.given), again.config_given) == (f"{here}/{given}", f"{here}/link.toml")


@pytest.mark.parametrize("name", ["ask", "wireguard", "ads"])
def test_what_was_found_by_name_is_found_again(here: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    installed(here, monkeypatch)
    found = find_bundle(name, kind=None)
    assert find_again(found) == found
