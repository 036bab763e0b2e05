"""What an extension says of itself, and how a mistake in it is shown."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import ConfigInvalid
from towpath.hosting.manifest import Manifest, default_manifest, inline_metadata, read_manifest
from towpath.hosting.toml_text import TomlText

HEAD = "[tool.towpath.extension]\n"
BLOCK = '# /// script\n# [tool.towpath.extension]\n# id = "no-ads"\n#\n# ///\n'


def read(text: str) -> Manifest | None:
    return read_manifest(TomlText(text, "pyproject.toml"))


def test_a_manifest_says_what_may_be_done_and_how_much() -> None:
    text = HEAD + (
        'id = "no-ads"\nversion = "1.2"\nkind = "content-filter"\nclass = "ads.filter:NoAds"\nmemory = 64\n'
        'capabilities = ["content-filter-provider", "prompt", "output"]\n'
    )
    assert read(text) == Manifest(
        id="no-ads",
        version="1.2",
        kind="content-filter",
        class_name="ads.filter:NoAds",
        memory=64,
        capabilities=("content-filter-provider", "prompt", "output"),
    )


def test_all_but_the_id_has_a_default() -> None:
    assert read(HEAD + 'id = "a"') == Manifest(id="a", capabilities=("content-filter-provider",), memory=256)


@pytest.mark.parametrize("text", ["", "[project]\nname='x'\n", "[tool.ruff]\n", "[tool.towpath]\n"])
def test_a_project_need_not_be_an_extension(text: str) -> None:
    assert read(text) is None


@pytest.mark.parametrize(
    ("text", "where", "reason", "hint"),
    [
        ("[tool", "1", "this is not TOML", None),
        ("tool = 7", "1", "tool is a table", "[tool.towpath.extension]"),
        ("[tool.towpath]\nextension = 'x'", "2", "extension is a table", "[tool.towpath.extension]"),
        (HEAD + "version = '1'", "1", "there is no id", 'id = "my-filter"'),
        (HEAD + "id = 'No Ads'", "2", "id cannot be 'No Ads'", "small letters"),
        (HEAD + "id = 7", "2", "id cannot be 7", "small letters"),
        (HEAD + "id = 'a'\nclas = 'X'", "3", "unknown key 'clas'", "is it class?"),
        (HEAD + "id = 'a'\nwhatever = 1", "3", "unknown key 'whatever'", "known here: id, version, kind"),
        (HEAD + "id = 'a'\nclass = 'x:'", "3", "class cannot be 'x:'", "module:MyFilter"),
        (HEAD + "id = 'a'\nversion = 1.0", "3", "version cannot be 1.0", '"1.0"'),
        (HEAD + "id = 'a'\nkind = 'vpn'", "3", "kind: 'vpn' is not known", "one of content-filter"),
        (HEAD + "id = 'a'\nkind = []", "3", "kind: [] is not known", "one of content-filter"),
        (
            HEAD + "id = 'a'\ncapabilities = [\n  'content-filter-provider',\n  'raw-sockets',\n]",
            "5",
            "capabilities: 'raw-sockets' is not known",
            "one of content-filter-provider, dns-proxy, packet-tunnel-provider, prompt, output, listen",
        ),
        (
            HEAD + "id = 'a'\ncapabilities = ['prompt']",
            "3",
            "a content-filter needs the capability content-filter-provider",
            'add "content-filter-provider"',
        ),
        (HEAD + "id = 'a'\ncapabilities = 'prompt'", "3", "capabilities is a list", "content-filter-provider"),
        (HEAD + "id = 'a'\nmemory = 1", "3", "memory is a number of MB, not 1", "32 to 65536"),
        (HEAD + "id = 'a'\nmemory = true", "3", "memory is a number of MB, not True", "32 to 65536"),
    ],
)
def test_a_mistake_is_shown_with_its_line_and_what_would_be_right(
    text: str, where: str, reason: str, hint: str | None
) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        read(text)
    assert caught.value.where == f"pyproject.toml:{where}"
    assert reason in caught.value.reason
    assert (hint is None) == (caught.value.hint is None)
    assert (hint or "") in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "id"), [("no_ads", "no-ads"), ("My Filter!", "my-filter"), ("___", "filter"), ("x" * 80, "x" * 64)]
)
def test_a_module_without_a_manifest_is_called_as_its_file(name: str, id: str) -> None:
    assert default_manifest(name) == read(f'{HEAD}id = "{id}"')


@pytest.mark.parametrize(
    ("source", "text", "line"),
    [
        (BLOCK, '[tool.towpath.extension]\nid = "no-ads"\n', 1),
        (f'"""Doc."""\n\n{BLOCK}\nx = 1\n', '[tool.towpath.extension]\nid = "no-ads"\n', 3),
        ('# /// script\n# a = """\n# ///\n# """\n# ///\n', 'a = """\n///\n"""', 1),
        ("# /// script\n# ///\n", "", 1),
    ],
)
def test_a_script_carries_its_manifest_in_a_comment(source: str, text: str, line: int) -> None:
    found = inline_metadata(source, "a.py")
    assert found is not None
    assert (found.text, found.line) == (text, line)


@pytest.mark.parametrize("source", ["", "x = 1\n", "# /// other\n# ///\n", "#/// script\n", " # /// script\n# ///\n"])
def test_a_script_need_not_have_one(source: str) -> None:
    assert inline_metadata(source, "a.py") is None


@pytest.mark.parametrize(
    ("source", "where", "reason"),
    [
        ("x\n# /// script\n# id = 1\n", "a.py:2", "never ends"),
        ("# /// script\n# id = 1\n\n# ///\n", "a.py:1", "never ends"),
        (BLOCK + BLOCK, "a.py:6", "a second"),
        (BLOCK + "\n" + BLOCK, "a.py:7", "a second"),
    ],
)
def test_a_broken_block_is_not_overlooked(source: str, where: str, reason: str) -> None:
    with pytest.raises(ConfigInvalid, match=reason) as caught:
        inline_metadata(source, "a.py")
    assert caught.value.where == where


def test_a_mistake_in_a_script_is_shown_with_the_line_of_the_file() -> None:
    source = 'import os\n\n# /// script\n# [tool.towpath.extension]\n# id = "a"\n# kind = "b"\n# ///\n'
    inline = inline_metadata(source, "a.py")
    assert inline is not None
    with pytest.raises(ConfigInvalid) as caught:
        read_manifest(TomlText(inline.text, "a.py", inline.line))
    assert caught.value.where == "a.py:6"


@given(st.lists(st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20), max_size=9))
def test_what_is_put_into_a_block_is_what_is_read_from_it(lines: list[str]) -> None:
    source = "# /// script\n" + "".join(f"# {line}\n" for line in lines) + "# ///\n"
    inline = inline_metadata(source, "a.py")
    assert inline is not None
    assert inline.text == "\n".join(lines)


@given(st.dictionaries(st.sampled_from(("id", "version", "kind", "capabilities", "class", "memory")), st.text("ab1:-")))
def test_a_manifest_is_read_or_refused_with_a_hint(table: dict[str, str]) -> None:
    text = HEAD + "".join(f'{key} = "{value}"\n' for key, value in table.items())
    fault, manifest = None, None
    try:
        manifest = read(text)
    except ConfigInvalid as error:
        fault = error
    if manifest is not None:
        assert manifest.id == tomllib.loads(text)["tool"]["towpath"]["extension"]["id"]
    else:
        assert fault is not None
        assert fault.where.startswith("pyproject.toml:")
        assert fault.hint
