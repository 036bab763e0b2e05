"""The pytest fixtures that Towpath brings."""

from __future__ import annotations

from pathlib import Path

import pytest

from towpath.testing import Lab, LabPlan, TcpEcho
from towpath.testing.plugin import LabFactory

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "labs"


def test_without_a_mark_there_is_one_client(lab: Lab) -> None:
    assert [host.name for host in lab] == ["client", "dns"]
    assert lab["client"].run(["true"]).returncode == 0


@pytest.mark.lab(LabPlan().host("one").host("two", serves=[TcpEcho(names=("two.test",))]))
def test_the_mark_gives_the_plan(lab: Lab) -> None:
    assert "two.test" in lab.names


@pytest.mark.lab(EXAMPLES / "news.toml")
def test_the_mark_gives_a_file(lab: Lab) -> None:
    names = ["https://news.test/", "https://www.news.test/", "https://tracker.test/", "http://slow.test/"]
    pages = lab["client"].run(["curl", "-sS", *names])
    assert pages.returncode == 0, pages.stderr
    assert pages.stdout.count("This is ") == 4


def test_the_factory_starts_several(lab_factory: LabFactory) -> None:
    one, other = lab_factory(LabPlan("one").host("client")), lab_factory(EXAMPLES / "office.toml")
    assert one["client"].run(["true"]).returncode == 0
    page = other["alice"].run(["curl", "-sS", "https://www.shop.test/"])
    assert "This is shop." in page.stdout, page.stderr


def test_five_hosts_with_services_are_up(lab_factory: LabFactory) -> None:
    assert lab_factory(EXAMPLES / "news.toml")["news"].run(["true"]).returncode == 0
