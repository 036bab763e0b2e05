"""A DNS proxy is found, checked and described as a filter is."""

from __future__ import annotations

from pathlib import Path

import pytest

from towpath.errors import ConfigInvalid
from towpath.hosting.bundle import find_bundle
from towpath.hosting.check import check_extension

SOURCE = """
from towpath.providers import DNSProxyProvider, Forward


class Mine(DNSProxyProvider):
    def handle_query(self, query):
        return Forward()
"""


def test_a_file_without_a_manifest_is_what_its_class_says(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    manifest = find_bundle(str(file), "--dns", "dns-proxy").manifest
    assert (manifest.kind, manifest.capabilities) == ("dns-proxy", ("dns-proxy",))
    with pytest.raises(ConfigInvalid, match="is a dns-proxy, not a content-filter"):
        find_bundle(str(file), "--filter", "content-filter")


def test_a_check_names_its_hooks(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SOURCE)
    checked = check_extension(str(file))
    assert (checked.class_name, checked.hooks) == ("Mine", ("handle_query",))


def test_a_manifest_may_name_its_kind_alone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    head = '# /// script\n# [tool.towpath.extension]\n# id = "mine"\n# kind = "dns-proxy"\n# ///\n'
    file.write_text(head + SOURCE)
    assert find_bundle(str(file)).manifest.capabilities == ("dns-proxy",)
