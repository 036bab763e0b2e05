"""New connections per second inside a run: with every connection decided, dialled outside and relayed."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path

from benchmarks.form import Measured
from benchmarks.peers import npm_environment, program, sandbox_runtime, towpath_run
from benchmarks.rounds import Absent, Party, take_turns
from benchmarks.world import NAME, Arena, arena

_ROUNDS = 3
_CLIENT = str(Path(__file__).with_name("programs") / "http_client.py")
_FILTER = str(Path(__file__).with_name("programs") / "allowing_filter.py")
_FIGURE = "connections_per_second"


def run(seconds: float) -> Measured:
    """wrk where it can be the client; our own client for the pair that goes through a proxy."""
    length = max(1, round(seconds / _ROUNDS))
    with arena(web=True) as place:
        measured = take_turns(
            "GET of 6 bytes, a new connection each: wrk -t1 -c32 with Connection: close, nginx on another Lab host; "
            "the proxy parties by a client of 8 processes that speaks to proxies",
            {
                "direct": _wrk(place, length, [], "http://good.test/"),
                "run_no_policy": _wrk(place, length, towpath_run(), "http://good.test/"),
                "run_http_rule": _wrk(place, length, towpath_run("--allow", f"{NAME}:80"), "http://good.test/"),
                "run_tcp_rule": _wrk(
                    place, length, towpath_run("--allow", f"tcp://{NAME}:8080"), "http://good.test:8080/"
                ),
                "run_tcp_rule_filter": _wrk(
                    place,
                    length,
                    towpath_run("--allow", f"tcp://{NAME}:8080", "--filter", _FILTER),
                    "http://good.test:8080/",
                ),
                "direct_tls": _wrk(place, length, [], "https://good.test/"),
                "run_tls_rule": _wrk(place, length, towpath_run("--allow", f"{NAME}:443"), "https://good.test/"),
                "run_http_rule_own_client": _own(place, length, towpath_run("--allow", f"{NAME}:80")),
                "sandbox_runtime": _sandbox_runtime(place, length),
            },
            _ROUNDS,
        )
    measured.compare("vs_limit", "run_http_rule", "direct", _FIGURE)
    measured.compare("vs_limit_no_policy", "run_no_policy", "direct", _FIGURE)
    measured.compare("vs_limit_tcp_rule", "run_tcp_rule", "direct", _FIGURE)
    measured.compare("vs_policy_alone", "run_tcp_rule_filter", "run_tcp_rule", _FIGURE)
    measured.compare("vs_limit_tls_rule", "run_tls_rule", "direct_tls", _FIGURE)
    measured.compare("vs_sandbox_runtime", "run_http_rule_own_client", "sandbox_runtime", _FIGURE)
    return measured


def _wrk(place: Arena, length: int, before: list[str], url: str) -> Party:
    def work() -> Mapping[str, float]:
        command = [program("wrk"), "-t1", "-c32", f"-d{length}s", "-H", "Connection: close", url]
        text = place.run([*before, *command], length)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
        if rate is None or "Non-2xx" in text:
            raise Absent(f"wrk had no good answers: {text.strip()[-200:]}")
        return {_FIGURE: float(rate[1])}

    return work


def _own(place: Arena, length: int, before: list[str], environment: Mapping[str, str] | None = None) -> Party:
    def work() -> Mapping[str, float]:
        text = place.run([*before, sys.executable, _CLIENT, NAME, str(length)], length, environment)
        return {_FIGURE: float(text.split()[-1])}

    return work


def _sandbox_runtime(place: Arena, length: int) -> Party:
    def work() -> Mapping[str, float]:
        return _own(place, length, sandbox_runtime(place.folder, NAME), npm_environment())()

    return work
