"""Policy files: places in order, and mistakes shown by line and column."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towpath.errors import ConfigInvalid
from towpath.policy.file import load_file
from towpath.policy.locate import Locator
from towpath.policy.policy import Policy

EXAMPLES = sorted(Path(__file__).parents[3].glob("examples/policies/*.toml"))


def write(folder: Path, text: str) -> str:
    path = folder / "policy.toml"
    path.write_bytes(text.encode())
    return str(path)


def test_the_top_and_each_rule_table_are_places_in_order(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'deny = ["a.test"]\nallow = ["b.test", "c.test"]\n\n[[rule]]\ncomment = "x"\nallow = ["d.test"]\n'
        '[[rule]]\ndeny = [\n  "e.test", # last\n]\n',
    )
    places = load_file(path)
    assert [(place.where, [rule.text for rule in (*place.deny, *place.allow)]) for place in places] == [
        (path, ["a.test", "b.test", "c.test"]),
        (f"{path}:4:1", ["d.test"]),
        (f"{path}:7:1", ["e.test"]),
    ]
    assert [rule.where for place in places for rule in place.allow] == [f"{path}:2:10", f"{path}:2:20", f"{path}:6:10"]
    assert places[2].deny[0].where == f"{path}:9:3"


def test_the_first_place_that_matches_decides_and_the_command_line_is_the_first(tmp_path: Path) -> None:
    path = write(tmp_path, '[[rule]]\nallow = ["a.test:22"]\n[[rule]]\ndeny = ["*.test", "a.test"]\n')
    policy = Policy.load([], [], [path])
    assert policy.decide_flow("tcp", "192.0.2.1", 22, ["a.test"]).verdict == "allow"
    assert policy.decide_flow("tcp", "192.0.2.1", 23, ["a.test"]).verdict == "deny"
    policy = Policy.load([], ["a.test"], [path])
    assert policy.decide_flow("tcp", "192.0.2.1", 22, ["a.test"]).verdict == "deny"


@pytest.mark.parametrize(
    ("text", "where", "says", "hint"),
    [
        ('allow = "x.test"', "1:1", "allow is a list of rules, not a string", 'allow = ["x.test"]'),
        ("deny = 7", "1:1", "deny is a list of rules, not a number", "deny = ["),
        ("allow = [\n  'a.test',\n  7]", "3:3", "a rule is a string, not a number", '"example.test:443"'),
        ("allow = [true]", "1:10", "not a boolean", ""),
        ("allow = [2020-01-01]", "1:10", "not a date or time", ""),
        ("allow = [['x']]", "1:10", "not a list", ""),
        ('deny = []\nallow = ["a.test",\n "b..test"]', "3:2", "'b..test', column 3: a name has no empty label", ""),
        ("# c\n[x]\na = 1", "2:1", "unknown key 'x'", "allow, deny, rule"),
        ('alow = ["x"]', "1:1", "unknown key 'alow'", "allow, deny, rule"),
        ('"alow" = ["x"]', "1:1", "unknown key 'alow'", ""),
        ('[[rule]]\nallow=[]\n[[rule]]\n  deni = ["x"]', "4:3", "unknown key 'deni'", "allow, deny, comment"),
        ("[[rule]]\ncomment = 'x'", "1:1", "neither allow nor deny", ""),
        ("[[rule]]\ncomment = 3\nallow = []", "2:1", "comment is a string, not a number", ""),
        ("[rule]\nallow = []", "1:1", "rule is a list of tables", "[[rule]]"),
        ("rule = [1]", "1:1", "rule is a list of tables", "[[rule]]"),
        ("rule = [{allow = ['a..b']}]", "1:19", "no empty label", ""),
        ('deny = ["""x\ny"""]', "1:9", "a rule has no spaces", ""),
        ("allow = [\n", "2:1", "this is not TOML", ""),
        ("allow == []", "1:8", "this is not TOML", ""),
        ("allow = []\nallow = []", "2:11", "this is not TOML", ""),
    ],
)
def test_a_mistake_is_shown_by_line_and_column(tmp_path: Path, text: str, where: str, says: str, hint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigInvalid) as raised:
        load_file(path)
    assert raised.value.where == f"{path}:{where}"
    assert says in raised.value.reason
    assert hint in (raised.value.hint or "")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read: No such file"):
        load_file(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    with pytest.raises(ConfigInvalid, match="byte 3 is not UTF-8"):
        load_file(str(tmp_path / "latin.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_policies(path: Path) -> None:
    assert not Policy.load([], [], [str(path)]).empty


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 3


LITERALS: tuple[str, ...] = (
    '"a"',
    "'b'",
    '"""c\n"d" """',
    "'''e'f'''",
    '"\\"g\\\\"',
    "7",
    "true",
    "1979-05-27 07:32:00",
    "{x = 1}",
    "[1, 2]",
)


@given(
    st.lists(st.sampled_from(LITERALS)), st.sampled_from(("", " ", "\n", " # ]\n")), st.sampled_from(("", "a.b = 1\n"))
)
def test_every_element_is_found_where_it_stands(literals: list[str], gap: str, before: str) -> None:
    text = f"{before}allow = [{gap}" + f"{gap},{gap}".join(literals) + f"{gap}]\n"
    tomllib.loads(text)
    locator = Locator(text)
    at = text.index("[") + 1
    for index, literal in enumerate(literals):
        at = text.index(literal, at)
        line, column = text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
        assert locator.position(("allow", index)) == (line, column)
        at += len(literal) + 1
