"""Which facilities a kernel announces. Of one that has WireGuard there is a fake answer: no such kernel is here."""

from __future__ import annotations

import pytest

from towpath.errors import PeerViolation
from towpath.linux.generic_netlink import families, has_family
from towpath.linux.netlink import attr


class FakeNetlink:
    """Answers as a kernel would whose families have these names."""

    def __init__(self, *names: str, cut: int | None = None) -> None:
        self._answers = [
            (16, (b"\1\2\0\0" + attr(1, b"\x1d\0") + attr(2, name.encode() + b"\0") + attr(3, b"\1\0\0\0"))[:cut])
            for name in names
        ]

    def dump(self, operation: str, kind: int, payload: bytes) -> list[tuple[int, bytes]]:
        assert (kind, payload) == (16, b"\3\1\0\0")
        return self._answers


def test_a_fake_kernel_with_wireguard_is_told_from_a_fake_one_without() -> None:
    assert families(FakeNetlink("nlctrl", "wireguard", "ethtool")) == {"nlctrl", "wireguard", "ethtool"}
    assert "wireguard" not in families(FakeNetlink("nlctrl"))


@pytest.mark.parametrize("cut", range(5, 20))
def test_an_answer_that_was_cut_is_an_error_or_has_no_name(cut: int) -> None:
    try:
        assert families(FakeNetlink("wireguard", cut=cut)) in (set(), {"wireguard"})
    except PeerViolation:
        pass


def test_this_kernel_has_its_own_controller() -> None:
    assert has_family("nlctrl")
    assert not has_family("no-such-family")
