"""Interfaces and paths as plain values: what `--json` prints, in the words of this package."""

from __future__ import annotations

from towpath.path.interface import Interface, InterfaceAddress
from towpath.path.path import Path

__all__ = ["Plain", "plain_interface", "plain_path"]

Plain = dict[str, object]


def plain_interface(interface: Interface) -> Plain:
    """One object; absent facts are null. `speed` is in bits per second, `mtu` in bytes."""
    return {
        "name": interface.name,
        "index": interface.index,
        "type": interface.type.value,
        "kind": interface.kind,
        "flags": sorted(interface.flags),
        "addresses": [_plain_address(address) for address in interface.addresses],
        "gateways": [str(gateway) for gateway in interface.gateways],
        "hardware": interface.hardware,
        "hardware_address": interface.hardware_address,
        "operational": interface.operational.value,
        "running": interface.running,
        "mtu": interface.mtu,
        "speed": interface.speed,
        "metered": interface.metered.value if interface.metered else None,
    }


def plain_path(path: Path) -> Plain:
    """One object; its interfaces are names, the preferred first."""
    return {
        "status": path.status.value,
        "reason": path.reason.value if path.reason else None,
        "destination": str(path.destination) if path.destination else None,
        "source": str(path.source) if path.source else None,
        "interfaces": [
            {"name": interface.name, "index": interface.index, "type": interface.type.value}
            for interface in path.interfaces
        ],
        "gateways": [str(gateway) for gateway in path.gateways],
        "ipv4": path.supports_ipv4,
        "ipv6": path.supports_ipv6,
        "dns": path.supports_dns,
        "expensive": {"value": path.expensive.value, "reason": path.expensive.reason},
        "constrained": {"value": path.constrained.value, "reason": path.constrained.reason},
    }


def _plain_address(address: InterfaceAddress) -> Plain:
    return {
        "address": str(address.address),
        "prefix": address.prefix,
        "broadcast": str(address.broadcast) if address.broadcast else None,
        "destination": str(address.destination) if address.destination else None,
        "usability": address.usability.value,
        "permanent": address.permanent,
        "temporary": address.temporary,
    }
