"""What an interface is for, from facts and never from its name: anybody may call anything `wlan0`."""

from __future__ import annotations

from enum import StrEnum

from towpath.kernel.network import LinkFacts, LinkFlag

__all__ = ["InterfaceType", "interface_type"]


class InterfaceType(StrEnum):
    """The medium as a program cares about it. A tunnel is `OTHER`, never the type it rides on."""

    WIRED = "wired"
    WIFI = "wifi"
    CELLULAR = "cellular"
    LOOPBACK = "loopback"
    OTHER = "other"
    UNKNOWN = "unknown"


def interface_type(link: LinkFacts) -> InterfaceType:
    """The functional type of a link.

    Virtual links (a `kind`) and links without an Ethernet-like address are `OTHER`, except modems. An Ethernet-like
    link whose device the system does not describe here (a container without a /sys of its own) is `UNKNOWN`: it could
    as well be Wi-Fi.
    """
    if LinkFlag.LOOPBACK in link.flags:
        return InterfaceType.LOOPBACK
    if link.kind == "wwan" or link.device_type == "wwan":
        return InterfaceType.CELLULAR
    if link.wireless or link.device_type == "wlan":
        return InterfaceType.WIFI
    if link.kind is not None:
        return InterfaceType.OTHER
    if link.hardware not in ("ether", "rawip"):
        return InterfaceType.OTHER
    if not link.described:
        return InterfaceType.UNKNOWN
    wired = link.hardware == "ether" and link.has_device and link.device_type != "bluetooth"
    return InterfaceType.WIRED if wired else InterfaceType.OTHER
