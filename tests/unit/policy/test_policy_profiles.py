"""Policies that are shipped: by name on the command line and in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from towpath.cli import main
from towpath.errors import ConfigInvalid
from towpath.policy import profile
from towpath.policy.file import load_file
from towpath.policy.policy import Policy


@pytest.mark.parametrize("name", profile.names())
def test_every_profile_is_a_closed_policy_that_names_whole_hosts(name: str) -> None:
    policy = Policy.load([], [], [f"profile:{name}"])
    assert policy.default == "deny"
    assert all(rule.action == "allow" and rule.host.kind == "name" and rule.port is not None or rule.request
               for rule in policy.rules)  # fmt: skip
    assert all(rule.where.startswith("profile:") for rule in policy.rules)


def test_a_file_may_include_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('description = "mine"\nallow = ["mine.test:443"]\ninclude = ["profile:npm"]\n')
    assert [rule.text for rule in Policy.load([], [], [str(file)]).rules] == ["mine.test:443", "registry.npmjs.org:443"]


def test_a_profile_that_is_not_shipped_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigInvalid) as raised:
        load_file("profile:nmp")
    assert (raised.value.reason, raised.value.hint) == ("there is no profile 'nmp'", "did you mean npm?")
    file = tmp_path / "mine.toml"
    file.write_text('include = ["profile:nothing-like-it"]\n')
    with pytest.raises(ConfigInvalid) as raised:
        load_file(str(file))
    assert raised.value.where == f"{file}:1:12"
    assert "there are agent, apt" in (raised.value.hint or "")
    with pytest.raises(ConfigInvalid):
        load_file("profile:../profile")


def test_profiles_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policy", "profiles"]) == 0
    assert "GitHub alone" in capsys.readouterr().out
    assert main(["policy", "profiles", "npm", "pip"]) == 0
    printed = capsys.readouterr().out
    assert '# profile:npm\ndescription = "npm' in printed
    assert main(["policy", "profiles", "apt", "--json"]) == 0
    (apt,) = json.loads(capsys.readouterr().out)
    assert (apt["name"], apt["rules"][0]["methods"], apt["rules"][0]["path"]) == ("apt", ["GET", "HEAD"], "/*")
    assert main(["policy", "explain", "--profile", "npm,pip", "pypi.org:443"]) == 0


def test_completion_knows_the_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "debian-build" in capsys.readouterr().out
