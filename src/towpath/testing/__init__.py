"""For our tests and our users': the Lab, a little internet of hosts in network namespaces, and harnesses for providers.

from towpath.testing import Https, LabPlan

plan = LabPlan().host("client").host("news", serves=[Https(names=("news.test",))])
with plan.start() as lab:
    print(lab["client"].run(["curl", "https://news.test/"]).stdout)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towpath.testing.dns_harness import DNSHarness
    from towpath.testing.filter_harness import FilterHarness
    from towpath.testing.flow_run import FlowRun
    from towpath.testing.framer_harness import FramerHarness
    from towpath.testing.lab import Lab
    from towpath.testing.lab_host import LabHost
    from towpath.testing.network_twin import NetworkTwin
    from towpath.testing.pki import Pki
    from towpath.testing.plan import (
        Banner,
        Command,
        Dns,
        Host,
        Http,
        Https,
        LabPlan,
        NameRecord,
        Router,
        Switch,
        TcpEcho,
        UdpEcho,
    )
    from towpath.testing.records import Record
    from towpath.testing.tunnel_harness import TunnelHarness

__all__ = [
    "Banner",
    "Command",
    "DNSHarness",
    "Dns",
    "FilterHarness",
    "FlowRun",
    "FramerHarness",
    "Host",
    "Http",
    "Https",
    "Lab",
    "LabHost",
    "LabPlan",
    "NameRecord",
    "NetworkTwin",
    "Pki",
    "Record",
    "Router",
    "Switch",
    "TcpEcho",
    "TunnelHarness",
    "UdpEcho",
]

_HOMES = {
    "DNSHarness": "dns_harness",
    "FilterHarness": "filter_harness",
    "FlowRun": "flow_run",
    "FramerHarness": "framer_harness",
    "Lab": "lab",
    "LabHost": "lab_host",
    "NetworkTwin": "network_twin",
    "Pki": "pki",
    "Record": "records",
    "TunnelHarness": "tunnel_harness",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES.get(name, 'plan')}"), name)
