"""The broken servers in a Lab: one host serves them, another asks with the command, over the Lab's own network."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from towpath.testing import Lab, LabPlan
from towpath.testing.pki_broken import BROKEN
from towpath.testing.plan import Command

TOWPATH = (sys.executable, "-c", "import sys; from towpath.cli import main; sys.exit(main())")
FIRST = 8400
PORTS = {name: FIRST + number for number, name in enumerate(["good", *BROKEN])}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Path]]:
    folder = tmp_path_factory.mktemp("pki")
    serve = (*TOWPATH, "trust", "lab", str(folder), "--serve", f"0.0.0.0:{FIRST}")
    plan = LabPlan().host("client").host("servers", serves=[Command(command=serve, port=PORTS["nameless-authority"])])
    with plan.start() as lab:
        yield lab, folder


def ask(world: tuple[Lab, Path], name: str) -> dict[str, object]:
    lab, folder = world
    place = f"{lab['servers'].address4}:{PORTS[name]}"
    words = [*TOWPATH, "trust", place, "--anchors", str(folder / "root.pem"), "--name", "www.example.com", "--json"]
    done = lab["client"].run(words, check=False)
    answer: dict[str, object] = json.loads(done.stdout)
    assert done.returncode == (0 if answer["accepted"] else 1)
    return answer


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("good", None),
        ("expired", "x509.validity"),
        ("missing-intermediate", "x509.anchor"),
        ("common-name-only", "server.name"),
        ("no-use", "apple.usage"),
        ("900-days", "policy.lifetime"),
        ("rsa-1024", "apple.keys"),
    ],
)
def test_a_server_of_the_lab_is_judged_by_its_rule(world: tuple[Lab, Path], name: str, rule: str | None) -> None:
    findings = ask(world, name)["findings"]
    assert isinstance(findings, list)
    failed = [finding["id"] for finding in findings if finding["verdict"] == "fail"]
    assert failed[:1] == ([rule] if rule else [])
