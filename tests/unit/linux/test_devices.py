"""What is believed of a description of devices, with folders laid out as sysfs does."""

from __future__ import annotations

from pathlib import Path

import pytest

from towpath.kernel.network import LinkFacts
from towpath.linux.devices import describe

LINK = LinkFacts(4, "net", hardware_address="02:00:00:00:00:01")


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    made = tmp_path / "net"
    made.mkdir()
    for name, words in {"ifindex": "4", "address": "02:00:00:00:00:01", "uevent": "INTERFACE=net\nIFINDEX=4"}.items():
        (made / name).write_text(f"{words}\n")
    return made


def test_a_device_with_hardware_and_a_speed(entry: Path) -> None:
    (entry / "device").mkdir()
    (entry / "speed").write_text("1000\n")
    found = describe(LINK, entry.parent)
    assert (found.described, found.has_device, found.speed) == (True, True, 1_000_000_000)
    assert (found.wireless, found.device_type) == (False, None)


@pytest.mark.parametrize("speed", ["-1", "0", "", "fast"])
def test_a_speed_that_is_not_known_is_none(entry: Path, speed: str) -> None:
    (entry / "speed").write_text(f"{speed}\n")
    assert describe(LINK, entry.parent).speed is None


@pytest.mark.parametrize("sign", ["phy80211", "wireless"])
def test_wireless_devices_have_a_folder_that_says_so(entry: Path, sign: str) -> None:
    (entry / sign).mkdir()
    assert describe(LINK, entry.parent).wireless


def test_the_device_type_is_that_of_the_event(entry: Path) -> None:
    (entry / "uevent").write_text("DEVTYPE=wwan\nINTERFACE=net\n")
    assert describe(LINK, entry.parent).device_type == "wwan"


@pytest.mark.parametrize(("file", "words"), [("ifindex", "5"), ("address", "02:00:00:00:00:02")])
def test_an_entry_of_another_link_of_the_same_name_is_not_believed(entry: Path, file: str, words: str) -> None:
    (entry / "phy80211").mkdir()
    (entry / file).write_text(f"{words}\n")
    assert describe(LINK, entry.parent) == LINK


def test_a_link_without_an_entry_stays_as_it_was(tmp_path: Path) -> None:
    assert describe(LINK, tmp_path) == LINK
