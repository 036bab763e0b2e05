"""Parts of `towpath policy` that read reports or write policies: learn, test, merge, diff."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from typing import Any

from towpath.cli.table import one_line
from towpath.errors import ConfigInvalid
from towpath.policy.compare import difference, merged, tried
from towpath.policy.learn import Learner
from towpath.policy.policy import Policy

__all__ = ["add"]

_HOW = "made by: towpath run --report json --report-file FLOWS.jsonl -- COMMAND"


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the actions."""
    learn = actions.add_parser("learn", help="print the smallest policy that would have let a recorded run pass")
    learn.add_argument("report", metavar="FLOWS.jsonl", help=_HOW)
    learn.add_argument("--wildcards", action="store_true", help="one rule where three names or more have one parent")
    learn.add_argument("--requests", action="store_true", help="of plain HTTP, the methods and paths")
    learn.set_defaults(call=_learn)

    test = actions.add_parser("test", help="say what a policy would change in a recorded run (exit 1 if anything)")
    test.add_argument("file", metavar="FILE", help="a policy file")
    test.add_argument("report", metavar="FLOWS.jsonl", help=_HOW)
    test.add_argument("--json", action="store_true", help="print one JSON object a change")
    test.set_defaults(call=_test)

    merge = actions.add_parser("merge", help="print one policy that holds the rules of several files")
    merge.add_argument("files", metavar="FILE", nargs="+", help="a policy file")
    merge.set_defaults(call=_merge)

    diff = actions.add_parser("diff", help="print the rules that only one of two files has (exit 1 if any)")
    diff.add_argument("before", metavar="BEFORE", help="a policy file")
    diff.add_argument("after", metavar="AFTER", help="another")
    diff.add_argument("--json", action="store_true", help="print one JSON object")
    diff.set_defaults(call=_diff)


def read_records(path: str) -> Iterator[dict[str, Any]]:
    """The lines of a report. Raises `ConfigInvalid` with the line of what is none."""
    try:
        with sys.stdin if path == "-" else open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    record = json.loads(line)
                    if not isinstance(record, dict):
                        raise ValueError("not an object")
                except ValueError as error:
                    raise ConfigInvalid(f"{path}:{number}", f"not a line of a report: {error}", _HOW) from None
                yield record
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(path, f"cannot be read: {error}", _HOW) from None


def _learn(options: argparse.Namespace) -> int:
    learner = Learner(requests=options.requests)
    for record in read_records(options.report):
        learner.record(record)
    print(learner.text(options.report, wildcards=options.wildcards), end="")
    return 0


def _test(options: argparse.Namespace) -> int:
    policy = Policy.load([], [], [options.file])
    changes = list(tried(policy, read_records(options.report)))
    for change in changes:
        record, decision = change.record, change.decision
        where = str(record.get("name") or record.get("address"))
        where += f":{record['port']}" if record.get("port") else ""
        how = "dns" if record["type"] == "dns" else record["transport"]
        if options.json:
            rule = decision.rule.shown if decision.rule else None
            answer = {
                "id": record.get("id"),
                "was": change.was,
                "now": change.now,
                "program": record.get("program"),
                "destination": where,
                "transport": how,
                "rule": rule,
                "reason": decision.reason,
            }
            print(json.dumps(answer))
        else:
            program = record.get("program") or "?"
            print(one_line(f"{change.was} -> {change.now}: {program} -> {where} {how}: {decision.reason}"))
    if not changes and not options.json:
        print("nothing would change")
    return 1 if changes else 0


def _merge(options: argparse.Namespace) -> int:
    print(merged([(path, Policy.load([], [], [path])) for path in options.files]), end="")
    return 0


def _diff(options: argparse.Namespace) -> int:
    gone, added = difference(Policy.load([], [], [options.before]), Policy.load([], [], [options.after]))
    if options.json:
        print(json.dumps({"removed": [rule.shown for rule in gone], "added": [rule.shown for rule in added]}))
    else:
        for sign, rules in (("-", gone), ("+", added)):
            for rule in rules:
                print(f"{sign} {rule.action:5} {rule.text}")
    return 1 if gone or added else 0
