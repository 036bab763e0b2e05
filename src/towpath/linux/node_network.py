"""What one node of a world sets in its own network namespace: settings, addresses, routes, bridges."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from towpath.kernel.hosts import Card, Node
from towpath.linux.netlink import NetlinkSocket
from towpath.linux.rtnetlink import (
    LOOPBACK_INDEX,
    add_address,
    add_bridge,
    add_route,
    add_unreachable,
    links,
    set_link,
    set_master,
)

__all__ = ["configure", "plug_port", "prepare"]


def prepare(node: Node, group: int) -> None:
    """The settings that devices copy when they appear, and those of the whole namespace."""
    settings = {
        "ipv6/conf/default/accept_dad": "0",
        "ipv6/conf/all/accept_dad": "0",
        "ipv6/conf/default/accept_ra": "0",
        "ipv6/conf/default/router_solicitations": "0",
        "ipv4/ping_group_range": f"{group} {group}",
        "ipv4/ip_unprivileged_port_start": "0",
        "ipv4/icmp_ratelimit": "0",
        "ipv6/icmp/ratelimit": "0",
    }
    if node.forwards:
        settings |= {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
    for name, value in settings.items():
        with open(f"/proc/sys/net/{name}", "w") as file:
            file.write(value)


def configure(netlink: NetlinkSocket, node: Node, plugged: Iterable[Card]) -> None:
    """Sets up the node's own cards and bridges, and the ports that the cards `plugged` into it have here."""
    set_link(netlink, LOOPBACK_INDEX, up=True)
    if node.own6 is not None:
        add_address(netlink, LOOPBACK_INDEX, str(node.own6), 128)
    for bridge in node.bridges:
        add_bridge(netlink, bridge.device)
        index = links(netlink)[bridge.device]
        for address in (bridge.address4, bridge.address6):
            add_address(netlink, index, str(address.ip), address.network.prefixlen)
        set_link(netlink, index, up=True)
    for card in plugged:
        plug_port(netlink, card)
    here = links(netlink)
    for number, card in enumerate(node.cards):
        _set_up_card(netlink, here[card.device], card, number * 100 or None)
    for route in node.routes:
        add_route(netlink, str(route.network.network_address), route.network.prefixlen, gateway=str(route.gateway))
    if not node.cards:
        add_unreachable(netlink, socket.AF_INET)
        add_unreachable(netlink, socket.AF_INET6)


def plug_port(netlink: NetlinkSocket, card: Card) -> None:
    """Sets up the router's side of a card; again after its link was down, since the kernel forgets routes then."""
    here = links(netlink)
    index = here[card.port]
    if card.bridge is not None:
        set_master(netlink, index, here[card.bridge])
        set_link(netlink, index, up=True)
        return
    set_link(netlink, index, up=True)
    add_address(netlink, index, str(card.gateway4), 32, replace=True)
    add_address(netlink, index, str(card.gateway6), 64, replace=True)
    add_route(netlink, str(card.address4.ip), 32, index=index, source=str(card.gateway4))
    add_route(netlink, str(card.address6.ip), 128, index=index)


def _set_up_card(netlink: NetlinkSocket, index: int, card: Card, metric: int | None) -> None:
    set_link(netlink, index, up=True)
    for address in (card.address4, card.address6):
        add_address(netlink, index, str(address.ip), address.network.prefixlen)
    if card.bridge is None:
        add_route(netlink, str(card.gateway4), 32, index=index)
    add_route(netlink, "0.0.0.0", 0, index=index, gateway=str(card.gateway4), metric=metric)
    add_route(netlink, "::", 0, index=index, gateway=str(card.gateway6), metric=metric)
