"""The pytest plugin: a Lab as a fixture. It is active wherever Towpath is installed beside pytest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from towpath.testing.plan import LabPlan

if TYPE_CHECKING:
    from towpath.testing.lab import Lab

__all__ = ["lab", "lab_factory"]

LabFactory = Callable[[LabPlan | str | os.PathLike[str]], "Lab"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab(plan): the LabPlan, or the path of the file, that the fixture `lab` starts")


@pytest.fixture
def lab_factory() -> Iterator[LabFactory]:
    """Starts Labs, each from a `LabPlan` or the path of a file, and ends them after the test.

    ::

        def test_two_offices(lab_factory):
            here, there = lab_factory(plan), lab_factory("examples/labs/news.toml")
    """
    from towpath.testing.lab import Lab

    started: list[Lab] = []

    def start(plan: LabPlan | str | os.PathLike[str]) -> Lab:
        lab = Lab(plan) if isinstance(plan, LabPlan) else Lab.from_file(plan)
        started.append(lab)
        return lab.start()

    yield start
    for lab in started:
        lab.close()


@pytest.fixture
def lab(request: pytest.FixtureRequest, lab_factory: LabFactory) -> Lab:
    """A running Lab of the plan or file that the mark ``lab`` names; without the mark, one host called ``client``.

    ::

        @pytest.mark.lab("examples/labs/news.toml")
        def test_news(lab):
            assert lab["client"].run(["curl", "https://news.test/"]).returncode == 0
    """
    mark = request.node.get_closest_marker("lab")
    return lab_factory(mark.args[0] if mark else LabPlan().host("client"))
