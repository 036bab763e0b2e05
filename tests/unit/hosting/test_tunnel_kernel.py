"""The manager's side of the kernel's WireGuard, with a device that only remembers: names, ways, refusals, figures."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest

from towpath.errors import HostFault
from towpath.hosting import tunnel_messages as told
from towpath.hosting.loop import Loop
from towpath.hosting.tunnel_kernel import TunnelKernel
from towpath.providers import DisconnectCause, KernelPeer, KernelPeerFigures, KernelWireGuard

KEY, OTHER = b"k" * 32, b"o" * 32


class Device:
    """In the place of both the attachment and its device."""

    def __init__(self) -> None:
        self.kernel: Device | None = self
        self.questions = None
        self.setup: KernelWireGuard | None = None
        self.spoken: list[tuple[bytes, bool]] = []
        self.led: list[Any] = []
        self.way = "eth0"
        self.refuses = False

    def set_up(self, setup: KernelWireGuard) -> None:
        if self.refuses:
            raise HostFault("set up WireGuard", errno.EPERM, "no")
        self.setup = setup

    def speak(self, peer: KernelPeer, *, anew: bool = False) -> None:
        self.spoken.append((peer.public_key, anew))

    def lead_to(self, places: Any, listening: int = 0) -> None:
        self.led.append((list(places), listening))

    def ways(self) -> dict[str, str | None]:
        return {"127.0.0.1": self.way}

    def peers(self) -> list[KernelPeerFigures]:
        if self.refuses:
            raise HostFault("ask WireGuard", errno.EPERM, "no")
        return [KernelPeerFigures(KEY, ("2001:db8::1", 7), 1, 2, 3.0, ("10.0.0.0/8",)), KernelPeerFigures(OTHER)]


class Worker:
    def __init__(self, heard: Callable[[], None]) -> None:
        self.told: list[Any] = []
        self._heard = heard

    def send(self, message: Any) -> None:
        self.told.append(message)
        self._heard()


class World:
    def __init__(self) -> None:
        self.loop, self.device, self.said = Loop(), Device(), list[str]()
        self.worker = Worker(self.loop.stop)
        self.kernel = TunnelKernel(self.loop, self.device, lambda _level, text: self.said.append(text))  # type: ignore[arg-type]
        self.kernel.begin(self.worker)  # type: ignore[arg-type]

    def set_up(self, host: str = "127.0.0.1") -> told.Applied:
        peers = (KernelPeer(KEY, endpoint=(host, 51820)), KernelPeer(OTHER, allowed=("10.0.0.0/8",)))
        self.kernel.set_up(told.KernelWanted(1, KernelWireGuard(b"s" * 32, peers, 4500)))
        self.loop.run()
        answer = self.worker.told.pop()
        assert isinstance(answer, told.Applied)
        return answer


@pytest.fixture
def world() -> World:
    return World()


def test_the_device_is_told_addresses_and_the_host_where_they_are(world: World) -> None:
    assert world.set_up("localhost") == told.Applied(1)
    assert world.device.setup is not None
    (first, second) = world.device.setup.peers
    assert first.endpoint in (("127.0.0.1", 51820), ("::1", 51820))
    assert second.endpoint is None
    assert world.device.led == [([first.endpoint], 4500)]


def test_a_name_that_does_not_resolve_is_the_provider_s_to_say(world: World) -> None:
    answer = world.set_up("a..b")
    assert DisconnectCause(answer.cause) is DisconnectCause.SERVER_ADDRESS_RESOLUTION_FAILED
    assert answer.reason.startswith("a..b: ")
    assert world.device.setup is None


def test_what_the_kernel_refuses_is_too(world: World) -> None:
    world.device.refuses = True
    answer = world.set_up()
    assert DisconnectCause(answer.cause) is DisconnectCause.CONFIGURATION_FAILED
    assert "cannot be set up" in answer.reason


def test_only_another_way_is_a_reason_to_speak_anew(world: World) -> None:
    world.set_up()
    assert not world.kernel.rebind()
    world.device.way = "eth1"
    assert world.kernel.rebind()
    assert world.device.spoken == [(KEY, True)], "to whom it dials, and to nobody else"
    assert not world.kernel.rebind()


def test_figures_are_as_the_other_implementation_gives_them(world: World) -> None:
    first, second = world.kernel.figures()["peers"]
    assert (first["endpoint"], first["allowed"], first["last_handshake"]) == ("[2001:db8::1]:7", ["10.0.0.0/8"], 3.0)
    assert (second["endpoint"], second["last_handshake"]) == (None, None)
    world.device.refuses = True
    assert "ask WireGuard" in world.kernel.figures()["error"]
    world.kernel.look(told.KernelPeersWanted(4))
    assert world.worker.told == [told.KernelPeers(4, [])]
    assert "does not say how it is" in world.said[0]


def test_without_a_device_nothing_of_it_is_told(world: World) -> None:
    world.device.kernel = None
    assert world.kernel.figures() == {}
    assert not world.kernel.rebind()
    assert world.set_up().reason == "the kernel's WireGuard is not used here"
