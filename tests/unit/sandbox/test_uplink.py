"""What a tunnel does not carry is refused with what would change that."""

from __future__ import annotations

from typing import Any

import pytest

from towpath.providers.tunnel_settings import TunnelSettings
from towpath.sandbox.uplink import TunnelUplink


@pytest.mark.parametrize(
    ("address", "reason", "hint"),
    [
        ("2001:db8::4", "the tunnel has no IPv6 address", "add an IPv6 Address to [Interface], "),
        ("192.0.2.4", "AllowedIPs in wg0.conf do not cover 192.0.2.4", "add 192.0.2.4 (or 0.0.0.0/0) to AllowedIPs, "),
    ],
)
def test_the_hint_is_for_what_is_missing(address: str, reason: str, hint: str) -> None:
    nobody: Any = None
    uplink = TunnelUplink(nobody, "wg0.conf")
    uplink.use(TunnelSettings(remote="x", addresses=("10.0.0.2/32",), included=("10.0.0.0/24", "::/0")))
    decision = uplink.refusal(address)
    assert decision is not None
    assert decision.reason == reason
    assert decision.hint is not None
    assert decision.hint.startswith(hint)
