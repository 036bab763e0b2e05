"""One test PKI for all: it is only read."""

from __future__ import annotations

import pytest

from towpath.testing.pki import Pki
from towpath.trust import Anchors


@pytest.fixture(scope="session")
def pki() -> Pki:
    return Pki()


@pytest.fixture(scope="session")
def anchors(pki: Pki) -> Anchors:
    return Anchors.of(pki.root.certificate)
