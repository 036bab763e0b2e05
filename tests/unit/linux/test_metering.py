"""What is metered, where there is no bus, a bad one, or one on which somebody speaks as NetworkManager does."""

from __future__ import annotations

import select
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.network_manager_service import DEVICE, HARDWARE, SAYINGS

from towpath.kernel.network import Metered
from towpath.linux.metering import Metering
from towpath.linux.network import LinuxNetwork
from towpath.linux.network_manager import Device, devices_in

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 60.0
BUS = """<busconfig><type>custom</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"""
needs_a_bus = pytest.mark.skipif(not shutil.which("dbus-daemon"), reason="apt-get install dbus-daemon")


@contextmanager
def absent(path: Path) -> Iterator[None]:
    yield


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    yield


@contextmanager
def silent(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield


@contextmanager
def saying(path: Path, words: bytes) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def talk() -> None:
            accepted, _ = listening.accept()
            with accepted:
                accepted.sendall(words)
                accepted.recv(4096)

        talking = threading.Thread(target=talk)
        talking.start()
        yield
        talking.join()


def rude(path: Path) -> AbstractContextManager[None]:
    return saying(path, b"REJECTED\r\n")


def nonsense(path: Path) -> AbstractContextManager[None]:
    return saying(path, b"OK 0123456789abcdef0123456789abcdef\r\n" + bytes(range(256)) * 16)


@pytest.mark.parametrize("bus", [absent, refusing, silent, rude, nonsense])
def test_without_a_bus_that_answers_nothing_is_known_and_only_the_first_question_waits(
    bus: Callable[[Path], AbstractContextManager[None]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    metering = Metering(budget=2.0)
    with bus(tmp_path / "bus"):
        begun = time.monotonic()
        assert metering.of("eth0", None) is None
        first = time.monotonic()
        assert all(metering.of("eth0", None) is None for _ in range(100))
        assert first - begun < 10  # the bus itself would wait for 25 s
        assert time.monotonic() - first < 100  # each would cost the budget of 2 s


@pytest.mark.parametrize("address", ["", "nonsense", "unix:", "unix:path=%zz", "tcp:host=,port=x", "unix:path=/;;"])
def test_an_address_that_is_none_is_no_bus(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address or "unix:path=")
    assert Metering().of("eth0", None) is None


def test_without_a_bus_its_library_is_not_even_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    program = "import sys, towpath.path as p; p.PathMonitor().current(); print('dbus_fast' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], text=True, capture_output=True).stdout == "False\n"


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A message bus of our own; its first line is its address."""
    (tmp_path / "bus.conf").write_text(BUS.format(folder=tmp_path))
    command = ["dbus-daemon", f"--config-file={tmp_path}/bus.conf", "--nofork", "--print-address=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as daemon:
        try:
            yield daemon
        finally:
            daemon.kill()


@pytest.fixture
def bus(daemon: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a bus on which nobody is NetworkManager yet."""
    assert daemon.stdout is not None
    address = daemon.stdout.readline().strip()
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
    return address


@contextmanager
def service(address: str, saying: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.support.network_manager_service", address, saying]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()


@needs_a_bus
@pytest.mark.parametrize("saying", SAYINGS)
def test_what_a_service_of_our_own_says_is_known(bus: str, saying: str) -> None:
    expected = {
        "1": Metered.YES,
        "2": Metered.NO,
        "3": Metered.GUESSED_YES,
        "4": Metered.GUESSED_NO,
        "a-modem": Metered.GUESSED_YES,
    }
    with service(bus, saying):
        assert Metering(PATIENCE).of("eth0", HARDWARE.lower()) is expected.get(saying)


@needs_a_bus
def test_another_networks_interface_of_the_same_name_is_not_meant(bus: str) -> None:
    with service(bus, "1"):
        metering = Metering(PATIENCE)
        assert metering.of("eth0", HARDWARE.lower()) is Metered.YES
        for other in ("02:00:5e:00:53:08", None):
            assert metering.of("eth0", other) is None


@needs_a_bus
def test_a_service_of_our_own_that_is_slow_costs_the_budget_once(bus: str) -> None:
    with service(bus, "silence"):
        metering = Metering(budget=0.3)
        begun = time.monotonic()
        assert metering.of("eth0", None) is None
        assert time.monotonic() - begun >= 0.3
        later = []
        for _ in range(5):
            begun = time.monotonic()
            assert metering.of("eth0", None) is None
            later.append(time.monotonic() - begun)
        assert min(later) < 0.3


@needs_a_bus
def test_a_service_of_our_own_that_appears_and_dies_is_two_changes(bus: str) -> None:
    metering = Metering(PATIENCE)
    changes = LinuxNetwork(metering).changes()
    try:
        assert metering.of("eth0", HARDWARE) is None
        with service(bus, "1") as process:
            assert readable(changes.fileno())
            assert changes.drain()
            assert metering.of("eth0", HARDWARE) is Metered.YES
            process.kill()
        assert readable(changes.fileno())
        assert changes.drain()
        assert metering.of("eth0", HARDWARE) is None
    finally:
        changes.close()


def readable(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], PATIENCE)[0])


@needs_a_bus
def test_a_bus_that_dies_takes_what_it_said_with_it(daemon: subprocess.Popen[str], bus: str) -> None:
    metering = Metering(PATIENCE)
    with service(bus, "1"):
        assert metering.of("eth0", HARDWARE) is Metered.YES
        changes = metering.changes()
        daemon.kill()
        assert readable(changes.fileno())
        changes.close()
    assert metering.of("eth0", HARDWARE) is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from([DEVICE, *"abc"]), inner),
)


@given(ANYTHING)
def test_any_answer_is_a_table_of_devices(objects: object) -> None:
    assert all(isinstance(found, Device) for found in devices_in(objects).values())


@given(st.dictionaries(st.sampled_from(["Interface", "IpInterface", "HwAddress", "Metered"]), ANYTHING))
def test_any_properties_are_a_device_or_none(properties: dict[str, object]) -> None:
    assert len(devices_in({"/1": {DEVICE: properties}})) <= 1
