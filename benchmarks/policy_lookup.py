"""What a decision costs, by the number of rules."""

from __future__ import annotations

import time
from collections.abc import Mapping

from benchmarks.form import Measured
from benchmarks.rounds import Party, take_turns
from towpath.policy.policy import Policy

_ROUNDS = 5
_CALLS = 500
_FEW, _MANY = 100, 10_000
_FIGURE = "microseconds"


def run(seconds: float) -> Measured:
    """Batches of calls; `seconds` bounds how many."""
    parties: dict[str, Party] = {}
    for count in (_FEW, _MANY):
        policy = Policy.load([f"host{number}.example.test:443" for number in range(count)], [], [])
        last = f"host{count - 1}.example.test"
        parties[f"allowed_{count}_rules"] = _decide(policy, last, seconds)
        parties[f"refused_{count}_rules"] = _decide(policy, "elsewhere.test", seconds)
    measured = take_turns(
        "decide_flow for a TCP flow to port 443 whose name is the last rule's, or none's", parties, _ROUNDS
    )
    # The limit is a lookup that does not know how many rules there are.
    measured.compare("vs_limit", f"allowed_{_MANY}_rules", f"allowed_{_FEW}_rules", _FIGURE, less_is_better=True)
    return measured


def _decide(policy: Policy, name: str, seconds: float) -> Party:
    def work() -> Mapping[str, float]:
        calls = 0
        begun = time.perf_counter()
        until = begun + seconds / _ROUNDS
        while (now := time.perf_counter()) < until:
            for _ in range(_CALLS):
                policy.decide_flow("tcp", "198.51.100.9", 443, (name,))
            calls += _CALLS
        return {_FIGURE: (now - begun) / calls * 1e6}

    return work
