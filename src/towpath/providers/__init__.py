"""What the author of an extension writes against.

from towpath.providers import Allow, ContentFilterProvider, Drop, Question


class NoAds(ContentFilterProvider):
    def handle_name(self, question: Question) -> Allow | Drop:
        return Drop("an advertiser's") if question.name.endswith(".ads.test") else Allow()
"""

from __future__ import annotations

from towpath.providers.content_filter import ContentFilterProvider
from towpath.providers.disconnect import DisconnectCause, TunnelFailed
from towpath.providers.dns import (
    Answer,
    BlockedAnswer,
    DNSProxySettings,
    DNSSettings,
    DNSVerdict,
    Forward,
    NameRule,
    Refuse,
    SystemDNSSettings,
)
from towpath.providers.dns_proxy import DNSProxyProvider
from towpath.providers.flow import (
    Address,
    Ancestor,
    Direction,
    Flow,
    FlowReport,
    NameSource,
    Owner,
    Question,
    Transport,
)
from towpath.providers.kernel_wireguard import KernelPeer, KernelPeerFigures, KernelWireGuard
from towpath.providers.packet_tunnel import PacketTunnelProvider, TunnelContext
from towpath.providers.packets import (
    Buffer,
    DatagramLink,
    Datagrams,
    Offload,
    Packet,
    PacketFlow,
    PeerAddress,
    join_packets,
)
from towpath.providers.provider import LogLevel, Prompt, Provider, ProviderContext, Reply
from towpath.providers.reasons import StopReason
from towpath.providers.settings import MOST_RULES, FilterAction, FilterSettings, NetworkRule
from towpath.providers.tunnel_settings import DnsSettings, ProxySettings, TunnelSettings
from towpath.providers.verdict import MOST_PEEK, Allow, Drop, FlowVerdict, NameVerdict, Pause, Peek

__all__ = [
    "MOST_PEEK",
    "MOST_RULES",
    "Address",
    "Allow",
    "Ancestor",
    "Buffer",
    "ContentFilterProvider",
    "DatagramLink",
    "Datagrams",
    "Answer",
    "BlockedAnswer",
    "ContentFilterProvider",
    "DNSProxyProvider",
    "DNSProxySettings",
    "DNSSettings",
    "DNSVerdict",
    "Direction",
    "DisconnectCause",
    "DnsSettings",
    "Drop",
    "FilterAction",
    "FilterSettings",
    "Flow",
    "FlowReport",
    "FlowVerdict",
    "Forward",
    "KernelPeer",
    "KernelPeerFigures",
    "KernelWireGuard",
    "LogLevel",
    "NameRule",
    "NameSource",
    "NameVerdict",
    "NetworkRule",
    "Offload",
    "Owner",
    "Packet",
    "PacketFlow",
    "PacketTunnelProvider",
    "Pause",
    "Peek",
    "PeerAddress",
    "Prompt",
    "Provider",
    "ProviderContext",
    "ProxySettings",
    "Question",
    "Refuse",
    "Reply",
    "StopReason",
    "SystemDNSSettings",
    "Transport",
    "TunnelContext",
    "TunnelFailed",
    "TunnelSettings",
    "join_packets",
]
