"""What a viewer knows of a run: rates, trees, searches, and a summary to paste."""

from __future__ import annotations

import pytest
from tests.support.live_run import flow

from towpath.live.board import Board, Row
from towpath.live.link import parse


def board(*messages: dict[str, object]) -> Board:
    made = Board({"command": ["make", "a|b`c"], "rules": ["--allow web.test:443"]})
    for message in messages:
        made.take(message)
    return made


def test_rates_are_what_came_between_two_ticks() -> None:
    made = board(
        flow(1),
        {"type": "traffic", "time": 10.0, "flows": [[1, 0, 100, 900]]},
        {"type": "traffic", "time": 10.5, "flows": [[1, 50, 1100, 800]]},
    )
    row = made.rows[1]
    assert (row.rate_out, row.rate_in, row.round_trip, row.sent, row.received) == (100.0, 2000.0, 800, 50, 1100)
    made.take(flow(1, ended=11.0, sent=60, received=1200))
    assert (row.rate_in, row.sent, row.received, row.closed) == (0.0, 60, 1200, True)


def test_processes_are_a_tree_with_the_flows_of_all_below_them() -> None:
    made = board(
        flow(1),
        flow(2, pid=8, program="wget", verdict="refused", rule=None),
        flow(3, pid=9, program="git", ancestors=[[8, "wget"], [3, "make"]]),
        flow(4, pid=None, program=None, ancestors=[]),
    )
    (root,) = made.tree().values()
    assert (root.name, root.flows, root.refused) == ("make", 3, 1)
    assert {node.name for node in root.children.values()} == {"curl", "wget"}
    assert root.children[8].children[9].name == "git"
    assert [row.record["id"] for row in made.visible(pid=8)] == [3, 2]


@pytest.mark.parametrize(
    ("word", "found"),
    [("", [2, 1]), ("WGET", [2]), ("refused", [2]), ("evil", [2]), ("web.test:443", [1]), ("nothing", [])],
)
def test_a_search_finds_programs_destinations_rules_and_verdicts(word: str, found: list[int]) -> None:
    made = board(flow(1), flow(2, program="wget", name="evil.test", verdict="refused", rule=None))
    assert [row.record["id"] for row in made.visible(word)] == found


@pytest.mark.parametrize(
    ("fields", "allow", "deny"),
    [
        ({}, "web.test:443", "web.test:443"),
        ({"hint": "--allow 'GET http://web.test/x'"}, "GET http://web.test/x", "web.test:443"),
        ({"transport": "udp", "port": 53}, "udp://web.test:53", "web.test:53"),
        ({"transport": "udp"}, "web.test:443", "web.test:443"),
        ({"transport": "icmp", "port": None}, "icmp://web.test", "icmp://web.test"),
        ({"name": None, "address": "2001:db8::1"}, "[2001:db8::1]:443", "[2001:db8::1]:443"),
        ({"type": "dns", "port": None, "hint": "--allow web.test"}, "web.test", "web.test"),
    ],
)
def test_a_key_makes_the_rule_that_fits_the_flow(fields: dict[str, object], allow: str, deny: str) -> None:
    row = Row(flow(1, **fields))
    assert (row.rule_to("allow"), row.rule_to("deny")) == (allow, deny)


def test_the_summary_can_be_pasted() -> None:
    made = board(
        flow(1, sent=1500, ended=1.0),
        flow(2, ended=1.0),
        flow(3, name="evil.test\x1b[2J", verdict="refused", rule=None, reason="no rule allows it"),
        {"type": "end", "code": 2, "signal": None},
    )
    summary = made.summary()
    assert "`towpath run -- make a|b'c`" in summary
    assert "2 failed" not in summary.replace("1 failed", "")
    assert "ended with exit code 2" in summary
    assert "| curl | evil.test?[2J:443 | tcp | refused | no rule allows it | 1 |" in summary
    assert summary.index("evil.test") < summary.index("| curl | web.test:443")


def test_old_flows_are_forgotten_before_the_view_grows_without_end() -> None:
    made = board(*(flow(number, ended=1.0) for number in range(1, 5101)))
    assert (len(made.rows), made.forgotten) == (5000, 100)


@pytest.mark.parametrize("line", [b"", b"x", b"[]", b"{}", b'{"type": 1}', b"[" * 100_000, b'{"type": "flow"}'])
def test_lines_that_are_no_message_change_nothing(line: bytes) -> None:
    message = parse(line)
    made = board()
    if message is not None:
        made.take(message)
    assert made.rows == {}
