"""The provider where the kernel speaks: what it asks for, what it waits for, what it says when nobody answers."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest

from towpath.extensions.wireguard.provider import WireGuard
from towpath.providers import DisconnectCause, KernelPeer, KernelPeerFigures, KernelWireGuard, TunnelFailed
from towpath.testing import TunnelHarness

SECRET, PUBLIC, OTHER, SHARED = b"\x11" * 32, b"p" * 32, b"o" * 32, b"q" * 32


def text(key: bytes) -> str:
    return base64.b64encode(key).decode()


FILE = (
    f"[Interface]\nPrivateKey = {text(SECRET)}\nAddress = 10.0.0.2/32\nDNS = 10.0.0.1\nMTU = 1400\n"
    f"[Peer]\nPublicKey = {text(PUBLIC)}\nPresharedKey = {text(SHARED)}\nAllowedIPs = 10.0.0.0/24, fd00::/8\n"
    f"Endpoint = vpn.test:51820\nPersistentKeepalive = 25\n"
    f"[Peer]\nPublicKey = {text(OTHER)}\nAllowedIPs = 10.1.0.0/24\n"
)


@pytest.fixture
def harness() -> Iterator[TunnelHarness]:
    with TunnelHarness(WireGuard, {"text": FILE, "name": "wg0.conf"}) as harness:
        harness.kernel_wireguard = True
        yield harness


def test_the_file_is_what_the_kernel_is_told(harness: TunnelHarness) -> None:
    harness.kernel_peers = [KernelPeerFigures(PUBLIC, last_handshake=1.0)]
    harness.start()
    dialled = KernelPeer(PUBLIC, SHARED, ("10.0.0.0/24", "fd00::/8"), ("vpn.test", 51820), 25)
    assert harness.kernel_setup == KernelWireGuard(SECRET, (dialled, KernelPeer(OTHER, None, ("10.1.0.0/24",))))
    assert harness.settings is not None
    assert (harness.settings.mtu, harness.settings.addresses) == (1400, ("10.0.0.2/32",))
    assert harness.links == [], "no socket is asked for"


def test_a_server_that_never_shook_hands_is_given_up(harness: TunnelHarness) -> None:
    harness.kernel_peers = [KernelPeerFigures(PUBLIC), KernelPeerFigures(OTHER, last_handshake=1.0)]
    with pytest.raises(TunnelFailed, match="no answer from vpn.test:51820 in 20 s") as caught:
        harness.start()
    assert caught.value.cause is DisconnectCause.SERVER_NOT_RESPONDING
    assert "wg0.conf" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("cause", "hint"),
    [
        (DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED, "does this machine resolve names"),
        (DisconnectCause.CONFIGURATION_FAILED, ""),
    ],
)
def test_what_the_kernel_refuses_is_said_with_the_file(
    harness: TunnelHarness, cause: DisconnectCause, hint: str
) -> None:
    harness.refuse = TunnelFailed(cause, "vpn.test: no")
    with pytest.raises(TunnelFailed, match=r"wg0\.conf: vpn\.test: no") as caught:
        harness.start()
    assert hint in (caught.value.hint or "")


def test_a_server_that_falls_silent_is_told_and_so_is_its_return(harness: TunnelHarness) -> None:
    harness.kernel_peers = [KernelPeerFigures(PUBLIC, sent=10, received=10, last_handshake=1.0)]
    harness.start()
    harness.advance(60)
    assert not harness.asserting, "nothing is sent, so nothing is missing"
    for sent in range(20, 60, 10):
        harness.kernel_peers = [KernelPeerFigures(PUBLIC, sent=sent, received=10, last_handshake=1.0)]
        harness.advance(10)
    assert harness.asserting
    harness.kernel_peers = [KernelPeerFigures(PUBLIC, sent=70, received=20, last_handshake=1.0)]
    harness.advance(10)
    assert not harness.asserting
    harness.sleep(100)
    harness.change_network()
    assert harness.links == []
