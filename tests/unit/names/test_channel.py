"""Who may answer for the names of a link."""

from __future__ import annotations

import pytest

from towpath.names.channel import is_neighbour
from towpath.path import list_interfaces
from towpath.testing import NetworkTwin


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("192.0.2.77", True),
        ("192.0.3.1", False),
        ("169.254.7.7", True),
        ("fe80::7%card", True),
        ("2001:db8::77", True),
        ("2001:db8:1::1", False),
    ],
)
def test_only_neighbours_are_believed(sender: str, expected: bool) -> None:
    twin = NetworkTwin()
    twin.add_link("card")
    twin.add_address("card", "192.0.2.9/24")
    twin.add_address("card", "2001:db8::9/64")
    assert is_neighbour(sender, list_interfaces(twin)) is expected
