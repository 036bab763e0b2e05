"""The rule set of a whole host's filter: static rules in their order, as few look-ups as they allow."""

from __future__ import annotations

import subprocess
import sys

import pytest

from towpath.hosting.host_rules import Step, host_lines, quiet_lines, step_transactions
from towpath.providers import FilterSettings, NetworkRule


def _chain(lines: list[str], name: str) -> list[str]:
    """The rules that a chain has after these lines."""
    current = ""
    rules: list[str] = []
    for line in lines:
        if line.startswith("chain "):
            current = line.split()[1]
        elif line == f"flush {name}":
            rules.clear()
        elif current == name and not line.startswith("flush "):
            rules.append(line)
    return rules


def _written(steps: list[Step]) -> list[str]:
    return [line for lines in step_transactions(steps) for line in lines]


def _steps(*settings: FilterSettings | None) -> list[Step]:
    return [Step(one, asks=True) for one in settings]


def test_without_rules_every_new_flow_but_loopback_is_asked_about() -> None:
    lines = _written(_steps(FilterSettings()))
    assert _chain(lines, "out0") == [
        "ip daddr 127.0.0.0/8 goto out0_local",
        "ip6 daddr ::1 goto out0_local",
        "goto ask",
    ]
    assert _chain(lines, "out0_local") == ["goto passed"]
    assert _chain(lines, "in0") == ["goto ask"]


def test_a_provider_that_has_not_started_is_asked_about_everything() -> None:
    lines = _written(_steps(None))
    assert _chain(lines, "out0") == _chain(lines, "out0_local") == _chain(lines, "in0") == ["goto ask"]


def test_what_one_filter_allows_the_next_one_sees() -> None:
    rule = NetworkRule("allow", "192.0.2.7", port=443, transport="tcp", direction="outbound")
    lines = _written(_steps(FilterSettings((rule,)), FilterSettings()))
    assert _chain(lines, "out0")[2:] == ["ip daddr 192.0.2.7 tcp dport 443 goto out1", "goto ask"]
    assert _chain(lines, "in0") == ["goto ask"]


def test_a_filter_without_code_for_flows_lets_them_on() -> None:
    rules = FilterSettings((NetworkRule("drop", port=25), NetworkRule("filter", port=26)))
    lines = _written([Step(rules, asks=False)])
    assert _chain(lines, "in0") == [
        "tcp sport 25 goto refused",
        "udp sport 25 goto refused",
        "tcp sport 26 goto passed",
        "udp sport 26 goto passed",
        "goto passed",
    ]


def test_neighbours_with_one_outcome_become_sets_and_others_keep_their_order() -> None:
    rules = (
        NetworkRule("allow", "192.0.2.1"),
        NetworkRule("allow", "198.51.100.0/24"),
        NetworkRule("allow", "192.0.2.2"),
        NetworkRule("drop", "192.0.2.0/24"),
        NetworkRule("allow", "192.0.2.9"),
        NetworkRule("allow", "2001:db8::/32", transport="udp"),
    )
    lines = _written(_steps(FilterSettings(rules, default="drop")))
    assert _chain(lines, "in0") == [
        "ip saddr { 192.0.2.1, 192.0.2.2 } goto passed",
        "ip saddr 198.51.100.0/24 goto passed",
        "ip saddr 192.0.2.0/24 goto refused",
        "ip saddr 192.0.2.9 goto passed",
        "ip6 saddr 2001:db8::/32 meta l4proto udp goto passed",
        "goto refused",
    ]


def test_a_thousand_rules_are_few_look_ups() -> None:
    rules = tuple(NetworkRule("allow", f"10.{one // 250}.{one % 250}.1") for one in range(1000))
    assert len(_chain(_written(_steps(FilterSettings(rules))), "out0")) == 4


def test_rules_that_need_several_transactions_are_asked_about_until_the_last() -> None:
    rules = tuple(NetworkRule(("allow", "drop")[one % 2], f"10.0.{one // 250}.{one % 250}") for one in range(1000))
    parts = step_transactions(_steps(FilterSettings(rules)))
    assert _chain(parts[0], "new_out") == _chain(parts[0], "new_in") == ["goto ask"]
    assert _chain(parts[-1], "new_out") == ["goto out0"]
    whole = [line for part in parts[2:-1] for line in part if line.startswith("ip daddr 10.")]
    assert whole == [
        f"ip daddr 10.0.{one // 250}.{one % 250} goto {('passed', 'refused')[one % 2]}" for one in range(1000)
    ]
    assert all(part[0].startswith("chain ") for part in parts[2:-1])


def test_outbound_loopback_meets_only_rules_that_name_it() -> None:
    rules = (NetworkRule("drop", "127.0.0.0/8", port=25), NetworkRule("drop", "0.0.0.0/0"), NetworkRule("drop", "::1"))
    lines = _written(_steps(FilterSettings(rules, default="drop")))
    assert _chain(lines, "out0_local") == [
        "ip daddr 127.0.0.0/8 tcp dport 25 goto refused",
        "ip daddr 127.0.0.0/8 udp dport 25 goto refused",
        "ip6 daddr ::1 goto refused",
        "goto passed",
    ]


def test_a_mapped_ipv4_prefix_is_ipv4() -> None:
    lines = _written(_steps(FilterSettings((NetworkRule("drop", "::ffff:192.0.2.0/120"),))))
    assert "ip daddr 192.0.2.0/24 goto refused" in _chain(lines, "out0")


@pytest.mark.parametrize("fail_open", [True, False])
def test_only_the_queue_is_silenced_before_its_listener_leaves(fail_open: bool) -> None:
    lines = host_lines(("forward",), 7, fail_open=fail_open)
    asking = [line for line in lines if "queue num" in line]
    assert asking == _chain(lines, "ask")
    assert quiet_lines() == ["flush ask"]
    assert asking[0].endswith(" bypass") == fail_open


CHECK = """
import ctypes, os, subprocess, sys
from towpath.errors import HostFault
from towpath.hosting.host_rules import Step, host_lines, quiet_lines, step_transactions
from towpath.linux.host_table import HostTable
from towpath.providers import FilterSettings, NetworkRule
uid, gid = os.geteuid(), os.getegid()
if ctypes.CDLL(None).unshare(0x10000000 | 0x40000000):
    sys.exit("no namespaces")
rules = tuple(NetworkRule(("allow", "drop")[one % 2], f"10.{one // 250}.{one % 250}.0/24") for one in range(1000))
steps = [Step(FilterSettings(rules), True), Step(None, True)]
for fail_open in (True, False):
    table = HostTable("towpath", host_lines(("forward", "output", "input"), 7, fail_open=fail_open))
    if fail_open:
        table.keep("alive", 0)
        table.keep("alive", 0)
    for chosen in (steps, [Step(FilterSettings(), True)] * 2, steps):
        for lines in step_transactions(chosen):
            table.change(lines)
    table.change(quiet_lines())
    try:
        table.change(["chain outbound", "goto nowhere"])
    except HostFault as fault:
        print(fault.errno)
    table.close()
print("good")
"""


def test_the_kernel_takes_every_line_and_refuses_a_transaction_as_a_whole() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.returncode) == ("2\n2\ngood\n", 0), done.stderr
