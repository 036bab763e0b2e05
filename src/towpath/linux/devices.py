"""What sysfs says about the device behind a link (Documentation/ABI/testing/sysfs-class-net).

A mounted /sys shows the links of the network namespace in which it was mounted, which need not be the caller's: in a
container, `eth0` may be somebody else's. An entry is believed only if its index and hardware address are the link's.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from towpath.kernel.network import LinkFacts

__all__ = ["describe"]

_CLASS = Path("/sys/class/net")
_MEGABIT = 1_000_000


def describe(link: LinkFacts, folder: Path = _CLASS) -> LinkFacts:
    """The link with what sysfs adds; as it was where there is no entry of it. Never raises for want of one."""
    entry = folder / link.name
    if _read(entry / "ifindex") != str(link.index) or _read(entry / "address") != (link.hardware_address or ""):
        return link
    events = dict(line.partition("=")[::2] for line in _read(entry / "uevent").splitlines())
    megabits = _read(entry / "speed")
    return dataclasses.replace(
        link,
        described=True,
        has_device=link.has_device or (entry / "device").exists(),
        wireless=(entry / "phy80211").exists() or (entry / "wireless").exists(),
        device_type=events.get("DEVTYPE"),
        speed=int(megabits) * _MEGABIT if megabits.isdecimal() and int(megabits) else None,
    )


def _read(path: Path) -> str:
    """The text of a small file; reading a link's speed while it is down is an error, and means that it has none."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
