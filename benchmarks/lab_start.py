"""How long a Lab takes to be up: every service of every host answers."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks.form import Measured
from benchmarks.rounds import take_turns
from towpath.testing import Dns, Http, Https, LabPlan, TcpEcho, UdpEcho

_FEWEST, _MOST = 2, 10
_PLAN = (
    LabPlan()
    .host("client")
    .host("news", names=("news.test",), serves=[Http(), Https()])
    .host("tracker", names=("tracker.test",), serves=[Https()])
    .host("services", serves=[TcpEcho(), UdpEcho(port=9000)])
    .host("dns", serves=[Dns()])
)
_LIMIT = 1.5


def run(seconds: float) -> Measured:
    """Starts and ends a Lab of five hosts about twice a second."""
    rounds = min(_MOST, max(_FEWEST, round(seconds * 2)))
    measured = take_turns("a Lab of five hosts: web, TLS, TCP, UDP and DNS services", {"lab": _start}, rounds)
    measured.results["goal"] = {"seconds": _LIMIT}
    measured.compare("vs_limit", "lab", "goal", "seconds", less_is_better=True)
    return measured


def _start() -> Mapping[str, float]:
    begun = time.perf_counter()
    with _PLAN.start():
        return {"seconds": time.perf_counter() - begun}
